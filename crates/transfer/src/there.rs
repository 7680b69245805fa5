//! What a store has under a key, and for how long: by the store's own clock, so that no difference between
//! its clock and this machine's counts.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    Method, Response,
    header::{CONTENT_LENGTH, DATE, HeaderMap, LAST_MODIFIED},
};

use crate::{Bucket, Error, bucket::retrying, put::etag};

/// Dates of HTTP are whole seconds.
pub(crate) const GRAIN: Duration = Duration::from_secs(1);

/// An object as the store has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct There {
    pub(crate) size: u64,
    /// Without quotes.
    pub(crate) etag: String,
    /// How long it has been there, up to a second more or less; absent where the store does not say.
    pub(crate) age: Option<Duration>,
}

impl There {
    fn of(response: &Response) -> Option<Self> {
        let headers = response.headers();
        let size = headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        let stored = headers.get(LAST_MODIFIED).and_then(|v| http_date(v.to_str().ok()?));
        let age = stored.zip(now(headers)).map(|(then, now)| between(then, now));
        Some(Self { size, etag: etag(response), age })
    }
}

impl Bucket {
    /// What is under `key`; `None`: nothing.
    pub(crate) async fn stat(&self, key: &str) -> Result<Option<There>, Error> {
        let what = self.what(Some(key));
        let asked = retrying(|| async {
            let action = self.bucket.head_object(Some(&self.credentials), key);
            self.act(Method::HEAD, action, &[], None, &what).await
        });
        match asked.await {
            Ok(response) => Ok(There::of(&response)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The store's clock, as an answer tells it.
pub(crate) fn now(headers: &HeaderMap) -> Option<Timestamp> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

/// From one time to another; nothing where it goes backwards.
pub(crate) fn between(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// A date as HTTP writes it (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_are_read() {
        let then = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(then.as_second(), 784_111_777);
        assert_eq!(http_date("yesterday"), None);
        let later = Timestamp::from_second(784_111_780).unwrap();
        assert_eq!(between(then, later), Duration::from_secs(3));
        assert_eq!(between(later, then), Duration::ZERO);
    }
}
