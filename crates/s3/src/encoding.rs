//! `encoding-type=url`: keys that XML could not carry, percent-encoded in lists.

use s3s::dto::EncodingType;

/// Encodes list fields when the request asked for it.
#[derive(Clone, Copy)]
pub(crate) struct Encoding(bool);

impl Encoding {
    pub(crate) fn of(asked: Option<&EncodingType>) -> Self {
        Self(asked.is_some_and(|e| e.as_str() == EncodingType::URL))
    }

    /// `text` as it goes into the list. Slashes stay, as S3 leaves them.
    pub(crate) fn apply(self, text: &str) -> String {
        if !self.0 {
            return text.to_owned();
        }
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b'*') {
                encoded.push(char::from(byte));
            } else {
                encoded.push('%');
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(byte >> 4)]));
                encoded.push(char::from(b"0123456789ABCDEF"[usize::from(byte & 15)]));
            }
        }
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_what_xml_and_urls_cannot_hold() {
        let url = Encoding(true);
        assert_eq!(url.apply("a b+c%/\u{1}ä"), "a%20b%2Bc%25/%01%C3%A4");
        assert_eq!(Encoding(false).apply("a b"), "a b");
    }
}
