//! Endpoints as people write them: with or without a scheme.

use url::{Host, Url};

use crate::Error;

/// The URL that is meant by `text`. Without a scheme it is `https`, except on this machine.
pub fn normalize_endpoint(text: &str) -> Result<Url, Error> {
    let bad = || Error::BadEndpoint(text.to_owned());
    let trimmed = text.trim();
    let trimmed = if trimmed.ends_with("://") { trimmed } else { trimmed.trim_end_matches('/') };
    let url = if trimmed.contains("://") {
        Url::parse(trimmed).map_err(|_| bad())?
    } else {
        let secure = Url::parse(&format!("https://{trimmed}")).map_err(|_| bad())?;
        if is_loopback(&secure) {
            Url::parse(&format!("http://{trimmed}")).map_err(|_| bad())?
        } else {
            secure
        }
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if matches!(url.scheme(), "http" | "https") && url.host().is_some() && plain {
        Ok(url)
    } else {
        Err(bad())
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The region that signatures name. Amazon's hosts carry theirs; other stores take any.
pub(crate) fn region(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    let named = host.strip_suffix(".amazonaws.com").and_then(|h| {
        h.strip_prefix("s3.").or_else(|| h.strip_prefix("s3-")).map(|r| r.trim_start_matches("dualstack."))
    });
    named.filter(|r| !r.is_empty()).unwrap_or("us-east-1").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_added_where_they_are_missing() {
        let url = |t: &str| normalize_endpoint(t).map(|u| u.to_string());
        assert_eq!(
            url("s3-api.us-geo.objectstorage.example.net").unwrap(),
            "https://s3-api.us-geo.objectstorage.example.net/"
        );
        assert_eq!(url("127.0.0.1:9000").unwrap(), "http://127.0.0.1:9000/");
        assert_eq!(url("http://store:80/").unwrap(), "http://store/");
        for bad in ["", "ftp://x", "http://", "a b", "https://user:pw@host", "http://h/?q=1"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amazon_hosts_name_their_region() {
        let region = |t: &str| region(&normalize_endpoint(t).unwrap());
        assert_eq!(region("https://s3.eu-west-1.amazonaws.com"), "eu-west-1");
        assert_eq!(region("https://s3.amazonaws.com"), "us-east-1");
        assert_eq!(region("http://127.0.0.1:9000"), "us-east-1");
    }
}
