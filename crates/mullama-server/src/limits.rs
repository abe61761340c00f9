//! The ranges of a server's settings. They are checked once, when its [`State`](crate::State) is made.

use std::ops::RangeInclusive;
use std::time::Duration;

use mullama::MullamaError;
use url::{Host, Url};

use crate::config::ServerConfig;

/// The numbers of connections that a server may be told to keep open.
const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 20;
/// The bytes of a body that a server may be told to take.
const BODY_BYTES: RangeInclusive<usize> = 1..=1 << 30;
/// The times that a server may be told to wait.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
const LONGEST: Duration = Duration::from_hours(365 * 24);
/// Most keys, origins or hosts.
const MOST_TEXTS: usize = 1000;
/// Most bytes of each.
const LONGEST_TEXT: usize = 4096;

impl ServerConfig {
    /// # Errors
    /// If a setting is out of its range: [`MullamaError::InvalidConfig`] with its name and its value.
    pub(crate) fn check(&self) -> Result<(), MullamaError> {
        check_number("max_connections", self.max_connections, &CONNECTIONS)?;
        check_number("max_body_bytes", self.max_body_bytes, &BODY_BYTES)?;
        if self.socket_mode > 0o777 {
            return Err(invalid("socket_mode", format!("{:#o}", self.socket_mode), "0 to 0o777"));
        }
        for (field, time) in [
            ("header_timeout", Some(self.header_timeout)),
            ("body_timeout", Some(self.body_timeout)),
            ("keep_alive", Some(self.keep_alive)),
            ("write_timeout", Some(self.write_timeout)),
            ("drain_timeout", (!self.drain_timeout.is_zero()).then_some(self.drain_timeout)),
            ("request_timeout", self.request_timeout),
        ] {
            time.map_or(Ok(()), |time| check_time(field, time))?;
        }
        check_keys(&self.api_keys)?;
        let range = "*, null or SCHEME://HOST[:PORT], such as https://chat.example";
        check_texts("allowed_origins", &self.allowed_origins, is_origin, range)?;
        let range = "* or the name of a host without a port, such as my.box";
        check_texts("allowed_hosts", &self.allowed_hosts, is_host, range)
    }
}

/// # Errors
/// If a number is out of its range.
pub(crate) fn check_number(
    field: &'static str,
    value: usize,
    range: &RangeInclusive<usize>,
) -> Result<(), MullamaError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(field, value.to_string(), &format!("{} to {}", range.start(), range.end())))
}

fn check_time(field: &'static str, time: Duration) -> Result<(), MullamaError> {
    if TIMES.contains(&time) { Ok(()) } else { Err(invalid(field, format!("{time:?}"), "1 ms to 365 days")) }
}

/// The keys themselves are in no error.
fn check_keys(keys: &[String]) -> Result<(), MullamaError> {
    let range = "strings of printable ASCII characters without spaces";
    check_count("api_keys", keys)?;
    for (index, key) in keys.iter().enumerate() {
        let fault = match key {
            key if key.is_empty() => "is empty",
            key if key.len() > LONGEST_TEXT => "is too long",
            key if !key.bytes().all(|byte| byte.is_ascii_graphic()) => "has other characters",
            _ => continue,
        };
        let range = format!("{range}, of at most {LONGEST_TEXT} bytes");
        return Err(invalid("api_keys", format!("a list whose key {} {fault}", index + 1), &range));
    }
    Ok(())
}

fn check_texts(
    field: &'static str,
    texts: &[String],
    is_valid: fn(&str) -> bool,
    range: &str,
) -> Result<(), MullamaError> {
    check_count(field, texts)?;
    match texts.iter().find(|text| text.len() > LONGEST_TEXT || !is_valid(text)) {
        Some(text) => {
            let shown: String = text.chars().take(128).collect();
            Err(invalid(field, format!("{shown:?}"), range))
        }
        None => Ok(()),
    }
}

fn check_count(field: &'static str, texts: &[String]) -> Result<(), MullamaError> {
    if texts.len() <= MOST_TEXTS {
        return Ok(());
    }
    Err(invalid(field, format!("a list of {}", texts.len()), &format!("a list of at most {MOST_TEXTS}")))
}

