//! Digests of what comes in: the ETag, and the checksums that a client sends along.

use base64::{Engine, engine::general_purpose::STANDARD};
use crc_fast::{CrcAlgorithm, Digest as Crc};
use md5::{Digest, Md5};
use s3s::{
    S3Error, S3ErrorCode, S3Result, TrailingHeaders,
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256},
    dto::Checksum,
};

/// Headers (or trailers) of the checksums that S3 knows, by the name they are stored under.
const NAMES: [&str; 5] = ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"];

/// Digests fed while bytes arrive.
pub(crate) struct Digests {
    md5: Md5,
    crc64: Crc,
    asked: ChecksumHasher,
    want: Vec<(&'static str, Option<String>)>,
    content_md5: Option<String>,
}

/// What the digests said.
pub(crate) struct Verified {
    /// MD5 in hexadecimal, unquoted.
    pub(crate) etag: String,
    /// Checksums to keep, by name, in base64. The CRC-64/NVME is always there: it is what lets
    /// a reader verify an object that it fetched in ranges.
    pub(crate) checksums: Vec<(String, String)>,
}

/// What a client sent, from the headers of its request.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) content_md5: Option<String>,
    pub(crate) values: [Option<String>; 5],
    pub(crate) algorithm: Option<String>,
    pub(crate) trailer: Option<String>,
}

/// What the input of a put said, whole object or part: both have the same fields.
macro_rules! sent {
    ($input:expr, $trailer:expr) => {
        $crate::checksum::Sent {
            content_md5: $input.content_md5,
            values: [
                $input.checksum_crc32,
                $input.checksum_crc32c,
                $input.checksum_crc64nvme,
                $input.checksum_sha1,
                $input.checksum_sha256,
            ],
            algorithm: $input.checksum_algorithm.map(|a| a.as_str().to_owned()),
            trailer: $trailer,
        }
    };
}
pub(crate) use sent;

/// Says checksums, by name, in an output: those of puts and of reads have the same fields.
macro_rules! say_checksums {
    ($output:expr, $checksums:expr) => {
        for (name, value) in $checksums {
            match name.as_str() {
                "crc32" => $output.checksum_crc32 = Some(value),
                "crc32c" => $output.checksum_crc32c = Some(value),
                "crc64nvme" => $output.checksum_crc64nvme = Some(value),
                "sha1" => $output.checksum_sha1 = Some(value),
                _ => $output.checksum_sha256 = Some(value),
            }
        }
    };
}
pub(crate) use say_checksums;

impl Digests {
    pub(crate) fn new(sent: Sent) -> Self {
        let announced = |name: &str| {
            let by_algorithm = sent.algorithm.as_deref().is_some_and(|a| a.eq_ignore_ascii_case(name));
            let header = format!("x-amz-checksum-{name}");
            by_algorithm
                || sent
                    .trailer
                    .as_deref()
                    .is_some_and(|t| t.split(',').any(|t| t.trim().eq_ignore_ascii_case(&header)))
        };
        let mut want = Vec::new();
        for (name, value) in NAMES.into_iter().zip(sent.values.clone()) {
            if value.is_some() || announced(name) {
                want.push((name, value));
            }
        }
        let wants = |name: &str| want.iter().any(|(n, _)| *n == name);
        let asked = ChecksumHasher {
            crc32: wants("crc32").then(Crc32::new),
            crc32c: wants("crc32c").then(Crc32c::new),
            crc64nvme: wants("crc64nvme").then(Crc64Nvme::new),
            sha1: wants("sha1").then(Sha1::new),
            sha256: wants("sha256").then(Sha256::new),
        };
        Self {
            md5: Md5::new(),
            crc64: Crc::new(CrcAlgorithm::Crc64Nvme),
            asked,
            want,
            content_md5: sent.content_md5,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc64.update(bytes);
        self.asked.update(bytes);
    }

    /// Compares with what the client sent, in headers or in trailers.
    pub(crate) fn verify(self, trailers: Option<&TrailingHeaders>) -> S3Result<Verified> {
        let md5 = self.md5.finalize();
        if let Some(sent) = &self.content_md5
            && *sent != STANDARD.encode(md5)
        {
            return Err(S3Error::with_message(
                S3ErrorCode::BadDigest,
                "Content-MD5 differs from the body's MD5",
            ));
        }
        let crc64 = STANDARD.encode(self.crc64.finalize().to_be_bytes());
        let mut checksums = vec![("crc64nvme".to_owned(), crc64)];
        let computed = self.asked.finalize();
        for (name, header) in &self.want {
            let trailer = || {
                trailers?
                    .read(|h| h.get(format!("x-amz-checksum-{name}"))?.to_str().ok().map(str::to_owned))
                    .flatten()
            };
            let Some(sent) = header.clone().or_else(trailer) else { continue };
            let value = value(&computed, name).unwrap_or_default();
            if sent != value {
                return Err(S3Error::with_message(
                    S3ErrorCode::BadDigest,
                    format!("x-amz-checksum-{name} is {sent}, but the body's is {value}"),
                ));
            }
            if *name != "crc64nvme" {
                checksums.push(((*name).to_owned(), sent));
            }
        }
        Ok(Verified { etag: hex::encode(md5), checksums })
    }
}

fn value(checksum: &Checksum, name: &str) -> Option<String> {
    match name {
        "crc32" => checksum.checksum_crc32.clone(),
        "crc32c" => checksum.checksum_crc32c.clone(),
        "crc64nvme" => checksum.checksum_crc64nvme.clone(),
        "sha1" => checksum.checksum_sha1.clone(),
        _ => checksum.checksum_sha256.clone(),
    }
}

/// The CRC-64/NVME of two stretches joined, in base64, from theirs: joining parts needs no
/// second look at the bytes.
pub(crate) fn join_crc64(first: &str, second: &str, second_size: u64) -> Option<String> {
    let number = |text: &str| Some(u64::from_be_bytes(STANDARD.decode(text).ok()?.try_into().ok()?));
    let joined =
        crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, number(first)?, number(second)?, second_size);
    Some(STANDARD.encode(joined.to_be_bytes()))
}

/// The CRC-64/NVME of nothing, in base64.
pub(crate) fn empty_crc64() -> String {
    STANDARD.encode(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, b"").to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(bytes: &[u8]) -> String {
        let mut d = Digests::new(Sent::default());
        d.update(bytes);
        d.verify(None).unwrap().checksums[0].1.clone()
    }

    #[test]
    fn joined_checksums_equal_the_checksum_of_the_whole() {
        let joined = join_crc64(&empty_crc64(), &crc(b"one"), 3).unwrap();
        assert_eq!(join_crc64(&joined, &crc(b"twotwo"), 6).unwrap(), crc(b"onetwotwo"));
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut d = Digests::new(Sent {
            values: [Some("AAAAAA==".into()), None, None, None, None],
            ..Sent::default()
        });
        d.update(b"x");
        assert!(d.verify(None).is_err());
    }
}
