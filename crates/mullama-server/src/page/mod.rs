//! The page for browsers: a chat, and the reference of the API. Both are plain files inside the program.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::state::State;

mod status;

/// The pages load nothing from elsewhere, are in no frame, and cannot turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file inside the program.
#[derive(Debug, Clone, Copy)]
struct File {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal $name:literal $content_type:ident,)*) => {
        &[$(File { path: $path, content_type: $content_type, bytes: include_bytes!(concat!("assets/", $name)) }),*]
    };
}

const FILES: &[File] = files![
    "/" "index.html" HTML,
    "/docs" "docs.html" HTML,
    "/assets/style.css" "style.css" STYLE,
    "/assets/icon.svg" "icon.svg" IMAGE,
    "/assets/theme.js" "theme.js" SCRIPT,
    "/assets/main.js" "main.js" SCRIPT,
    "/assets/api.js" "api.js" SCRIPT,
    "/assets/dom.js" "dom.js" SCRIPT,
    "/assets/highlight.js" "highlight.js" SCRIPT,
    "/assets/inline.js" "inline.js" SCRIPT,
    "/assets/live.js" "live.js" SCRIPT,
    "/assets/markdown.js" "markdown.js" SCRIPT,
    "/assets/messages.js" "messages.js" SCRIPT,
    "/assets/settings.js" "settings.js" SCRIPT,
    "/assets/sidebar.js" "sidebar.js" SCRIPT,
    "/assets/store.js" "store.js" SCRIPT,
    "/assets/docs.css" "docs.css" STYLE,
    "/assets/docs.js" "docs.js" SCRIPT,
];

/// The pages, their files, and what the chat page asks about the server's load.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new().route("/status", get(status::status));
    FILES.iter().fold(routes, |routes, file| {
        let tag = tag(file.bytes);
        routes.route(file.path, get(async move |headers: HeaderMap| answer(*file, &tag, &headers)))
    })
}

/// The entity tag of a file: another build with other bytes has another one.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn answer(file: File, tag: &str, request: &HeaderMap) -> Response {
    let is_known = request
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, tag);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_at_most_100_kilobytes() {
        let bytes: usize = FILES.iter().map(|file| file.bytes.len()).sum();
        assert!(bytes <= 100_000, "{bytes}");
    }

    #[test]
    fn files_with_other_bytes_have_other_tags() {
        assert_ne!(tag(b"a"), tag(b"b"));
        assert_eq!(tag(b"a"), tag(b"a"));
    }

    #[test]
    fn a_browser_that_knows_a_file_is_not_sent_it_again() {
        let file = FILES[0];
        let tag = tag(file.bytes);
        let request = |known: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, known.parse().expect("it is a header's value"));
            answer(file, &tag, &headers).status()
        };
        assert_eq!(request(&tag), StatusCode::NOT_MODIFIED);
        assert_eq!(request(&format!("\"x\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(request("\"x\""), StatusCode::OK);
    }
}
