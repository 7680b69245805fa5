//! Uploads in parts that were begun and neither completed nor given up: found, and given up, so that a store
//! does not keep parts for ever that nobody completes.

use std::time::Duration;

use jiff::Timestamp;
use quick_xml::{Reader, events::Event};
use reqwest::Method;
use rusty_s3::{Map, actions::ListParts};

use crate::{
    Bucket, Error,
    bucket::{VALID, read_page, retrying},
    error::chain,
    there::{between, now},
};

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// The key that it would have been under.
    pub key: String,
    /// The store's name for it.
    pub id: String,
    /// How long ago it was begun; absent where the store does not say.
    pub age: Option<Duration>,
}

/// The most that are looked for below a prefix, and the most pages: nobody has more, and a store may say for ever
/// that there are.
const MOST: usize = 100_000;
const MOST_PAGES: u32 = 1000;

/// An upload as the list has it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    key: String,
    id: String,
    initiated: String,
}

/// A page of the list: what it says, and where the next one begins.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    uploads: Vec<Listed>,
    truncated: bool,
    next_key: String,
    next_id: String,
}

impl Bucket {
    /// Those below `prefix`.
    pub async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>, Error> {
        let what = self.what(None);
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (String::new(), String::new());
        for _ in 0..MOST_PAGES {
            let (page, clock) =
                retrying(|| self.unfinished_page(prefix, &key_marker, &id_marker, &what)).await?;
            let below = page.uploads.into_iter().filter(|u| u.key.starts_with(prefix));
            found.extend(below.map(|Listed { key, id, initiated }| {
                let begun = initiated.parse::<Timestamp>().ok();
                Unfinished { key, id, age: begun.zip(clock).map(|(then, now)| between(then, now)) }
            }));
            let next = (page.next_key, page.next_id);
            if !page.truncated || next == (key_marker.clone(), id_marker.clone()) || found.len() > MOST {
                break;
            }
            (key_marker, id_marker) = next;
        }
        Ok(found)
    }

    async fn unfinished_page(
        &self,
        prefix: &str,
        key_marker: &str,
        id_marker: &str,
        what: &str,
    ) -> Result<(Page, Option<Timestamp>), Error> {
        let mut query = vec![("uploads", "")];
        for (name, value) in [("key-marker", key_marker), ("prefix", prefix), ("upload-id-marker", id_marker)]
        {
            if !value.is_empty() {
                query.push((name, value));
            }
        }
        query.sort_unstable();
        let url = rusty_s3::signing::sign(
            &Timestamp::now(),
            rusty_s3::Method::Get,
            self.bucket.base_url().clone(),
            self.credentials.key(),
            self.credentials.secret(),
            self.credentials.token(),
            self.bucket.region(),
            VALID.as_secs(),
            query.iter().copied(),
            std::iter::empty(),
        );
        let response = self.send(Method::GET, url, &Map::new(), None, what).await?;
        let clock = now(response.headers());
        let text = read_page(response, what).await?;
        let page = parse(&text).map_err(|cause| Error::Unreadable { what: what.to_owned(), cause })?;
        Ok((page, clock))
    }

    /// Whether a part of an upload has arrived; `false` also where the upload is gone.
    pub(crate) async fn has_parts(&self, key: &str, id: &str) -> Result<bool, Error> {
        let what = self.what(Some(key));
        let asked = retrying(|| async {
            let mut action = self.bucket.list_parts(Some(&self.credentials), key, id);
            action.set_max_parts(1);
            let response = self.act(Method::GET, action, &[], None, &what).await?;
            let text = read_page(response, &what).await?;
            ListParts::parse_response(&text)
                .map_err(|e| Error::Unreadable { what: what.clone(), cause: chain(&e) })
        });
        match asked.await {
            Ok(list) => Ok(!list.parts.is_empty()),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives an upload up; one that is not there is fine.
    pub async fn give_up(&self, key: &str, id: &str) -> Result<(), Error> {
        let what = self.what(Some(key));
        let given_up = retrying(|| async {
            let action = self.bucket.abort_multipart_upload(Some(&self.credentials), key, id);
            self.act(Method::DELETE, action, &[], None, &what).await.map(|_| ())
        });
        match given_up.await {
            Err(error) if error.is_not_found() && !error.is_no_bucket() => Ok(()),
            other => other,
        }
    }
}

/// Reads a `ListMultipartUploadsResult`, whatever its namespace is.
fn parse(text: &str) -> Result<Page, String> {
    let mut reader = Reader::from_str(text);
    let mut page = Page::default();
    let mut path: Vec<String> = Vec::new();
    let mut value = String::new();
    loop {
        match reader.read_event().map_err(|e| chain(&e))? {
            Event::Start(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                if name == "Upload" {
                    page.uploads.push(Listed::default());
                }
                path.push(name);
                value.clear();
            }
            Event::Text(part) => value.push_str(&part.decode().map_err(|e| chain(&e))?),
            Event::CData(part) => value.push_str(&String::from_utf8_lossy(&part)),
            Event::GeneralRef(name) => match name.resolve_char_ref().map_err(|e| chain(&e))? {
                Some(c) => value.push(c),
                None => value.push_str(
                    quick_xml::escape::resolve_predefined_entity(&name.decode().map_err(|e| chain(&e))?)
                        .ok_or("it holds an entity that is not known")?,
                ),
            },
            Event::End(_) => {
                let text = std::mem::take(&mut value);
                let at: Vec<&str> = path.iter().map(String::as_str).collect();
                match (&at[..], page.uploads.last_mut()) {
                    ([_, "Upload", "Key"], Some(upload)) => upload.key = text,
                    ([_, "Upload", "UploadId"], Some(upload)) => upload.id = text,
                    ([_, "Upload", "Initiated"], Some(upload)) => upload.initiated = text,
                    ([_, "IsTruncated"], _) => page.truncated = text.trim() == "true",
                    ([_, "NextKeyMarker"], _) => page.next_key = text,
                    ([_, "NextUploadIdMarker"], _) => page.next_id = text,
                    _ => {}
                }
                path.pop();
            }
            Event::Eof if path.is_empty() => return Ok(page),
            Event::Eof => return Err("it breaks off".to_owned()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_unfinished_uploads_are_read_with_and_without_a_namespace() {
        for namespace in ["", " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""] {
            let text = format!(
                "<?xml version=\"1.0\"?><ListMultipartUploadsResult{namespace}><Bucket>b</Bucket>\
                 <NextKeyMarker>z</NextKeyMarker><NextUploadIdMarker>9</NextUploadIdMarker>\
                 <IsTruncated>true</IsTruncated>\
                 <Upload><Key>a&amp;b&#x21;/c</Key><UploadId>1</UploadId><Initiator><ID>x</ID></Initiator>\
                 <Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload>\
                 <Upload><Key>d</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>"
            );
            let page = parse(&text).unwrap();
            let expected = Listed {
                key: "a&b!/c".to_owned(),
                id: "1".to_owned(),
                initiated: "2026-01-01T00:00:00.000Z".to_owned(),
            };
            assert_eq!(page.uploads[0], expected);
            assert_eq!(page.uploads[1].id, "2");
            assert!(page.truncated && page.next_key == "z" && page.next_id == "9");
            assert!(parse(&text[..text.len() - 5]).is_err(), "what breaks off was taken for whole");
        }
        assert_eq!(parse("<ListMultipartUploadsResult/>").unwrap(), Page::default());
    }
}
