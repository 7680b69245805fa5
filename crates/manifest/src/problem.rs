//! Problems of a manifest, and the report that shows them all.

use std::{fmt, ops::Range};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use trainyard_api::Code;

/// One problem: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One sentence.
    pub message: String,
    /// Bytes of the text that it is about.
    pub span: Range<usize>,
    /// A few words beside the place.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { message: message.into(), span, label: label.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All problems of one manifest, in the order of the text.
#[derive(Debug)]
pub struct Report {
    name: String,
    text: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.span.start);
        problems.dedup();
        Self { name: name.to_owned(), text: mask(text), problems }
    }

    /// Line and column of a problem, both from 1; columns count characters.
    pub fn place(&self, problem: &Problem) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, problem.span.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }

    /// The report for people: each problem with its lines drawn.
    pub fn render(&self, color: bool, width: usize) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let mut out = String::new();
        for problem in &self.problems {
            let shown = Shown { report: self, problem };
            // Writing into a string does not fail.
            let _ = handler.render_report(&mut out, &shown);
        }
        let count = self.problems.len();
        out.push_str(&format!("{}: {count} problem{}\n", self.name, if count == 1 { "" } else { "s" }));
        out
    }
}

/// One line per problem, as compilers print them.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let (line, column) = self.place(problem);
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {}", self.name, problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

struct Shown<'a> {
    report: &'a Report,
    problem: &'a Problem,
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(Code::Manifest.as_str()))
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.problem.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let text = &self.report.text;
        let start = floor(text, self.problem.span.start);
        let end = floor(text, self.problem.span.end).max(start);
        let label = Some(self.problem.label.clone()).filter(|l| !l.is_empty());
        Some(Box::new(std::iter::once(LabeledSpan::new(label, start, end - start))))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.report)
    }
}

impl SourceCode for Report {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        let contents = self.text.as_str().read_span(span, before, after)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            NamedSource::new(&self.name, "").name().to_owned(),
            contents.data(),
            *contents.span(),
            contents.line(),
            contents.column(),
            contents.line_count(),
        )))
    }
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Parts of keys whose values are never drawn; typing errors are what reports are about, so the
/// parts are short.
const SECRET_PARTS: [&str; 4] = ["secret", "passw", "acces", "token"];

/// The text with the values of secret keys turned to stars, byte by byte, so that every place
/// stays where it is. A value ends with its line, inside braces with a comma; lines below it that
/// are indented deeper belong to it.
fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    // Indent of a secret key whose value goes on below it.
    let mut hiding: Option<usize> = None;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end_matches('\n').len();
        let indent = line.len() - line.trim_start_matches([' ', '\t', '-']).len();
        if let Some(outer) = hiding {
            if line.trim().is_empty() || indent > outer {
                hide(&mut bytes[start + indent.min(end - start)..end]);
                start += line.len();
                continue;
            }
            hiding = None;
        }
        let mut at = 0;
        while let Some(colon) = line[at..].find(':').map(|n| at + n) {
            let key = line[..colon].rsplit([' ', '{', ',', '-']).find(|k| !k.is_empty()).unwrap_or("");
            at = colon + 1;
            let lower = key.to_lowercase();
            // The public half of a pair may be drawn; its name is known in full.
            let public = lower.trim_matches(['"', '\'']).trim_start_matches("aws_") == "access_key_id";
            if public || !SECRET_PARTS.iter().any(|p| lower.contains(p)) {
                continue;
            }
            let value = line[at..].trim_end_matches('\n');
            let skip = value.len() - value.trim_start().len();
            let flow = line[..colon].contains('{');
            let quoted = value.trim_start().chars().next().filter(|c| flow && matches!(c, '"' | '\''));
            let length = match quoted {
                Some(quote) => value[skip + 1..].find(quote).map_or(value.len() - skip, |n| n + 2),
                None if flow => value[skip..].find([',', '}']).unwrap_or(value.len() - skip),
                None => value.len() - skip,
            };
            let from = start + at + skip;
            hide(&mut bytes[from..from + length]);
            if !flow {
                hiding = Some(indent);
                break;
            }
            at += skip + length;
        }
        start += line.len();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

fn hide(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|b| !b.is_ascii_whitespace()) {
        *byte = b'*';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_secret_keys_are_not_drawn() {
        for text in [
            "c: {secret_access_key: 'hunt, er2', x: y}",
            "aws_secret_access_key: hunter2",
            "\"secret_access_key\" : hunter2, hunter2}",
            "a:\n  secret_access_key: |\n    hunter2\n    hunter2\n  b: c",
            "secretAccessKey: \"hunter2",
            "secret_acces_key: hunter2\nb: c",
            "password:\n  hunter2\n",
        ] {
            let masked = mask(text);
            assert_eq!(masked.len(), text.len());
            assert!(!masked.contains("hunt") && !masked.contains("er2"), "{masked}");
        }
        let plain = "access_key_id: shown\nb: c\nd: {e: f}";
        assert_eq!(mask(plain), plain);
    }
}
