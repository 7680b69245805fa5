//! The ways in which a definition can be bad.

use trainyard_api::{Code, Problem};

use crate::Kind;

/// A definition was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another kind of file.
    #[error("the definition is {0}, and only zip is taken")]
    NotAZip(Kind),
    /// The zip's own structure is broken.
    #[error("the zip cannot be read: {0}")]
    Broken(String),
    /// Larger than allowed.
    #[error("the zip has {found} bytes, {limit} are allowed")]
    ZipBytes {
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// More entries than allowed.
    #[error("the zip has {found} entries, {limit} are allowed")]
    Entries {
        /// How many it has, or says that it has.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// More bytes than allowed once unpacked.
    #[error("the zip unpacks to more than the {limit} bytes that are allowed, at `{name}`")]
    UnpackedBytes {
        /// The entry at which the limit was passed.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// An entry that unpacks to suspiciously much.
    #[error("`{name}` unpacks to more than {limit} times its packed size: this looks like a zip bomb")]
    Ratio {
        /// The entry.
        name: String,
        /// The limit.
        limit: u64,
    },
    /// An entry that would be written outside.
    #[error("`{0}` leads out of the folder that it is unpacked into")]
    Traversal(String),
    /// An absolute name.
    #[error("`{0}` is an absolute path")]
    Absolute(String),
    /// A name that no file may have.
    #[error("`{name}` cannot be a file name: {why}")]
    Name {
        /// The entry, with odd characters escaped.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// Two entries of one name.
    #[error("`{0}` is in the zip twice")]
    Duplicate(String),
    /// Two entries whose names differ in case only.
    #[error("`{0}` and `{1}` differ in upper and lower case only")]
    CaseClash(String, String),
    /// An entry that other entries use as their folder.
    #[error("`{0}` is a file or a link, and other entries need a folder of that name")]
    FileAsFolder(String),
    /// A symbolic link that leads out.
    #[error("the symbolic link `{name}` leads out of the definition, to `{target}`")]
    Link {
        /// The entry.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// A device, a pipe or a socket.
    #[error("`{0}` is a device, a pipe or a socket")]
    Special(String),
    /// Encrypted.
    #[error("`{0}` is encrypted")]
    Encrypted(String),
    /// Packed in a way that is not known.
    #[error("`{name}` is packed by a method that is not known ({method}); use deflate")]
    Method {
        /// The entry.
        name: String,
        /// The method.
        method: String,
    },
    /// Headers that contradict each other or the content.
    #[error("the headers of the zip lie: {0}")]
    Lying(String),
    /// There is nothing in it.
    #[error("there is no file in the definition")]
    Nothing,
    /// A file here cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// The error as one for users.
    pub fn problem(&self) -> Problem {
        let message = self.to_string();
        match self {
            Self::ZipBytes { .. }
            | Self::Entries { .. }
            | Self::UnpackedBytes { .. }
            | Self::Ratio { .. } => Problem::new(Code::DefinitionLimit, message)
                .hint("leave data and results out of the zip: data belongs into the data bucket"),
            Self::NotAZip(_) => Problem::new(Code::DefinitionZip, message).hint(
                "make one with `zip -r code.zip FOLDER`, or hand the folder itself to `trainyard train`",
            ),
            Self::File { .. } => Problem::new(Code::LocalFile, message),
            _ => Problem::new(Code::DefinitionZip, message),
        }
    }
}
