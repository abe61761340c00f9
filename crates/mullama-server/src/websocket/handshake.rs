//! The handshake of RFC 6455: the checks of section 4.2.1 and the answer of section 4.2.2.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::error::ApiError;

/// What the RFC appends to a client's key.
const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The response that switches to the protocol.
pub(super) type Accepted = (StatusCode, [(HeaderName, HeaderValue); 3]);

/// Checks a handshake.
pub(super) fn accept(request: &Request) -> Result<Accepted, ApiError> {
    let headers = request.headers();
    let is_upgrade =
        has_word(headers, &header::CONNECTION, "upgrade") && has_word(headers, &header::UPGRADE, "websocket");
    if request.method() != Method::GET || !is_upgrade {
        return Err(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "INVALID_REQUEST",
            "this path takes WebSocket connections only",
        ));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(ApiError::invalid("the header sec-websocket-version must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default();
    if STANDARD.decode(key).map_or(0, |bytes| bytes.len()) != 16 {
        return Err(ApiError::invalid("the header sec-websocket-key must be 16 bytes as base64"));
    }
    let answer = HeaderValue::from_str(&answer(key))
        .map_err(|_| ApiError::invalid("the header sec-websocket-key is invalid"))?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, answer),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers))
}

fn answer(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{SUFFIX}").as_bytes()))
}

/// Whether a header that lists words has this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(change: impl FnOnce(&mut HeaderMap)) -> Request {
        let mut request = Request::new(Body::empty());
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        change(headers);
        request
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let (status, headers) = accept(&request(|_| {})).expect("a valid handshake");
        assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(headers[2].1, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let status = |name: HeaderName, value: &'static str| {
            let change = |headers: &mut HeaderMap| drop(headers.insert(name, HeaderValue::from_static(value)));
            accept(&request(change)).expect_err("refused").status.as_u16()
        };
        assert_eq!(status(header::CONNECTION, "keep-alive"), 426);
        assert_eq!(status(header::UPGRADE, "h2c"), 426);
        assert_eq!(status(header::SEC_WEBSOCKET_VERSION, "8"), 400);
        assert_eq!(status(header::SEC_WEBSOCKET_KEY, "c2hvcnQ="), 400);
        assert_eq!(status(header::SEC_WEBSOCKET_KEY, "no base64"), 400);
    }
}
