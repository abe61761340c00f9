//! What the server can be told to do wrong, and when.

use serde::{Deserialize, Serialize};

/// One way in which an answer is wrong. Several can apply to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant's comment names its fields")]
pub enum Fault {
    /// Closes the connection without an answer.
    Close,
    /// Resets the connection (RST) without an answer.
    Reset,
    /// Answers with bytes that are not HTTP.
    Garbage,
    /// Closes the connection after this many `bytes` of the body.
    Cut { bytes: u64 },
    /// Resets the connection after this many `bytes` of the body.
    CutWithReset { bytes: u64 },
    /// Sends this many `bytes` of the body, and then nothing until the client closes the connection.
    Stall { bytes: u64 },
    /// Accepts the request and sends nothing until the client closes the connection.
    NoAnswer,
    /// Waits `ms` milliseconds before the answer begins.
    SlowStart { ms: u64 },
    /// Sends the body in pieces of `bytes`, with `ms` milliseconds between them.
    Trickle { bytes: u64, ms: u64 },
    /// Promises the wrong Content-Length: `by` bytes more than there are, or less if it is negative.
    WrongLength { by: i64 },
    /// Sends other bytes than the file's, of the same length, under another entity tag if `new_etag`.
    Changed { new_etag: bool },
    /// Inverts the byte at the offset `at` of the file.
    Corrupt { at: u64 },
    /// Sends a file with `bytes` more than it has, with headers that agree.
    Longer { bytes: u64 },
    /// Sends a file with `bytes` less than it has, with headers that agree.
    Shorter { bytes: u64 },
    /// Sends `bytes` more than the headers promise, and then closes the connection.
    MoreThanPromised { bytes: u64 },
    /// Answers with a `status`, `retry_after` if given (seconds or an HTTP date), and `body`.
    Status {
        code: u16,
        #[serde(default)]
        retry_after: Option<String>,
        #[serde(default)]
        body: String,
    },
    /// Redirects to the address `to` with status 307.
    Redirect { to: String },
    /// Ignores Range: answers 200 with the whole file.
    NoRanges,
    /// Ignores If-Range: answers 206 although the file has changed.
    IgnoreIfRange,
    /// Content-Range names an offset that is `by` bytes too high, or too low if it is negative.
    WrongContentRange { by: i64 },
    /// Content-Range names a total length that is `by` bytes too high, or too low if it is negative.
    WrongTotal { by: i64 },
    /// Sends 206 without Content-Range.
    NoContentRange,
    /// Answers with no length: the end of the connection is the end of the body.
    UntilClose,
    /// Answers with chunks, and no length.
    Chunked,
    /// Answers with chunks, but closes the connection after this many `bytes`, before the last chunk.
    ChunkedCut { bytes: u64 },
    /// Adds a header of this many `bytes`.
    HugeHeader { bytes: usize },
    /// Sends headers without end.
    EndlessHeaders,
    /// Sends a JSON list without end.
    EndlessJson,
    /// Sends JSON lists nested this `deep`.
    DeepJson { deep: usize },
    /// Compresses the body with gzip, although nobody asked for that.
    Gzip,
    /// Says that the body is compressed with gzip, although it is not.
    FalseGzip,
    /// Answers 200 with this `body` instead.
    Body { body: String },
    /// Sets or adds the header `name` with `value`.
    Header { name: String, value: String },
    /// Leaves out the header `name`.
    WithoutHeader { name: String },
}

/// A fault with the requests that it applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The path without a query; one that ends in `*` stands for all that begin so.
    pub path: String,
    /// What goes wrong.
    pub fault: Fault,
    /// How many requests it applies to.
    #[serde(default = "always")]
    pub times: u64,
    /// How many requests are answered correctly first.
    #[serde(default)]
    pub skip: u64,
    /// The method that it applies to; any if `None`.
    #[serde(default)]
    pub method: Option<String>,
}

const fn always() -> u64 {
    u64::MAX
}

impl Rule {
    /// A fault of the next `times` requests for `path`.
    pub fn new(path: impl Into<String>, fault: Fault, times: u64) -> Self {
        Self { path: path.into(), fault, times, skip: 0, method: None }
    }

    /// Answers this many requests correctly first.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Applies to requests with this method alone.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Counts a request; returns the fault if it applies.
    fn apply(&mut self, method: &str, path: &str) -> Option<Fault> {
        let matches = match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => self.path == path,
        };
        if !matches || self.method.as_ref().is_some_and(|wanted| wanted != method) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times = self.times.checked_sub(1)?;
        Some(self.fault.clone())
    }
}

/// All faults that apply to a request, which is counted.
pub(crate) fn of_request(rules: &mut Vec<Rule>, method: &str, path: &str) -> Vec<Fault> {
    let faults = rules.iter_mut().filter_map(|rule| rule.apply(method, path)).collect();
    rules.retain(|rule| rule.times > 0);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_applies_to_the_requests_that_it_was_made_for() {
        let mut rules = vec![Rule::new("/a/*", Fault::Close, 2).skip(1).method("GET")];
        let mut ask = |method: &str, path: &str| of_request(&mut rules, method, path).len();
        assert_eq!(ask("GET", "/b"), 0);
        assert_eq!(ask("HEAD", "/a/1"), 0);
        assert_eq!([ask("GET", "/a/1"), ask("GET", "/a/2"), ask("GET", "/a/3"), ask("GET", "/a/4")], [0, 1, 1, 0]);
    }

    #[test]
    fn a_rule_can_be_written_as_json() {
        let rule: Rule =
            serde_json::from_str(r#"{"path": "/x", "fault": {"status": {"code": 503}}, "times": 1}"#).unwrap();
        assert_eq!(rule.fault, Fault::Status { code: 503, retry_after: None, body: String::new() });
        let rule: Rule = serde_json::from_str(r#"{"path": "/x", "fault": "no_ranges"}"#).unwrap();
        assert_eq!((rule.fault, rule.times), (Fault::NoRanges, u64::MAX));
    }
}
