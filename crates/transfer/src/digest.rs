//! Checks what came against what the store says it has.

use base64::{Engine, engine::general_purpose::STANDARD};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest, Md5};
use reqwest::header::HeaderMap;

use crate::Error;

/// CRCs that S3 gives for whole objects, by header.
const CRCS: [(&str, CrcAlgorithm, usize); 3] = [
    ("x-amz-checksum-crc64nvme", CrcAlgorithm::Crc64Nvme, 8),
    ("x-amz-checksum-crc32", CrcAlgorithm::Crc32IsoHdlc, 4),
    ("x-amz-checksum-crc32c", CrcAlgorithm::Crc32Iscsi, 4),
];

/// What is known about an object before its bytes are here.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// A CRC of the whole object; stretches can be checked one by one and joined.
    Crc(CrcAlgorithm, u64),
    /// An MD5, in hexadecimal.
    Md5(String),
    /// Nothing but the length.
    Length,
}

impl Expected {
    /// The best that the headers of an answer offer. An ETag of 32 hexadecimal digits is the MD5
    /// of the object, unless a key of the store's own encrypts it.
    pub(crate) fn of(headers: &HeaderMap, etag: &str) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let composite = text("x-amz-checksum-type").is_some_and(|t| t.eq_ignore_ascii_case("COMPOSITE"));
        for (name, algorithm, width) in CRCS {
            let decoded =
                text(name).filter(|v| !composite && !v.contains('-')).and_then(|v| STANDARD.decode(v).ok());
            if let Some(bytes) = decoded.filter(|b| b.len() == width) {
                let value = bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                return Self::Crc(algorithm, value);
            }
        }
        let encrypted = text("x-amz-server-side-encryption").is_some_and(|v| v.starts_with("aws:"))
            || text("x-amz-server-side-encryption-customer-algorithm").is_some();
        let is_md5 = etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit());
        if is_md5 && !encrypted { Self::Md5(etag.to_ascii_lowercase()) } else { Self::Length }
    }
}

/// Fed with the bytes of one stretch, in order.
pub(crate) enum Running {
    Crc(Box<Crc>, u64),
    Md5(Box<Md5>, String),
    Length,
}

impl Running {
    pub(crate) fn new(expected: &Expected) -> Self {
        match expected {
            Expected::Crc(algorithm, value) => Self::Crc(Box::new(Crc::new(*algorithm)), *value),
            Expected::Md5(value) => Self::Md5(Box::new(Md5::new()), value.clone()),
            Expected::Length => Self::Length,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(crc, ..) => crc.update(bytes),
            Self::Md5(md5, _) => md5.update(bytes),
            Self::Length => {}
        }
    }

    /// Compares, for a stretch that is the whole object.
    pub(crate) fn check(self, what: &str) -> Result<(), Error> {
        match self {
            Self::Crc(crc, expected) => {
                compare(what, &format!("checksum {expected:x}"), &format!("checksum {:x}", crc.finalize()))
            }
            Self::Md5(md5, expected) => {
                compare(what, &format!("MD5 {expected}"), &format!("MD5 {}", hex::encode(md5.finalize())))
            }
            Self::Length => Ok(()),
        }
    }

    /// The CRC of a stretch, for joining.
    pub(crate) fn crc(self) -> Option<u64> {
        match self {
            Self::Crc(crc, ..) => Some(crc.finalize()),
            _ => None,
        }
    }
}

/// Compares the joined CRCs of stretches, in order, with that of the whole object.
pub(crate) fn check_joined(
    what: &str,
    algorithm: CrcAlgorithm,
    expected: u64,
    stretches: &[(u64, u64)],
) -> Result<(), Error> {
    let mut joined = crc_fast::checksum(algorithm, b"");
    for (crc, length) in stretches {
        joined = crc_fast::checksum_combine(algorithm, joined, *crc, *length);
    }
    compare(what, &format!("checksum {expected:x}"), &format!("checksum {joined:x}"))
}

fn compare(what: &str, expected: &str, found: &str) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Corrupt { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned() })
}

/// MD5 for a Content-MD5 header, in base64.
pub(crate) fn content_md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// Whether the file at `path` is the object: by its MD5 where the ETag is one, else by its size.
pub fn is_same(path: &std::path::Path, object: &crate::Object) -> bool {
    use std::io::Read;
    let Ok(mut file) = std::fs::File::open(path) else { return false };
    if file.metadata().map_or(true, |m| m.len() != object.size) {
        return false;
    }
    let Expected::Md5(expected) = Expected::of(&HeaderMap::new(), &object.etag) else { return true };
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hex::encode(md5.finalize()) == expected,
            Ok(n) => md5.update(&buffer[..n]),
            Err(_) => return false,
        }
    }
}
