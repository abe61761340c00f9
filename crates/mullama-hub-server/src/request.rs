//! Reads one request of a connection, and records what was asked.

use std::io::{self, Read};
use std::net::TcpStream;

use serde::Serialize;

/// No header of a client is longer than this, in bytes.
const HEADERS_LIMIT: usize = 64 << 10;
/// No body of a client is longer than this, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// What was asked, and how it was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Request {
    /// `main` or `cdn`: which of the server's two addresses was asked.
    pub origin: &'static str,
    /// The connection; one number serves all requests that arrive over it.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The query without the question mark.
    pub query: String,
    /// The header Range.
    pub range: Option<String>,
    /// The header If-Range.
    pub if_range: Option<String>,
    /// The header Authorization.
    pub authorization: Option<String>,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status that was answered; 0 while there is none.
    pub status: u16,
    /// Bytes of the body that were handed to the system so far.
    pub sent: u64,
    /// Whether the answer was sent completely.
    pub complete: bool,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// First and last byte of a Range header such as `bytes=0-9` or `bytes=10-`.
    pub fn first_and_last(&self) -> Option<(u64, Option<u64>)> {
        let (first, last) = self.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, if last.is_empty() { None } else { Some(last.parse().ok()?) }))
    }

    /// Reads the next request, or `None` at the end of the connection.
    ///
    /// The last byte of the headers stays unread: a socket that is closed with unread bytes sends a reset, which is how
    /// [`Fault::Reset`](crate::Fault::Reset) is made. [`finish_headers`] reads it.
    pub(crate) fn read(mut stream: &TcpStream) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r") {
            if head.len() > HEADERS_LIMIT {
                return Err(io::Error::other("the headers of the request are too long"));
            }
            if stream.read(&mut byte)? == 0 {
                return Ok(None);
            }
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head);
        let mut lines = text.lines();
        let line = lines.next().unwrap_or_default();
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (words.next(), words.next(), words.next())
        else {
            return Err(io::Error::other(format!("not a request: {line}")));
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request =
            Self { method: method.into(), path: path.into(), query: query.into(), headers, ..Self::default() };
        request.range = request.header("range").map(Into::into);
        request.if_range = request.header("if-range").map(Into::into);
        request.authorization = request.header("authorization").map(Into::into);
        Ok(Some(request))
    }

    /// Reads the body, whose length the headers say.
    pub(crate) fn read_body(&self, mut stream: &TcpStream) -> io::Result<Vec<u8>> {
        let len = self.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        if len > BODY_LIMIT {
            return Err(io::Error::other("the body of the request is too long"));
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Whether the client wants the connection to end after this request.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads the byte that [`Request::read`] leaves.
pub(crate) fn finish_headers(mut stream: &TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0])
}
