//! What the server measures, in the text format of Prometheus and `OpenMetrics` at `/metrics`.
//!
//! The metrics belong to one [`State`](crate::State); nothing here is global, so that a program may mount several servers.

mod engines;
mod recorder;
mod requests;
mod trim;

use std::sync::Arc;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::ApiError;
use crate::state::State;

pub(crate) use recorder::Recorder;
pub(crate) use requests::{observed, refused};

/// The labels of a metric: names, and values that come from bounded sets.
type Labels<const N: usize> = [(&'static str, String); N];
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// Everything that is counted as it happens. Clones share their numbers.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Family<Labels<3>, Counter>,
    connections: Gauge,
    streams: Family<Labels<2>, Counter>,
    prompt_tokens: Family<Labels<1>, Counter>,
    cached_tokens: Family<Labels<1>, Counter>,
    generated_tokens: Family<Labels<1>, Counter>,
    queue_time: Histograms<1>,
    first_token: Histograms<1>,
    compute_gap: Histograms<1>,
    reader_wait: Histograms<1>,
    cancel_latency: Histograms<2>,
}

/// Doubling bounds from 1 ms to 65 s.
fn waits() -> Histogram {
    Histogram::new((0..17).map(|power| 0.001 * f64::from(1 << power)))
}

/// Doubling bounds from 0.1 ms to 6.5 s.
fn gaps() -> Histogram {
    Histogram::new((0..17).map(|power| 0.0001 * f64::from(1 << power)))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Families {
            requests: Family::default(),
            connections: Gauge::default(),
            streams: Family::default(),
            prompt_tokens: Family::default(),
            cached_tokens: Family::default(),
            generated_tokens: Family::default(),
            queue_time: Family::new_with_constructor(waits),
            first_token: Family::new_with_constructor(waits),
            compute_gap: Family::new_with_constructor(gaps),
            reader_wait: Family::new_with_constructor(gaps),
            cancel_latency: Family::new_with_constructor(gaps),
        }))
    }

    /// Counts a connection as open until the result is dropped.
    pub(crate) fn connection(&self) -> OpenConnection {
        self.0.connections.inc();
        OpenConnection(self.0.connections.clone())
    }

    /// Counts an answered request. `endpoint` is the path of the route, never that of the request.
    fn count_request(&self, endpoint: &str, method: &str, status: u16) {
        let labels = [("endpoint", endpoint.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        self.0.requests.get_or_create(&labels).inc();
    }

    fn register(&self, registry: &mut Registry) {
        let all = &*self.0;
        registry.register("requests", "Requests by endpoint and status", all.requests.clone());
        registry.register("connections_open", "Open connections", all.connections.clone());
        registry.register("streams", "Streams by how they ended", all.streams.clone());
        registry.register("prompt_tokens", "Tokens of prompts of ended streams", all.prompt_tokens.clone());
        registry.register("prompt_tokens_cached", "Those of them that were reused", all.cached_tokens.clone());
        registry.register("generated_tokens", "Generated tokens", all.generated_tokens.clone());
        registry.register("queue_seconds", "Time until a stream got a slot", all.queue_time.clone());
        registry.register("first_token_seconds", "Time until the first token", all.first_token.clone());
        let help = "Time between two tokens without the time that the stream waited for its reader";
        registry.register("token_compute_seconds", help, all.compute_gap.clone());
        let help = "Time between two tokens that the stream waited for its reader";
        registry.register("token_reader_wait_seconds", help, all.reader_wait.clone());
        let help = "Time from a client's leaving to the end of its stream, by phase";
        registry.register("cancel_seconds", help, all.cancel_latency.clone());
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// `/metrics`, if the server offers it.
pub(crate) fn routes(is_served: bool) -> Router<State> {
    if is_served { Router::new().route("/metrics", get(metrics)) } else { Router::new() }
}

async fn metrics(Shared(state): Shared<State>) -> Result<Response, ApiError> {
    let mut registry = Registry::with_prefix("mullama");
    state.models().metrics().register(&mut registry);
    engines::register(state.models(), &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|_| {
        ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the metrics cannot be written")
    })?;
    let headers = [
        (header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, text).into_response())
}
