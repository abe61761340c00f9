//! A program that has its own OpenTelemetry and mounts the router.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use mullama_server::{LoadOptions, ModelSource, ModelSpec, ServerConfig, State, Telemetry, router};
use opentelemetry::Context;
use opentelemetry::trace::{FutureExt, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanProcessor};
use tokio::net::{TcpListener, TcpStream};

use crate::chat_of_trace;
use crate::support::{Client, demo};

/// Keeps the spans that have ended.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().expect("nobody panics").push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[tokio::test]
async fn a_program_that_mounts_the_router_records_with_its_own_provider_and_spans() {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).build();
    let tracer = provider.tracer("program");
    let config = ServerConfig { telemetry: Telemetry::new(&provider), ..ServerConfig::default() };
    let spec = ModelSpec { name: "demo".to_owned(), source: ModelSource::File(demo()) };
    let state = State::new(vec![spec], LoadOptions::default(), config, None).expect("its settings are right");
    let around = move |request: Request, next: Next| {
        let context = Context::new().with_span(tracer.start("POST"));
        next.run(request).with_context(context)
    };
    let app = router(state).layer(middleware::from_fn(around));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });

    let mut client = Client::new(TcpStream::connect(address).await.expect("it accepts"));
    client.send(chat_of_trace(r#", "max_tokens": 3, "ignore_eos": true"#)).await;
    assert_eq!(client.answer().await.json()["usage"]["completion_tokens"], 3);
    serving.abort();

    let spans = std::mem::take(&mut *kept.0.lock().expect("nobody panics"));
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect("a span of that name");
    let (own, outer) = (named("chat demo"), named("POST"));
    assert_eq!(own.parent_span_id, outer.span_context.span_id());
    assert_eq!(own.span_kind, SpanKind::Internal);
    assert_eq!(own.instrumentation_scope.name(), "mullama-server");
}
