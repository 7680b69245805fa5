//! Conditional requests: `If-Match`, `If-None-Match` and their date forms.

use s3s::{S3Error, S3ErrorCode, S3Result, dto::*, s3_error};

use crate::{index::Object, service::timestamp};

/// The conditions of a request.
#[derive(Clone, Default)]
pub(crate) struct Conditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
    pub(crate) if_modified_since: Option<Timestamp>,
    pub(crate) if_unmodified_since: Option<Timestamp>,
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

impl Conditions {
    /// For reads: 412, or 304 where nothing changed.
    pub(crate) fn check_read(&self, object: &Object) -> S3Result<()> {
        let modified = timestamp(object.modified);
        let failed = || Err(s3_error!(PreconditionFailed, "the object does not meet the condition"));
        match &self.if_match {
            Some(condition) if !matches(condition, object) => return failed(),
            // If-Match is the stronger of the two, says RFC 9110 13.2.2.
            None if self.if_unmodified_since.as_ref().is_some_and(|t| modified > *t) => return failed(),
            _ => {}
        }
        let unchanged = match &self.if_none_match {
            Some(condition) => matches(condition, object),
            None => self.if_modified_since.as_ref().is_some_and(|t| modified <= *t),
        };
        if unchanged { Err(S3Error::new(S3ErrorCode::NotModified)) } else { Ok(()) }
    }

    /// For writes: checked in the transaction that writes.
    pub(crate) fn check_write(&self, present: Option<&Object>) -> S3Result<()> {
        if let Some(condition) = &self.if_none_match
            && present.is_some_and(|o| matches(condition, o))
        {
            return Err(s3_error!(PreconditionFailed, "the object exists already"));
        }
        match (&self.if_match, present) {
            (Some(_), None) => Err(s3_error!(NoSuchKey, "the object does not exist")),
            (Some(condition), Some(object)) if !matches(condition, object) => {
                Err(s3_error!(PreconditionFailed, "the object has another ETag"))
            }
            _ => Ok(()),
        }
    }
}
