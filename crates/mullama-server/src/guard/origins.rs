//! Web pages: a browser sends a page's requests to any server that it reaches, this machine's among them, and says in
//! `Origin` whose page it is.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::error::ApiError;

/// The origins whose web pages may call the server, besides its own page.
#[derive(Debug)]
pub(super) struct Origins {
    allowed: Vec<String>,
}

impl Origins {
    pub(super) fn new(allowed: &[String]) -> Self {
        let normal = |origin: &String| origin.trim_end_matches('/').to_ascii_lowercase();
        Self { allowed: allowed.iter().map(normal).collect() }
    }

    /// Whether all origins are allowed.
    pub(super) fn is_open(&self) -> bool {
        self.allowed.iter().any(|allowed| allowed == "*")
    }

    /// Whether some but not all origins are allowed, so that answers differ by origin.
    pub(super) fn is_list(&self) -> bool {
        !self.allowed.is_empty() && !self.is_open()
    }

    pub(super) fn allows(&self, origin: &str) -> bool {
        self.is_open() || self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// # Errors
    /// If a web page that may not call the server asks for more than a look. A look is harmless: the browser does not
    /// show the answer to the page.
    pub(super) fn check(&self, request: &Request) -> Result<(), ApiError> {
        let headers = request.headers();
        let is_look = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        // An image or a script of another site: a look at some paths loads a model.
        let is_embedded =
            site == Some(b"cross-site") && headers.get("sec-fetch-mode").is_none_or(|mode| mode != "navigate");
        if (is_look && !is_embedded && !headers.contains_key(header::UPGRADE)) || self.is_open() {
            return Ok(());
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let is_allowed = match (origins.next(), origins.next()) {
            // Only a browser sends `Sec-Fetch-Site`; `none` is a request of its user.
            (None, _) => matches!(site, None | Some(b"same-origin" | b"none")),
            (Some(origin), None) => origin.to_str().is_ok_and(|origin| self.allows(origin) || is_own(origin, request)),
            (Some(_), Some(_)) => false,
        };
        if is_allowed { Ok(()) } else { Err(refused()) }
    }
}

/// Whether an origin is this server, as the client calls it.
fn is_own(origin: &str, request: &Request) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
    let without_port = |name: &'_ str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    host.is_some_and(|host| without_port(host) == without_port(authority))
}

/// The origin of a request, if it names one.
pub(super) fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN)?.to_str().ok()
}

fn refused() -> ApiError {
    let message = "web pages of this origin may not call the server; add it to the server's allowed origins";
    ApiError::new(StatusCode::FORBIDDEN, "ORIGIN_NOT_ALLOWED", message)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::Method;

    use super::Origins;

    fn is_let_in(allowed: &[&str], method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/v1/chat/completions").header("host", "localhost:80");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        request.body(Body::empty()).is_ok_and(|request| Origins::new(&allowed).check(&request).is_ok())
    }

    #[test]
    fn programs_and_the_servers_own_page_are_let_in() {
        assert!(is_let_in(&[], Method::POST, &[]));
        assert!(is_let_in(&[], Method::POST, &[("origin", "http://localhost")]));
        assert!(is_let_in(&[], Method::POST, &[("origin", "http://LOCALHOST:80"), ("sec-fetch-site", "same-origin")]));
        assert!(is_let_in(&[], Method::POST, &[("sec-fetch-site", "none")]));
    }

    #[test]
    fn other_web_pages_are_refused() {
        for origin in [
            "http://evil.com",
            "null",
            "",
            "http://localhost:8080",
            "localhost",
            "file://",
            "chrome-extension://localhost",
            "http://localhost.evil.com",
        ] {
            assert!(!is_let_in(&[], Method::POST, &[("origin", origin)]), "{origin}");
            assert!(!is_let_in(&[], Method::DELETE, &[("origin", origin)]), "{origin}");
            assert!(!is_let_in(&["http://good.com"], Method::POST, &[("origin", origin)]), "{origin}");
            assert!(!is_let_in(&[], Method::GET, &[("origin", origin), ("upgrade", "websocket")]), "{origin}");
            assert!(is_let_in(&[], Method::GET, &[("origin", origin)]), "{origin} may look");
        }
        assert!(!is_let_in(&[], Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(!is_let_in(&[], Method::POST, &[("origin", "http://localhost"), ("origin", "http://evil.com")]));
    }

    #[test]
    fn an_allowed_origin_is_let_in() {
        assert!(is_let_in(&["http://good.com/"], Method::POST, &[("origin", "http://good.com")]));
        assert!(is_let_in(&["*"], Method::POST, &[("origin", "null")]));
    }
}
