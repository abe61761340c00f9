//! What a request says about its body.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::error::ApiError;

/// Types of bodies that are read as JSON: what is JSON by name, and what curl and browsers call a text without being
/// asked.
const READ: [&str; 3] = ["application/json", "application/x-www-form-urlencoded", "text/plain"];
/// Ends of types that are JSON in a narrower form.
const JSON_SUFFIX: &str = "+json";
/// Most characters of a header that an error repeats.
const SHOWN_CHARS: usize = 80;

/// Refuses bodies that are called something else than JSON, or that are compressed.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let text =
        |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).to_lowercase());
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        return Err(unsupported(
            &header::CONTENT_ENCODING,
            &encoding,
            "the server reads bodies that are not compressed",
        ));
    }
    let Some(full) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let mut parts = full.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let is_json = name.is_empty() || READ.contains(&name) || name.ends_with(JSON_SUFFIX);
    let mut charsets = parts.filter_map(|part| part.strip_prefix("charset="));
    let is_utf8 = charsets.all(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
    if is_json && is_utf8 {
        return Ok(());
    }
    Err(unsupported(&header::CONTENT_TYPE, &full, "send the body as application/json in UTF-8"))
}

fn unsupported(name: &HeaderName, value: &str, advice: &str) -> ApiError {
    let value: String = value.chars().take(SHOWN_CHARS).collect();
    let message = format!("the {name} of the request is {value}, which is not supported; {advice}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

    use super::check_headers;

    fn is_read(name: HeaderName, value: &'static [u8]) -> bool {
        let value = HeaderValue::from_bytes(value).expect("a valid header");
        check_headers(&HeaderMap::from_iter([(name, value)])).is_ok()
    }

    #[test]
    fn json_and_what_clients_call_it_is_read() {
        assert!(check_headers(&HeaderMap::new()).is_ok());
        for name in [
            &b"application/json"[..],
            b"Application/JSON; Charset=UTF-8",
            b"application/vnd.api+json",
            b"application/x-www-form-urlencoded",
            b"text/plain;charset=\"utf-8\"",
            b"",
        ] {
            assert!(is_read(header::CONTENT_TYPE, name), "{}", String::from_utf8_lossy(name));
        }
        assert!(is_read(header::CONTENT_ENCODING, b"identity"));
    }

    #[test]
    fn other_types_encodings_and_charsets_are_refused() {
        for name in [
            &b"application/xml"[..],
            b"multipart/form-data; boundary=x",
            b"application/json; charset=utf-16",
            b"application/jsonx",
            b"\xff",
        ] {
            assert!(!is_read(header::CONTENT_TYPE, name), "{}", String::from_utf8_lossy(name));
        }
        assert!(!is_read(header::CONTENT_ENCODING, b"gzip"));
    }
}
