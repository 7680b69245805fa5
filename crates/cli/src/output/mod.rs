//! Where output goes and what it looks like. Verbs hand over what they have; this decides.

mod people;
mod progress;
mod stored;
mod structured;

use std::io::{IsTerminal, Write};

use owo_colors::OwoColorize;
use serde_json::Value;

pub(crate) use people::{FrameworksView, RunView, RunsView, tame, two_columns};
pub(crate) use progress::{bar, spinner};
pub(crate) use stored::{DefinitionView, DefinitionsView, ModelView, ModelsView};

use crate::{
    Error,
    args::{Format, Global},
};

/// How output looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    format: Format,
    quiet: bool,
    /// The original's form: everything on stdout, in its words.
    pub(crate) original: bool,
}

impl Style {
    pub(crate) fn of(global: &Global) -> Self {
        Self { format: global.output, quiet: global.quiet, original: global.original }
    }
}

/// Something that can be shown.
pub(crate) trait Shown {
    /// For people.
    fn people(&self, wide: bool) -> String;
    /// For programs.
    fn value(&self) -> Value;
    /// Ids only.
    fn names(&self) -> Vec<String>;
}

/// The one way out.
pub struct Output {
    style: Style,
}

impl Output {
    pub(crate) fn new(style: Style) -> Self {
        Self { style }
    }

    /// The original's form was asked for.
    pub(crate) fn is_original(&self) -> bool {
        self.style.original
    }

    /// A person reads this: progress may be drawn.
    pub(crate) fn is_lively(&self) -> bool {
        !self.style.quiet && !self.style.original && std::io::stderr().is_terminal()
    }

    /// People read tables; programs read the rest.
    pub(crate) fn is_for_people(&self) -> bool {
        !self.style.quiet && matches!(self.style.format, Format::Table | Format::Wide)
    }

    /// Data.
    pub(crate) fn show(&self, shown: &dyn Shown) -> Result<(), Error> {
        let text = match (self.style.quiet, self.style.format) {
            (true, _) | (_, Format::Name) => lines(&shown.names()),
            (_, Format::Table) => shown.people(false),
            (_, Format::Wide) => shown.people(true),
            (_, Format::Json) => format!("{:#}\n", shown.value()),
            (_, Format::Yaml) => structured::yaml(&shown.value()),
        };
        self.data(&text)
    }

    /// Data that is text already, line ends included.
    #[expect(clippy::unused_self, reason = "output goes through the one who decides on it")]
    pub(crate) fn data(&self, text: &str) -> Result<(), Error> {
        let mut out = anstream::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::Closed),
            Err(e) => Err(Error::new(trainyard_api::Code::LocalFile, format!("stdout: {e}"))),
        }
    }

    /// Talk: on stderr, or where the original put it. Never in the way of data.
    pub(crate) fn talk(&self, text: &str) {
        if self.style.original {
            // The reader being gone is found out by the data.
            let _ = self.data(&format!("{text}\n"));
        } else if !self.style.quiet {
            let _ = writeln!(anstream::stderr().lock(), "{text}");
        }
    }

    /// What went wrong, and what helps.
    pub(crate) fn error(&self, error: &Error) {
        let mut err = anstream::stderr().lock();
        match error {
            Error::Closed | Error::Exit(_) => {}
            Error::Manifest(report) => {
                let color = anstream::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
                let _ = write!(err, "{}", report.render(color, 100));
            }
            Error::Problems(problems) => {
                if self.style.original {
                    let _ = writeln!(err, "FAILED");
                }
                for p in problems {
                    let head = format!("error[{}]", p.code.as_str());
                    let _ = writeln!(err, "{}: {}", head.red().bold(), p.message);
                    if let Some(hint) = &p.hint {
                        let _ = writeln!(err, "  {} {hint}", "hint:".cyan());
                    }
                }
            }
        }
    }
}

fn lines(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { names.join("\n") + "\n" }
}
