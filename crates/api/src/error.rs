//! Errors that a user or the world caused: stable codes, and the shape they have on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $exit:literal, $title:literal;)*) => {
        /// A stable error code. Each has a page in `docs/errors/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in order.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code as text, `TY0xxx`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// HTTP status of an answer with this code.
            pub fn http_status(self) -> u16 {
                match self { $(Code::$name => $status,)* }
            }

            /// Exit code of a command that ends with it.
            pub fn exit_code(self) -> u8 {
                match self { $(Code::$name => $exit,)* }
            }

            /// What it means, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// A defect of Trainyard.
    Internal = "TY0001", 500, 1, "internal error";
    /// The server cannot write its data folder.
    ServerStorage = "TY0002", 507, 1, "the server cannot write its data folder";
    /// The manifest has problems.
    Manifest = "TY0100", 400, 1, "the manifest has problems";
    /// The definition is not a zip, or not a safe one.
    DefinitionZip = "TY0101", 400, 1, "the definition zip was refused";
    /// The definition is larger than the server allows.
    DefinitionLimit = "TY0102", 413, 1, "the definition exceeds a limit";
    /// No such framework or version.
    Framework = "TY0103", 400, 1, "the framework or its version is not known";
    /// No such compute configuration, or this installation can never provide it.
    Compute = "TY0104", 400, 1, "the compute configuration cannot be provided";
    /// The request is malformed.
    Request = "TY0105", 400, 1, "the request is malformed";
    /// The route does not take this method.
    Method = "TY0107", 405, 1, "the method is not allowed";
    /// The definition is missing, or its zip is.
    DefinitionContent = "TY0106", 400, 1, "the definition has no content";
    /// The object store refuses the credentials.
    StoreCredentials = "TY0110", 400, 1, "the object store refused the credentials";
    /// The bucket does not exist.
    StoreBucket = "TY0111", 400, 1, "the bucket does not exist";
    /// The endpoint does not answer.
    StoreEndpoint = "TY0112", 400, 1, "the object store cannot be reached";
    /// The object store answered with another error.
    StoreAnswer = "TY0113", 502, 1, "the object store answered with an error";
    /// No token, or a wrong one.
    Unauthenticated = "TY0201", 401, 1, "not signed in";
    /// Nothing of that id belongs to the caller.
    NotFound = "TY0202", 404, 102, "not found";
    /// The thing is in a state that does not allow it.
    Conflict = "TY0203", 409, 1, "not possible in this state";
    /// The body is larger than allowed.
    TooLarge = "TY0204", 413, 1, "the request is too large";
    /// The server does as much of this as it can.
    Busy = "TY0205", 503, 1, "the server is busy";
    /// Too many wrong passwords.
    Guessing = "TY0206", 429, 1, "too many wrong passwords";
    /// The attempt of this runner is over.
    Fenced = "TY0301", 409, 1, "this attempt is over";
    /// The program ended with a status other than 0.
    ProgramFailed = "TY0401", 500, 100, "the program failed";
    /// A signal ended the program.
    ProgramKilled = "TY0402", 500, 100, "the program was ended by a signal";
    /// The program used more memory than it had.
    OutOfMemory = "TY0403", 500, 100, "the program ran out of memory";
    /// The program ran longer than it may.
    TimeLimit = "TY0404", 500, 100, "the time limit was reached";
    /// Data could not be staged in.
    StageIn = "TY0405", 500, 100, "the data could not be fetched";
    /// Results could not be stored.
    StageOut = "TY0406", 500, 100, "the results could not be stored";
    /// The runner was lost.
    RunnerLost = "TY0407", 500, 100, "the runner was lost";
    /// The environment could not be made.
    Environment = "TY0408", 500, 100, "the environment could not be made";
    /// The definition could not be unpacked on the node.
    Unpack = "TY0409", 500, 100, "the definition could not be unpacked";
    /// The program could not be started.
    ProgramStart = "TY0410", 500, 100, "the program could not be started";
    /// The node asked the runner to stop.
    NodeStopped = "TY0411", 500, 100, "the node stopped the run";
    /// The engine could not place the run.
    Placement = "TY0412", 500, 100, "the run could not be placed";
    /// The run ended in failure.
    RunFailed = "TY0420", 500, 100, "the run failed";
    /// The run was canceled.
    RunCanceled = "TY0421", 500, 103, "the run was canceled";
    /// The run has not ended yet.
    RunNotFinished = "TY0422", 409, 101, "the run has not ended";
    /// The server does not answer.
    ServerUnreachable = "TY0501", 503, 1, "the server cannot be reached";
    /// Several things match what was typed.
    Ambiguous = "TY0502", 400, 1, "several match";
    /// A file on this machine cannot be used.
    LocalFile = "TY0503", 400, 1, "a file cannot be used";
    /// Ctrl-C.
    Interrupted = "TY0504", 400, 130, "interrupted";
    /// The time given for waiting is over.
    TimedOut = "TY0505", 504, 124, "timed out";
    /// The configuration has problems.
    Configuration = "TY0506", 500, 1, "the configuration has problems";
    /// The command line is wrong.
    Usage = "TY0507", 400, 2, "the command line is wrong";
    /// What was asked for comes with a later release.
    NotYet = "TY0508", 501, 1, "not there yet";
}

impl Code {
    /// The code written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.as_str() == text)
    }
}

/// Something that the user or the world did: a code, a sentence, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Stable code.
    pub code: Code,
    /// One sentence that names the place and the cause.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// One entry of an error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEntry {
    /// Stable code, `TY0xxx`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The page about this code.
    pub more_info: String,
    /// What helps. A Trainyard field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The body of every answer that is an error, in the original's shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Id of the request; stands in the server's log too.
    pub trace: String,
    /// At least one.
    pub errors: Vec<ErrorEntry>,
}

impl ErrorBody {
    /// The body for `problems`; `docs` is the URL below which the pages of the codes are.
    pub fn new(trace: String, problems: &[Problem], docs: &str) -> Self {
        let entry = |p: &Problem| ErrorEntry {
            code: p.code.as_str().to_owned(),
            message: p.message.clone(),
            more_info: format!("{docs}/{}", p.code.as_str()),
            hint: p.hint.clone(),
        };
        Self { trace, errors: problems.iter().map(entry).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_parse() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
            assert!((400..600).contains(&code.http_status()));
        }
    }

    #[test]
    fn every_code_has_its_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        for code in Code::ALL {
            let page =
                std::fs::read_to_string(pages.join(format!("{}.md", code.as_str()))).unwrap_or_default();
            assert!(
                page.contains(code.title()),
                "{} has no page with the title `{}`",
                code.as_str(),
                code.title()
            );
        }
    }
}
