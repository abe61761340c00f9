//! Who may send which request: API keys, names of the host, and origins of web pages.

mod cors;
mod hosts;
mod keys;
mod lent;
mod origins;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

pub(crate) use keys::given;
use lent::Lent;
pub(crate) use lent::drain;

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::stop::Stop;
use crate::transport::Peer;

/// The paths that need no key: they tell that the server lives, and bring the page that asks for a key.
const OPEN: &[&str] = &["/", "/docs", "/openapi.json", "/health", "/v1/health", "/favicon.ico"];
/// Files of the page.
const OPEN_BELOW: &str = "/assets/";

/// The rules of a server.
#[derive(Debug)]
pub(crate) struct Guard {
    keys: keys::Keys,
    origins: origins::Origins,
    hosts: hosts::Hosts,
    stop: Stop,
}

/// Marks the response of a request that was checked.
#[derive(Debug, Clone, Copy)]
struct Checked;

impl Guard {
    pub(crate) fn new(config: &ServerConfig, stop: Stop) -> Self {
        Self {
            keys: keys::Keys::new(&config.api_keys),
            origins: origins::Origins::new(&config.allowed_origins),
            hosts: hosts::Hosts::new(&config.allowed_hosts),
            stop,
        }
    }

    fn check(&self, request: &Request) -> Result<(), ApiError> {
        let peer = request.extensions().get::<Peer>().copied();
        self.hosts.check(request, peer)?;
        self.origins.check(request)?;
        if !is_open(request.method(), request.uri()) {
            self.keys.check(request.headers())?;
        }
        self.stop.check()
    }
}

fn is_open(method: &Method, uri: &Uri) -> bool {
    let path = uri.path();
    (method == Method::GET || method == Method::HEAD) && (OPEN.contains(&path) || path.starts_with(OPEN_BELOW))
}

/// Lets requests in to the routes, each of which [checks](check) them, and says which web pages may read the answers.
pub(crate) async fn admit(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    if let Some(response) = guard.origins.preflight(&request) {
        return response;
    }
    let headers = guard.origins.headers(request.headers());
    request.extensions_mut().insert(Arc::clone(&guard));
    let path = request.uri().clone();
    let mut response = next.run(request).await;
    if response.extensions_mut().remove::<Checked>().is_none() {
        tracing::error!("the route of {} is not guarded", path.path());
        response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    response.headers_mut().extend(headers);
    response
}

/// Checks a request before its handler runs. It belongs to each dialect's routes, so that the errors have its shape.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let verdict = match request.extensions().get::<Arc<Guard>>() {
        Some(guard) => guard.check(&request),
        None => Err(ApiError::internal()),
    };
    let (parts, body) = request.into_parts();
    let (headers, lent) = (parts.headers.clone(), Lent::new(body));
    let mut response = match verdict {
        Ok(()) => {
            let answered = AssertUnwindSafe(next.run(Request::from_parts(parts, lent.body()))).catch_unwind().await;
            answered.unwrap_or_else(|_| ApiError::internal().into_response())
        }
        Err(error) => error.into_response(),
    };
    if !response.status().is_success() {
        lent.settle(&headers, &mut response).await;
    }
    response.extensions_mut().insert(Checked);
    response
}
