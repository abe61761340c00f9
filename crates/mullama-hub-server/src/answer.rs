//! An answer before it is sent, and what faults make of it.

use serde_json::Value;

use crate::request::Request;
use crate::{Content, Fault, gzip};

/// Status, headers and body of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Without Content-Length, Content-Range and Transfer-Encoding, which are decided when it is sent.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Content,
    /// Whether it is a file, of which a range can be asked for.
    pub(crate) is_file: bool,
}

impl Answer {
    /// A short text of a media type.
    pub(crate) fn text(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Self { status, headers, body: Content::bytes(body.into()), is_file: false }
    }

    /// A JSON value.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", body.to_string())
    }

    /// A file with the entity tag, which is given without quotes.
    pub(crate) fn file(content: Content, etag: &str) -> Self {
        let mut answer = Self::text(200, "application/octet-stream", "");
        answer.body = content;
        answer.is_file = true;
        answer.with("ETag", &format!("\"{etag}\""))
    }

    /// A redirection.
    pub(crate) fn redirect(status: u16, to: &str) -> Self {
        Self::text(status, "text/plain", format!("Moved to {to}")).with("Location", to)
    }

    /// The same with one more header, which replaces one of the same name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.remove(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Applies a fault that replaces the answer or its content.
    pub(crate) fn replace(self, fault: &Fault) -> Self {
        match fault {
            Fault::Status { code, retry_after, body } => {
                let answer = Self::text(*code, "text/plain", body.as_str());
                retry_after.iter().fold(answer, |answer, value| answer.with("Retry-After", value))
            }
            Fault::Redirect { to } => Self::redirect(307, to),
            Fault::Body { body } => Self::text(200, "application/json", body.as_str()),
            Fault::DeepJson { deep } => Self::text(200, "application/json", "[".repeat(*deep)),
            Fault::Changed { new_etag } => {
                let etag = self.header("etag").map(|etag| format!("\"changed-{}", etag.trim_start_matches('"')));
                let answer = Self { body: self.body.changed(), ..self };
                etag.filter(|_| *new_etag).iter().fold(answer, |answer, etag| answer.with("ETag", etag))
            }
            Fault::Corrupt { at } => Self { body: self.body.corrupted(*at), ..self },
            Fault::Longer { bytes } => Self { body: self.body.padded(self.body.len() + bytes), ..self },
            Fault::Shorter { bytes } => {
                Self { body: self.body.truncated(self.body.len().saturating_sub(*bytes)), ..self }
            }
            Fault::Gzip => Self { body: Content::bytes(gzip::compress(&self.body.to_vec())), is_file: false, ..self }
                .with("Content-Encoding", "gzip"),
            _ => self,
        }
    }

    /// Applies a fault of a header, after the range was chosen.
    pub(crate) fn spoil_header(mut self, fault: &Fault) -> Self {
        match fault {
            Fault::Header { name, value } => self.with(name, value),
            Fault::HugeHeader { bytes } => self.with("X-Huge", &"h".repeat(*bytes)),
            Fault::FalseGzip => self.with("Content-Encoding", "gzip"),
            Fault::WithoutHeader { name } => {
                self.remove(name);
                self
            }
            Fault::NoContentRange => {
                self.remove("Content-Range");
                self
            }
            _ => self,
        }
    }

    /// Chooses the range that was asked for; returns the offsets of the first byte and of the end.
    pub(crate) fn choose_range(&mut self, request: &Request, faults: &[Fault]) -> (u64, u64) {
        let all = (0, self.body.len());
        if !self.is_file || self.status != 200 || faults.contains(&Fault::NoRanges) {
            return all;
        }
        *self = self.clone().with("Accept-Ranges", "bytes");
        let current = request.if_range.as_deref().is_none_or(|tag| Some(tag) == self.header("etag"));
        if !current && !faults.contains(&Fault::IgnoreIfRange) {
            return all;
        }
        let Some(range) = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")) else { return all };
        let Some(range) = parse_range(range, self.body.len()) else {
            let unsatisfied = format!("bytes */{}", self.body.len());
            *self = Self::text(416, "text/plain", "").with("Content-Range", &unsatisfied);
            return (0, 0);
        };
        self.status = 206;
        let (mut first, mut total) = (i128::from(range.0), i128::from(self.body.len()));
        let mut last = i128::from(range.1) - 1;
        for fault in faults {
            match fault {
                Fault::WrongContentRange { by } => (first, last) = (first + i128::from(*by), last + i128::from(*by)),
                Fault::WrongTotal { by } => total += i128::from(*by),
                _ => {}
            }
        }
        *self = self.clone().with("Content-Range", &format!("bytes {first}-{last}/{total}"));
        range
    }
}

/// The offsets of the first byte and of the end, or `None` if there are no such bytes.
fn parse_range(text: &str, len: u64) -> Option<(u64, u64)> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let count: u64 = last.parse().ok().filter(|count| *count > 0)?;
        return Some((len.saturating_sub(count), len));
    }
    let first = first.parse().ok().filter(|first| *first < len)?;
    let end = if last.is_empty() { len } else { last.parse::<u64>().ok()?.saturating_add(1).min(len) };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let cases =
            [("0-9", Some((0, 10))), ("5-", Some((5, 100))), ("-10", Some((90, 100))), ("90-200", Some((90, 100)))];
        for (text, range) in cases {
            assert_eq!(parse_range(text, 100), range, "{text}");
        }
        for text in ["100-", "-0", "9-3", "x-y", "1"] {
            assert_eq!(parse_range(text, 100), None, "{text}");
        }
    }
}
