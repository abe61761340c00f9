//! What a request's span needs to know of the request, and the span of a request that fails before its streams are open.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::middleware::{self, Next};
use axum::response::Response;
use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::attributes as names;
use crate::state::State;

/// Most characters of the name of a model that a client asks for.
const NAME_CHARS: usize = 256;
/// Most bytes of the host that a client asks for.
const HOST_BYTES: usize = 253;

/// The endpoints that generate, as the conventions name their operations.
const OPERATIONS: &[(&str, &str)] = &[
    ("/v1/chat/completions", "chat"),
    ("/v1/responses", "chat"),
    ("/v1/messages", "chat"),
    ("/api/chat", "chat"),
    ("/v1/completions", "text_completion"),
    ("/api/generate", "text_completion"),
    ("/completion", "text_completion"),
    ("/completions", "text_completion"),
];

tokio::task_local! {
    static SCOPE: Arc<Scope>;
}

/// The model that a request asks for.
#[derive(Debug, Default)]
enum Asked {
    /// It has not asked.
    #[default]
    Nothing,
    /// The one that requests get that name none.
    Default,
    Named(String),
}

/// A request, from its headers to its response, or all requests of a WebSocket.
#[derive(Debug)]
pub(super) struct Scope {
    tracer: Arc<BoxedTracer>,
    parent: Context,
    kind: SpanKind,
    /// `None` for a WebSocket, whose requests start later.
    pub(super) started: Option<SystemTime>,
    pub(super) operation: Option<&'static str>,
    server: Option<(String, u16)>,
    model: Mutex<Asked>,
    error: OnceLock<&'static str>,
    /// Whether streams were opened, which have the span of the request.
    has_begun: AtomicBool,
}

impl Scope {
    fn of(tracer: Arc<BoxedTracer>, request: &Request, default_port: u16) -> Self {
        // A program that mounts the router may have a span of its own around it.
        let current = Context::current();
        let (parent, kind) = if current.has_active_span() {
            (current, SpanKind::Internal)
        } else {
            let headers = HeaderExtractor(request.headers());
            (TraceContextPropagator::new().extract_with_context(&Context::new(), &headers), SpanKind::Server)
        };
        let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        Self {
            tracer,
            parent,
            kind,
            started: Some(SystemTime::now()),
            operation: OPERATIONS.iter().find(|(known, _)| *known == path).map(|(_, operation)| *operation),
            server: server(request.headers(), default_port),
            model: Mutex::default(),
            error: OnceLock::new(),
            has_begun: AtomicBool::new(false),
        }
    }

    /// The same for the requests of a WebSocket, whose handshake this is.
    fn of_socket(&self) -> Self {
        Self {
            tracer: Arc::clone(&self.tracer),
            parent: self.parent.clone(),
            kind: self.kind.clone(),
            started: None,
            operation: None,
            server: self.server.clone(),
            model: Mutex::default(),
            error: OnceLock::new(),
            has_begun: AtomicBool::new(true),
        }
    }

    /// The scope of the request that the current task handles, if it is recorded.
    pub(super) fn current() -> Option<Arc<Self>> {
        SCOPE.try_with(Arc::clone).ok()
    }

    /// The name of the model that the request asks for.
    pub(super) fn model(&self) -> Option<String> {
        match &*self.asked() {
            Asked::Named(name) => Some(name.clone()),
            Asked::Nothing | Asked::Default => None,
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the span of the request.
    pub(super) fn begin(&self, operation: &'static str, model: Option<&str>, more: Vec<KeyValue>) -> BoxedSpan {
        self.has_begun.store(true, Ordering::Relaxed);
        let mut attributes =
            vec![KeyValue::new(names::OPERATION, operation), KeyValue::new(names::PROVIDER, "mullama")];
        attributes.extend(model.map(|model| KeyValue::new(names::REQUEST_MODEL, model.to_owned())));
        if let Some((address, port)) = &self.server {
            attributes.push(KeyValue::new(names::SERVER_ADDRESS, address.clone()));
            attributes.push(KeyValue::new(names::SERVER_PORT, i64::from(*port)));
        }
        attributes.extend(more);
        let name = model.map_or_else(|| operation.to_owned(), |model| format!("{operation} {model}"));
        let builder = SpanBuilder::from_name(name)
            .with_kind(self.kind.clone())
            .with_start_time(self.started.unwrap_or_else(SystemTime::now))
            .with_attributes(attributes);
        self.tracer.build_with_context(builder, &self.parent)
    }

    /// Records a generation that did not get as far as its streams: one that asked for its model, and failed or was left.
    fn end_without_streams(&self, is_answered: bool) {
        let has_asked = !matches!(*self.asked(), Asked::Nothing);
        let (Some(operation), true) = (self.operation, has_asked) else { return };
        let error = self.error.get();
        if self.has_begun.load(Ordering::Relaxed) || (is_answered && error.is_none()) {
            return;
        }
        let mut span = self.begin(operation, self.model().as_deref(), Vec::new());
        match error {
            Some(code) => fail(&mut span, code),
            None => span.set_attribute(KeyValue::new(names::FINISH_REASONS, names::texts(["cancelled"].into_iter()))),
        }
        span.end();
    }
}

/// Marks a span as failed. The message of the error stays out of it, because it may repeat parts of the request.
pub(super) fn fail(span: &mut BoxedSpan, code: &'static str) {
    span.set_attribute(KeyValue::new(names::ERROR_TYPE, code));
    span.set_status(Status::error(""));
}

/// The address that the client asked for.
fn server(headers: &HeaderMap, default_port: u16) -> Option<(String, u16)> {
    let authority: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    (host.len() <= HOST_BYTES).then(|| (host.to_owned(), authority.port_u16().unwrap_or(default_port)))
}

/// Records the generations of these routes, if telemetry is on.
pub(crate) fn layer(router: Router<State>, state: &State) -> Router<State> {
    if state.config().telemetry.tracer().is_none() {
        return router;
    }
    router.layer(middleware::from_fn_with_state(state.clone(), scoped))
}

async fn scoped(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let Some(tracer) = state.config().telemetry.tracer() else { return next.run(request).await };
    let default_port = if state.config().tls.is_some() { 443 } else { 80 };
    let scope = Arc::new(Scope::of(Arc::clone(tracer), &request, default_port));
    let mut unanswered = Unanswered { scope: Arc::clone(&scope), is_answered: false };
    let response = SCOPE.scope(scope, next.run(request)).await;
    unanswered.is_answered = true;
    response
}

/// A request whose client may leave before it is answered.
struct Unanswered {
    scope: Arc<Scope>,
    is_answered: bool,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.scope.end_without_streams(self.is_answered);
    }
}

/// A task that goes on after its request was answered: a WebSocket's.
pub(crate) fn carried<F: Future>(task: F) -> impl Future<Output = F::Output> {
    let scope = Scope::current().map(|scope| Arc::new(scope.of_socket()));
    async move {
        match scope {
            Some(scope) => SCOPE.scope(scope, task).await,
            None => task.await,
        }
    }
}

/// Notes that the current request asks for a model.
pub(crate) fn asked(model: Option<&str>) {
    let Some(scope) = Scope::current().filter(|scope| scope.started.is_some()) else { return };
    *scope.asked() = match model {
        Some(name) => Asked::Named(name.chars().take(NAME_CHARS).collect()),
        None => Asked::Default,
    };
}

/// Notes that the current request is answered with an error.
pub(crate) fn refused(code: &'static str) {
    if let Some(scope) = Scope::current() {
        let _ = scope.error.set(code);
    }
}
