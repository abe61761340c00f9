//! With the feature: spans that follow OpenTelemetry's semantic conventions for generative AI.
//!
//! No text of a prompt, an answer or an error's message is recorded.

mod attributes;
mod client;
mod environment;
mod generation;
mod request;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::global::{BoxedTracer, ObjectSafeTracerProvider};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::SdkTracerProvider;

pub(crate) use generation::Generation;
pub(crate) use request::{asked, carried, layer, refused};

/// Maximum time that a server that stops waits for the collector to take its last spans.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Where the spans of generations go. By default, none are recorded.
///
/// A program that has its own set-up of OpenTelemetry passes its provider:
///
/// ```
/// use mullama_server::{ServerConfig, Telemetry};
/// use opentelemetry_sdk::trace::SdkTracerProvider;
///
/// let provider = SdkTracerProvider::default();
/// let config = ServerConfig { telemetry: Telemetry::new(&provider), ..ServerConfig::default() };
/// ```
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    tracer: Option<Arc<BoxedTracer>>,
    /// The provider that was made from the environment, which the server ends. A program ends its own itself.
    own: Option<Arc<Own>>,
}

impl Telemetry {
    /// Records spans with a tracer of this provider, which the program flushes and shuts down itself.
    /// [`opentelemetry::global::tracer_provider`] is one, too.
    pub fn new(provider: &impl ObjectSafeTracerProvider) -> Self {
        let scope = InstrumentationScope::builder("mullama-server").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { tracer: Some(Arc::new(BoxedTracer::new(provider.boxed_tracer(scope)))), own: None }
    }

    /// Exports spans by OTLP over HTTP with protobuf, if the environment asks for it by `OTEL_EXPORTER_OTLP_ENDPOINT`,
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_TRACES_EXPORTER=otlp`; otherwise nothing is recorded.
    ///
    /// A thread of its own sends the spans, from a bounded queue: when it is full, because the collector is slow or gone,
    /// spans are dropped and counted in the log. The server to which this is given sends what is left when it stops, for at
    /// most 5 s, after which nothing more is recorded.
    ///
    /// # Errors
    /// If a variable has a value that cannot be used, or the certificates of the system cannot be read for `https`.
    pub fn from_env() -> io::Result<Self> {
        let Some(provider) = environment::provider()? else { return Ok(Self::default()) };
        Ok(Self { own: Some(Arc::new(Own(provider.clone()))), ..Self::new(&provider) })
    }

    fn tracer(&self) -> Option<&Arc<BoxedTracer>> {
        self.tracer.as_ref()
    }

    /// Sends the spans that are left, of a provider from the environment.
    pub(crate) async fn flush(&self) {
        let Some(own) = self.own.clone() else { return };
        // The SDK blocks its caller.
        let ended = tokio::task::spawn_blocking(move || own.end()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!("spans are lost, because the collector did not take them while the server stopped: {error}");
        }
    }
}

/// A provider that ends when its server does.
#[derive(Debug)]
struct Own(SdkTracerProvider);

impl Own {
    fn end(&self) -> OTelSdkResult {
        self.0.shutdown_with_timeout(FLUSH_LIMIT)
    }
}

impl Drop for Own {
    /// Ends a provider whose server was dropped without an end. The SDK would block the thread that drops it.
    fn drop(&mut self) {
        let provider = self.0.clone();
        let end = move || provider.shutdown_with_timeout(FLUSH_LIMIT);
        drop(std::thread::Builder::new().name("mullama-telemetry".into()).spawn(end));
    }
}
