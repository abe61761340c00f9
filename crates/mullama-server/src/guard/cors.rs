//! What a browser is told about the web pages that may read answers.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::origins::{Origins, origin};

/// What a page may send.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
/// What a page may read besides the headers that every page may.
const EXPOSED: HeaderValue = HeaderValue::from_static("x-request-id, x-stream-id, retry-after");
/// Seconds for which a browser remembers the answer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// A browser asks for this header before a page of the internet calls a server on a private network.
const PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const PRIVATE_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");

const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Origins {
    /// The headers of each answer to a web page.
    pub(super) fn headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.is_list() {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = origin(request).filter(|origin| self.allows(origin)) else { return headers };
        if self.is_open() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else if let Ok(origin) = HeaderValue::from_str(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers
    }

    /// The answer to a browser that asks whether a page may send a request; `None` if this is no such question.
    pub(super) fn preflight(&self, request: &Request) -> Option<Response> {
        let asked = request.headers();
        let origin = origin(asked)?;
        if request.method() != Method::OPTIONS || !asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut headers = self.headers(asked);
        if !self.allows(origin) {
            return Some((StatusCode::FORBIDDEN, headers).into_response());
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        // Every header may be sent: what the server does not know it ignores.
        if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if asked.contains_key(PRIVATE) {
            headers.insert(PRIVATE_ALLOWED, TRUE);
        }
        Some((StatusCode::NO_CONTENT, headers).into_response())
    }
}
