//! Which kind of archive a file is, by its first bytes.

use std::fmt;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The only kind that definitions may be.
    Zip,
    /// A zip without entries.
    EmptyZip,
    /// gzip, usually a tar.gz.
    Gzip,
    /// tar.
    Tar,
    /// RAR.
    Rar,
    /// 7-Zip.
    SevenZip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// Nothing at all.
    Empty,
    /// Something else.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip",
            Self::EmptyZip => "a zip without entries",
            Self::Gzip => "a gzip file (.gz or .tar.gz)",
            Self::Tar => "a tar archive",
            Self::Rar => "a RAR archive",
            Self::SevenZip => "a 7-Zip archive",
            Self::Bzip2 => "a bzip2 file",
            Self::Xz => "an xz file",
            Self::Zstd => "a Zstandard file",
            Self::Empty => "empty",
            Self::Unknown => "no archive that is known",
        })
    }
}

/// The kind of a file that begins with `head`, of which the first 512 bytes are enough.
pub fn sniff(head: &[u8]) -> Kind {
    match head {
        [] => Kind::Empty,
        [b'P', b'K', 3, 4, ..] => Kind::Zip,
        [b'P', b'K', 5, 6, ..] => Kind::EmptyZip,
        [0x1f, 0x8b, ..] => Kind::Gzip,
        [b'R', b'a', b'r', b'!', 0x1a, 7, ..] => Kind::Rar,
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Kind::SevenZip,
        [b'B', b'Z', b'h', ..] => Kind::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Kind::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::Zstd,
        _ if head.get(257..262) == Some(b"ustar") => Kind::Tar,
        _ => Kind::Unknown,
    }
}
