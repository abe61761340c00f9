//! What an answer to a request for a range says about the content: its extent, its length and its identity.

use mullama::DownloadFailure;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use serde::{Deserialize, Serialize};

use crate::http::{Answer, RequestError, shown};

/// The part of the content that an answer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The bytes from `begin` to before `end`, of `total` if the server says.
    Range { begin: u64, end: u64, total: Option<u64> },
    /// Everything, of that length if the server says.
    Whole { len: Option<u64> },
}

/// What distinguishes one version of the file at an address from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The `ETag`, or else `Last-Modified`.
    pub(super) validator: Option<String>,
    /// The address that answered, without its query.
    pub(super) url: String,
}

impl Identity {
    pub(super) fn of(answer: &Answer) -> Self {
        let validator = answer.header(&ETAG).or_else(|| answer.header(&LAST_MODIFIED));
        let validator = validator.filter(|text| text.len() <= 1024).map(str::to_owned);
        Self { validator, url: shown(&answer.url) }
    }

    /// Whether another answer is about the same version of the file, as far as the headers tell.
    ///
    /// A file with a digest may come from several servers, each of which may have its own `ETag` for it.
    pub(super) fn matches(&self, other: &Self, has_digest: bool) -> bool {
        match (&self.validator, &other.validator) {
            (Some(one), Some(other)) if one == other => true,
            (Some(_), Some(_)) => has_digest && self.url != other.url,
            _ => true,
        }
    }

    /// The value of `If-Range`: a weak `ETag` is not allowed there.
    pub(super) fn if_range(&self) -> Option<&str> {
        self.validator.as_deref().filter(|validator| !validator.starts_with("W/"))
    }
}

/// The extent of a successful answer.
pub(super) fn extent(answer: &Answer) -> Result<Extent, RequestError> {
    let wrong =
        |message: String| RequestError::transient(DownloadFailure::Protocol { url: shown(&answer.url), message });
    if let Some(coding) = answer.header(&CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return Err(wrong(format!(
            "the server sent the file with Content-Encoding {coding:?}, which was not requested"
        )));
    }
    match answer.status() {
        200 | 203 => Ok(Extent::Whole { len: answer.content_length() }),
        206 => {
            let value = answer.header(&CONTENT_RANGE).unwrap_or_default();
            let range = content_range(value).ok_or_else(|| {
                wrong(format!("the server sent a range with the Content-Range {value:?}, which is not valid"))
            })?;
            match (range, answer.content_length()) {
                (Extent::Range { begin, end, .. }, Some(len)) if len != end - begin => Err(wrong(format!(
                    "the server sent {len} bytes with the Content-Range {value:?}, which has another length"
                ))),
                _ => Ok(range),
            }
        }
        status => Err(wrong(format!("the server answered {status} instead of sending the file"))),
    }
}

/// Reads `bytes 0-99/1000`; the length may be `*`.
fn content_range(value: &str) -> Option<Extent> {
    let (range, total) = value.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (begin, last) = (number(first)?, number(last)?);
    let end = last.checked_add(1)?;
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    let is_valid = begin < end && total.is_none_or(|total| end <= total);
    is_valid.then_some(Extent::Range { begin, end, total })
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // `parse` would allow a sign.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(validator: Option<&str>, url: &str) -> Identity {
        Identity { validator: validator.map(str::to_owned), url: url.to_owned() }
    }

    #[test]
    fn a_content_range_is_read() {
        let range = |begin, end, total| Some(Extent::Range { begin, end, total });
        assert_eq!(content_range("bytes 0-99/1000"), range(0, 100, Some(1000)));
        assert_eq!(content_range(" bytes 5-5/* "), range(5, 6, None));
        for value in [
            "",
            "bytes",
            "bytes */10",
            "bytes 0-9",
            "bytes 9-0/10",
            "bytes 0-10/10",
            "items 0-9/10",
            "bytes -1-9/10",
            "bytes 0-18446744073709551615/*",
            "bytes +0-9/10",
            "bytes 0-9/+10",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(content_range(value), None, "{value}");
        }
    }

    #[test]
    fn a_validator_that_differs_is_another_content() {
        let old = identity(Some("\"a\""), "https://a/");
        assert!(old.matches(&identity(Some("\"a\""), "https://b/"), false));
        assert!(!old.matches(&identity(Some("\"b\""), "https://a/"), true));
        assert!(!old.matches(&identity(Some("\"b\""), "https://b/"), false));
        assert!(old.matches(&identity(Some("\"b\""), "https://b/"), true));
        assert!(old.matches(&identity(None, "https://a/"), false));
    }

    #[test]
    fn a_weak_etag_is_no_condition_for_a_range() {
        assert_eq!(identity(Some("W/\"a\""), "").if_range(), None);
        assert_eq!(identity(Some("\"a\""), "").if_range(), Some("\"a\""));
    }

    proptest! {
        #[test]
        fn a_content_range_that_is_read_is_one_that_was_written(begin: u64, len in 1_u64.., more: u64) {
            let Some(end) = begin.checked_add(len) else { return Ok(()) };
            let Some(total) = end.checked_add(more) else { return Ok(()) };
            let read = content_range(&format!("bytes {begin}-{}/{total}", end - 1));
            prop_assert_eq!(read, Some(Extent::Range { begin, end, total: Some(total) }));
        }

        #[test]
        fn any_header_is_read_without_a_panic(value in "(bytes)?[ 0-9*/-]{0,60}") {
            let _ = content_range(&value);
        }
    }
}
