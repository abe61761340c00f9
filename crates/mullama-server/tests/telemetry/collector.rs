//! A collector that takes spans by OTLP over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::support::LIMIT;

/// A collector that runs until it is dropped.
pub struct Collector {
    pub endpoint: String,
    spans: Receiver<Exported>,
    _stop: oneshot::Sender<()>,
}

/// A span as it came.
#[derive(Debug)]
pub struct Exported {
    pub span: Span,
    pub scope: String,
    pub resource: Vec<KeyValue>,
    pub headers: HeaderMap,
    /// The bytes of the request, in which every text is as it is.
    pub bytes: Bytes,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
        let (sender, spans) = channel(1024);
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(Arc::new(sender));
        tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, routes) => served.expect("it serves"),
                _ = stopped => {}
            }
        });
        Self { endpoint, spans, _stop: stop }
    }

    /// The next span.
    pub async fn span(&mut self) -> Exported {
        let next = tokio::time::timeout(LIMIT, self.spans.recv()).await;
        next.expect("a span comes in time").expect("the collector runs")
    }

    /// Whether there is a span that nobody has taken.
    pub fn has_more(&mut self) -> bool {
        self.spans.try_recv().is_ok()
    }
}

async fn take(
    State(spans): State<Arc<Sender<Exported>>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    if headers.get("content-type").is_none_or(|kind| kind != "application/x-protobuf") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = ExportTraceServiceRequest::decode(bytes.clone()).map_err(|_| StatusCode::BAD_REQUEST)?;
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.map(|scope| scope.name).unwrap_or_default();
            for span in of_scope.spans {
                let (headers, bytes) = (headers.clone(), bytes.clone());
                drop(spans.try_send(Exported {
                    span,
                    scope: scope.clone(),
                    resource: resource.clone(),
                    headers,
                    bytes,
                }));
            }
        }
    }
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

/// The value of an attribute as text: lists in brackets.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.as_ref().map(text)
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref().expect("a value") {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(items) => format!("[{}]", items.values.iter().map(text).collect::<Vec<_>>().join(", ")),
        other => panic!("an attribute is {other:?}"),
    }
}

impl Exported {
    pub fn get(&self, name: &str) -> Option<String> {
        attribute(&self.span.attributes, name)
    }

    pub fn number(&self, name: &str) -> f64 {
        let value = self.get(name).unwrap_or_else(|| panic!("{name} is missing: {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    }

    pub fn has_failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == SpanStatus::Error as i32)
    }

    /// The time of an event.
    pub fn event(&self, name: &str) -> u64 {
        let found = self.span.events.iter().find(|event| event.name == name);
        found.unwrap_or_else(|| panic!("{name} is missing: {self:?}")).time_unix_nano
    }

    pub fn seconds(&self) -> f64 {
        std::time::Duration::from_nanos(self.span.end_time_unix_nano - self.span.start_time_unix_nano).as_secs_f64()
    }

    /// Whether these words were sent anywhere.
    pub fn says(&self, words: &str) -> bool {
        self.bytes.windows(words.len()).any(|window| window == words.as_bytes())
    }
}