/// Whether a browser may send this text as the origin of a page, apart from a slash at its end.
fn is_origin(text: &str) -> bool {
    if text == "*" || text == "null" {
        return true;
    }
    let Some((_, authority)) = text.strip_suffix('/').unwrap_or(text).split_once("://") else { return false };
    // `Url` takes more than an origin, and puts some of it right.
    let is_bare = !authority.is_empty() && !authority.contains(['/', '\\', '?', '#', '@', '*']);
    is_bare && text.bytes().all(|byte| byte.is_ascii_graphic()) && Url::parse(text).is_ok_and(|url| url.has_host())
}

/// Whether a client may send this text as the name of the server, apart from its case.
fn is_host(text: &str) -> bool {
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    text == "*" || (is_name && !text.ends_with('.') && Host::parse(text).is_ok())
}

fn invalid(field: &'static str, value: impl Into<String>, range: &str) -> MullamaError {
    MullamaError::InvalidConfig { field, value: value.into(), range: range.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mullama::MullamaError;

    use crate::config::ServerConfig;

    fn refused(change: impl FnOnce(&mut ServerConfig)) -> Option<&'static str> {
        let mut config = ServerConfig::default();
        change(&mut config);
        match config.check() {
            Ok(()) => None,
            Err(MullamaError::InvalidConfig { field, .. }) => Some(field),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn numbers_and_times_outside_their_ranges_are_refused_by_name() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|config| config.max_connections = 0), Some("max_connections"));
        assert_eq!(refused(|config| config.max_connections = usize::MAX), Some("max_connections"));
        assert_eq!(refused(|config| config.max_body_bytes = 0), Some("max_body_bytes"));
        assert_eq!(refused(|config| config.socket_mode = 0o1000), Some("socket_mode"));
        assert_eq!(refused(|config| config.drain_timeout = Duration::ZERO), None);
        for time in [Duration::ZERO, Duration::MAX, Duration::from_hours(366 * 24)] {
            assert_eq!(refused(|config| config.header_timeout = time), Some("header_timeout"), "{time:?}");
            assert_eq!(refused(|config| config.body_timeout = time), Some("body_timeout"), "{time:?}");
            assert_eq!(refused(|config| config.keep_alive = time), Some("keep_alive"), "{time:?}");
            assert_eq!(refused(|config| config.write_timeout = time), Some("write_timeout"), "{time:?}");
            assert_eq!(refused(|config| config.request_timeout = Some(time)), Some("request_timeout"), "{time:?}");
        }
        assert_eq!(refused(|config| config.drain_timeout = Duration::MAX), Some("drain_timeout"));
    }

    #[test]
    fn keys_that_no_header_can_hold_are_refused_and_not_shown() {
        for key in ["", "two words", "line\nbreak", "é", &"x".repeat(4097)] {
            let api_keys = vec!["good".to_owned(), key.to_owned()];
            let error = ServerConfig { api_keys, ..ServerConfig::default() }.check().expect_err("a bad key");
            let message = error.to_string();
            assert!(message.contains("key 2") && !message.contains("good"), "{message}");
            assert!(key.is_empty() || !message.contains(key), "{message}");
        }
        assert_eq!(refused(|config| config.api_keys = vec!["k".to_owned(); 1001]), Some("api_keys"));
    }

    #[test]
    fn origins_and_hosts_that_no_browser_can_name_are_refused() {
        for origin in ["*", "null", "https://chat.example", "http://localhost:3000/", "http://[::1]:80", "tauri://x"] {
            assert_eq!(refused(|config| config.allowed_origins = vec![origin.to_owned()]), None, "{origin}");
        }
        for origin in
            ["", "junk", "chat.example", "https://", "https://a b", "https://*.example", "https://a/b", "http://a:x"]
        {
            let field = refused(|config| config.allowed_origins = vec![origin.to_owned()]);
            assert_eq!(field, Some("allowed_origins"), "{origin}");
        }
        for host in ["*", "my.box", "My-Box", "10.0.0.1", "[::1]", "under_score"] {
            assert_eq!(refused(|config| config.allowed_hosts = vec![host.to_owned()]), None, "{host}");
        }
        for host in ["", "my.box:8080", "http://my.box", "a b", "my.box.", "bücher.example", "*.box", "[evil]"] {
            let field = refused(|config| config.allowed_hosts = vec![host.to_owned()]);
            assert_eq!(field, Some("allowed_hosts"), "{host}");
        }
    }
}
