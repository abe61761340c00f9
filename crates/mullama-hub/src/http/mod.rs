//! HTTP as a hub needs it: verified TLS, redirects that carry no credentials to another host, and limits on everything.

mod auth;
mod body;
mod client;
mod redirect;
mod retry;
mod tls;

use std::time::Duration;

use mullama::DownloadFailure;
use url::Url;

pub(crate) use client::{Answer, Ask, Http};
pub(crate) use retry::{Tries, jittered};

/// Why a request failed.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(crate) failure: DownloadFailure,
    pub(crate) kind: Kind,
}

/// What can be done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another try may succeed: the network failed, or the server is overloaded or stalled. The server may say when.
    Transient { after: Option<Duration> },
    /// Nothing exists at this address (404 or 410).
    Missing,
    /// The server refuses access (401 or 403).
    Refused,
    /// The range begins after the end of the file (416).
    Range,
    /// Another try would fail as well.
    Permanent,
}

impl RequestError {
    /// For a new try although no request failed.
    pub(crate) const SOON: Kind = Kind::Transient { after: None };

    pub(crate) fn transient(failure: DownloadFailure) -> Self {
        Self { failure, kind: Kind::Transient { after: None } }
    }

    pub(crate) fn permanent(failure: DownloadFailure) -> Self {
        Self { failure, kind: Kind::Permanent }
    }
}

/// An address as it may be shown: without credentials, query and fragment, which can hold secrets.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither can fail for an address that has a host; one without a host has nothing to hide there.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Whether a host is this machine itself.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A text from outside as it may be shown: one line, without control characters, of at most 300 characters.
pub(crate) fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_address_has_no_secrets() {
        let url = Url::parse("https://user:pass@example.com/a/b.gguf?X-Amz-Signature=abc#frag").unwrap();
        assert_eq!(shown(&url), "https://example.com/a/b.gguf");
    }

    #[test]
    fn loopback_is_recognized_in_all_spellings() {
        for host in ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "2130706433"] {
            assert!(is_loopback(&Url::parse(&format!("http://{host}:80/")).unwrap()), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "[::2]", "127.0.0.1.nip.io"] {
            assert!(!is_loopback(&Url::parse(&format!("http://{host}/")).unwrap()), "{host}");
        }
    }

    #[test]
    fn a_text_from_outside_becomes_one_short_line() {
        assert_eq!(one_line("  a\r\nb\u{1b}[31m \0 c "), "a b [31m c");
        assert_eq!(one_line(&"é".repeat(400)).chars().count(), 301);
    }
}
