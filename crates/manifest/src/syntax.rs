//! Words for YAML's syntax errors. Parsers report a tab or an open quote far from where it is;
//! these look for the place that a person has to mend.

use crate::Problem;

/// The problem behind the parser's `info` at byte `at`.
pub(crate) fn explain(text: &str, at: usize, info: &str) -> Problem {
    if let Some(tab) = leading_tab(text) {
        return Problem::new(tab..tab + 1, "a tab is used to indent", "this is a tab")
            .help("YAML takes spaces only: replace each tab by two spaces");
    }
    if let Some(quote) = open_quote(text) {
        let end = text[quote..].find('\n').map_or(text.len(), |n| quote + n);
        return Problem::new(quote..end, "a quote is opened and never closed", "it opens here")
            .help("close the quote at the end of the value");
    }
    let at = at.min(text.len());
    let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    // An error at the end of the text is about the last line that says something.
    let at = if text[at..].trim().is_empty() { text.trim_end().rfind('\n').map_or(0, |n| n + 1) } else { at };
    let help = if info.contains("mapping values are not allowed") || info.contains("simple key") {
        "check the indent of this line and of the one before it, and quote values that hold `: `"
    } else if info.contains("flow") || info.contains("','") {
        "check that every bracket and brace is closed, and that commas stand between the entries"
    } else {
        "check the indent: entries of one mapping begin in one column"
    };
    Problem::new(at..line_end.max(at), "this is not valid YAML", info.to_owned()).help(help)
}

/// The first tab in the indent of a line.
fn leading_tab(text: &str) -> Option<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indent].find('\t')
            && !line.trim().is_empty()
        {
            return Some(start + tab);
        }
        start += line.len();
    }
    None
}

/// The first quote that opens a value and is not closed before another key begins. A quoted
/// value may go over several lines, but hardly over one that looks like `key: value`.
fn open_quote(text: &str) -> Option<usize> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut start = 0;
    for (n, line) in lines.iter().enumerate() {
        let here = start;
        start += line.len();
        let content = line.trim_start();
        if content.starts_with('#') {
            continue;
        }
        let value =
            content.find(": ").map_or(content.trim_start_matches("- "), |at| content[at + 2..].trim_start());
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        if closes(&value[1..], quote) {
            continue;
        }
        let next = lines.get(n + 1).map_or("", |l| l.trim());
        if next.is_empty() || next.contains(": ") || next.ends_with(':') || !closes(next, quote) {
            return Some(here + (line.len() - content.len()) + (content.len() - value.len()));
        }
    }
    None
}

fn closes(text: &str, quote: char) -> bool {
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return true,
            _ => {}
        }
    }
    false
}
