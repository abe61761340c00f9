//! Spans of real requests, as a collector gets them.

#![allow(unreachable_pub, missing_docs, missing_debug_implementations, reason = "nobody else uses it")]

mod collector;
mod mounted;
mod process;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;

use collector::{Collector, Exported, attribute};
use process::Process;
use support::{chat, chat_body, post};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// A generation that goes on until the context is full.
const ENDLESS: &str = r#", "ignore_eos": true, "max_tokens": -1"#;

/// The header that names the parent. `flags` is 01 if the parent is recorded.
fn traceparent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

fn chat_of_trace(fields: &str) -> Vec<u8> {
    post("/v1/chat/completions", &traceparent("01"), &chat_body("wombats", fields))
}

fn is_of_trace(exported: &Exported) -> bool {
    let span = &exported.span;
    let trace = u128::from_str_radix(TRACE, 16).expect("digits").to_be_bytes();
    let parent = u64::from_str_radix(PARENT, 16).expect("digits").to_be_bytes();
    (span.trace_id.as_slice(), span.parent_span_id.as_slice()) == (&trace[..], &parent[..])
}

/// A collector, and a server that exports to it.
async fn both() -> (Collector, Process) {
    let collector = Collector::start().await;
    let server = Process::start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)]).await;
    (collector, server)
}

#[tokio::test]
async fn a_whole_answer_has_a_span_with_its_numbers_and_without_its_text() {
    let (mut collector, server) = both().await;
    let fields = r#", "model": "demo", "max_tokens": 7, "ignore_eos": true, "temperature": 0.5, "top_p": 0.75, "seed": 42, "stop": ["||", "%%"]"#;
    let answer = server.ask(chat_of_trace(fields)).await.json();
    let exported = collector.span().await;

    assert!(is_of_trace(&exported), "{exported:?}");
    assert_eq!(exported.span.name, "chat demo");
    assert_eq!(exported.span.kind, SpanKind::Server as i32);
    assert_eq!(exported.scope, "mullama-server");
    assert_eq!(attribute(&exported.resource, "service.name").as_deref(), Some("mullama"));
    let (id, port) = (answer["id"].as_str().expect("an id"), server.port());
    let prompt_tokens = answer["usage"]["prompt_tokens"].to_string();
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "mullama"),
        ("gen_ai.request.model", "demo"),
        ("gen_ai.request.max_tokens", "7"),
        ("gen_ai.request.temperature", "0.5"),
        ("gen_ai.request.top_p", "0.75"),
        ("gen_ai.request.seed", "42"),
        ("gen_ai.request.stop_sequences", "[||, %%]"),
        ("gen_ai.request.stream", "false"),
        ("gen_ai.response.id", id),
        ("gen_ai.response.model", "demo"),
        ("gen_ai.response.finish_reasons", "[length]"),
        ("gen_ai.usage.input_tokens", &prompt_tokens),
        ("gen_ai.usage.output_tokens", "7"),
        ("server.address", "localhost"),
    ] {
        assert_eq!(exported.get(name).as_deref(), Some(value), "{name}");
    }
    // The request names no port, so it is that of the scheme.
    assert_eq!(exported.get("server.port").as_deref(), Some("80"), "not {port}");
    for name in ["error.type", "gen_ai.request.choice.count", "gen_ai.response.time_to_first_chunk"] {
        assert_eq!(exported.get(name), None, "{name}");
    }
    assert!(!exported.has_failed());
    let text = answer["choices"][0]["message"]["content"].as_str().expect("a text");
    assert!(text.len() > 4 && !exported.says(text), "the answer is in the span: {text}");
    assert!(!exported.says("wombats"), "the prompt is in the span");
}

#[tokio::test]
async fn the_times_of_a_streamed_answer_are_in_order() {
    let (mut collector, server) = both().await;
    let streamed = chat_of_trace(r#", "stream": true, "max_tokens": 20, "ignore_eos": true"#);
    let mut client = server.connect().await;
    client.send(streamed).await;
    let answer = client.read_until("[DONE]").await;
    let exported = collector.span().await;

    assert!(is_of_trace(&exported), "{exported:?}");
    assert_eq!(exported.get("gen_ai.request.stream").as_deref(), Some("true"));
    assert!(answer.contains(&exported.get("gen_ai.response.id").expect("an id")), "{answer}");
    assert_eq!(exported.get("gen_ai.usage.output_tokens").as_deref(), Some("20"));
    let times = [
        exported.span.start_time_unix_nano,
        exported.event("mullama.slot"),
        exported.event("mullama.first_token"),
        exported.span.end_time_unix_nano,
    ];
    assert!(times.is_sorted() && times[0] < times[3], "{times:?}");
    let first = exported.number("gen_ai.response.time_to_first_chunk");
    let parts = exported.number("mullama.queue_time") + exported.number("mullama.prefill_time");
    assert!(parts <= first && first <= exported.seconds(), "{parts} {first} {}", exported.seconds());
}

#[tokio::test]
async fn a_client_that_leaves_has_a_span_that_was_cancelled() {
    let (mut collector, server) = both().await;
    for stream in ["", r#", "stream": true"#] {
        let mut client = server.connect().await;
        client.send(chat_of_trace(&format!("{ENDLESS}{stream}"))).await;
        if stream.is_empty() {
            server.ask(chat(r#", "max_tokens": 1"#)).await;
            assert_eq!(collector.span().await.get("gen_ai.usage.output_tokens").as_deref(), Some("1"));
        } else {
            client.read_until("\"content\":\"").await;
        }
        drop(client);
        let exported = collector.span().await;
        assert!(is_of_trace(&exported), "{exported:?}");
        assert_eq!(exported.get("gen_ai.response.finish_reasons").as_deref(), Some("[cancelled]"));
        assert_eq!((exported.get("error.type"), exported.has_failed()), (None, false));
        assert!(exported.number("gen_ai.usage.input_tokens") > 0.0, "{exported:?}");
    }
}

#[tokio::test]
async fn a_request_that_fails_has_a_span_with_the_code_of_its_error() {
    let (mut collector, server) = both().await;
    let long = "word ".repeat(100_000);
    for (path, body) in [
        ("/v1/chat/completions", chat_body("wombats", r#", "model": "wrong""#)),
        ("/v1/chat/completions", chat_body(&long, r#", "model": "demo""#)),
        ("/v1/chat/completions", chat_body(&long, r#", "model": "demo", "stream": true"#)),
        ("/v1/completions", r#"{"model": "wrong", "prompt": "wombats"}"#.to_owned()),
    ] {
        let answer = server.ask(post(path, &traceparent("01"), &body)).await;
        assert!(answer.status >= 400, "{answer:?}");
        let exported = collector.span().await;
        assert!(is_of_trace(&exported), "{exported:?}");
        assert_eq!(exported.get("error.type"), Some(answer.code()), "{body:.100}");
        assert!(exported.has_failed() && !exported.says("wombats"), "{exported:?}");
        let model = exported.get("gen_ai.request.model").expect("the model that was asked for");
        let operation = if path.contains("chat") { "chat" } else { "text_completion" };
        assert_eq!(exported.span.name, format!("{operation} {model}"));
    }
    assert!(!collector.has_more(), "a request has more than one span");
}

#[tokio::test]
async fn a_request_that_is_refused_before_it_asks_for_a_model_has_no_span() {
    let (mut collector, server) = both().await;
    let wrong_type = chat_body("wombats", r#", "model": "demo", "max_tokens": "wombats""#);
    for (path, body) in [
        ("/v1/chat/completions", wrong_type.as_str()),
        ("/v1/chat/completions", "{"),
        ("/v1/models", "{}"),
        ("/nothing", "{}"),
        ("/tokenize", r#"{"content": "wombats"}"#),
        ("/tokenize", r#"{"content": 7}"#),
        ("/api/generate", r#"{"model": "demo"}"#),
    ] {
        server.ask(post(path, "", body)).await;
    }
    server.ask(chat(r#", "max_tokens": 3, "ignore_eos": true"#)).await;
    assert_eq!(collector.span().await.get("gen_ai.usage.output_tokens").as_deref(), Some("3"));
}

#[tokio::test]
async fn several_answers_share_a_span_and_the_tokens_of_their_prompt() {
    let (mut collector, server) = both().await;
    let answer = server.ask(chat(r#", "n": 3, "max_tokens": 5, "ignore_eos": true"#)).await.json();
    let exported = collector.span().await;
    assert_eq!(exported.get("gen_ai.request.choice.count").as_deref(), Some("3"));
    assert_eq!(exported.get("gen_ai.response.finish_reasons").as_deref(), Some("[length, length, length]"));
    assert_eq!(exported.get("gen_ai.usage.input_tokens"), Some(answer["usage"]["prompt_tokens"].to_string()));
    assert_eq!(exported.get("gen_ai.usage.output_tokens").as_deref(), Some("15"));
    assert_eq!(exported.span.parent_span_id.len(), 0, "a request without a header starts a trace");
}

#[tokio::test]
async fn each_dialect_has_the_span_of_its_operation() {
    let (mut collector, server) = both().await;
    let messages = r#""model": "demo", "stream": false, "messages": [{"role": "user", "content": "Hi"}]"#;
    for (path, body, operation, prefix) in [
        ("/v1/messages", format!(r#"{{{messages}, "max_tokens": 4}}"#), "chat", "msg_"),
        ("/v1/responses", r#"{"input": "Hi", "max_output_tokens": 4}"#.to_owned(), "chat", "resp_"),
        ("/api/chat", format!(r#"{{{messages}, "options": {{"num_predict": 4}}}}"#), "chat", ""),
        ("/v1/completions", r#"{"prompt": "Hi", "max_tokens": 4}"#.to_owned(), "text_completion", "cmpl-"),
        ("/completion", r#"{"prompt": "Hi", "n_predict": 4}"#.to_owned(), "text_completion", ""),
    ] {
        let answer = server.ask(post(path, &traceparent("01"), &body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let exported = collector.span().await;
        assert!(is_of_trace(&exported), "{path}: {exported:?}");
        assert_eq!(exported.span.name, format!("{operation} demo"), "{path}");
        let id = exported.get("gen_ai.response.id").unwrap_or_default();
        assert!(id.starts_with(prefix) && (prefix.is_empty() || answer.body.contains(&id)), "{path}: {id}");
        assert_eq!(exported.get("gen_ai.request.max_tokens").as_deref(), Some("4"), "{path}");
        assert!(exported.number("gen_ai.usage.input_tokens") > 0.0, "{path}");
    }
}

#[tokio::test]
async fn the_requests_of_a_websocket_have_the_parent_of_its_handshake() {
    let (mut collector, server) = both().await;
    let mut client = server.connect().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.send(support::get("/ws", &format!("{upgrade}{key}{}", traceparent("01")))).await;
    client.read_until("\r\n\r\n").await;
    for (body, operation) in [
        (r#"{"id": 1, "prompt": "Hi", "max_tokens": 4}"#, "text_completion"),
        (r#"{"id": 2, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}"#, "chat"),
    ] {
        // A masked text frame, whose mask changes nothing.
        let mut frame = vec![0x81, 0x80 | u8::try_from(body.len()).expect("short"), 0, 0, 0, 0];
        frame.extend_from_slice(body.as_bytes());
        client.send(frame).await;
        client.read_until("\"done\"").await;
        let exported = collector.span().await;
        assert!(is_of_trace(&exported), "{exported:?}");
        assert_eq!(exported.span.name, format!("{operation} demo"));
        assert_eq!(exported.get("gen_ai.request.stream").as_deref(), Some("true"));
    }
}

#[tokio::test]
async fn a_request_whose_trace_is_not_recorded_has_no_span() {
    let (mut collector, server) = both().await;
    server.ask(post("/v1/chat/completions", &traceparent("00"), &chat_body("Hi", r#", "max_tokens": 2"#))).await;
    server.ask(chat_of_trace(r#", "max_tokens": 3, "ignore_eos": true"#)).await;
    assert_eq!(collector.span().await.get("gen_ai.usage.output_tokens").as_deref(), Some("3"));
}

#[tokio::test]
async fn the_environment_names_the_service_and_the_headers_and_the_sampler() {
    let mut collector = Collector::start().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*format!("{}/v1/traces", collector.endpoint)),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=writers,authorization=Bearer%20key"),
        ("OTEL_SERVICE_NAME", "poems"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
    ];
    let server = Process::start(&variables).await;
    server.ask(chat(r#", "max_tokens": 2"#)).await;
    server.ask(chat_of_trace(r#", "max_tokens": 3, "ignore_eos": true"#)).await;
    let exported = collector.span().await;
    assert!(is_of_trace(&exported), "a request without a parent is recorded: {exported:?}");
    assert_eq!(attribute(&exported.resource, "service.name").as_deref(), Some("poems"));
    assert_eq!(attribute(&exported.resource, "deployment.environment.name").as_deref(), Some("test"));
    assert_eq!(exported.headers["x-team"], "writers");
    assert_eq!(exported.headers["authorization"], "Bearer key");
}

#[tokio::test]
async fn a_server_that_stops_sends_the_spans_that_are_left() {
    let mut collector = Collector::start().await;
    let late = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let server = Process::start(&late).await;
    for _ in 0..3 {
        server.ask(chat_of_trace(r#", "max_tokens": 2"#)).await;
    }
    assert!(!collector.has_more());
    let (took, warnings) = server.stop().await;
    for _ in 0..3 {
        assert!(is_of_trace(&collector.span().await));
    }
    assert!(took < Duration::from_secs(4) && warnings.is_empty(), "{took:?} {warnings:?}");
}

/// Asks a server for ten answers, and stops it.
async fn ten_answers(variables: &[(&str, &str)]) -> (Duration, Vec<String>) {
    let server = Process::start(variables).await;
    for _ in 0..10 {
        let answer = server.ask(chat_of_trace(r#", "max_tokens": 3, "ignore_eos": true"#)).await;
        assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
    }
    server.stop().await
}

#[tokio::test]
async fn requests_go_on_and_the_server_stops_without_a_collector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
    drop(listener);
    let (took, warnings) = ten_answers(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(warnings.iter().any(|warning| warning.contains("ExportError")), "{warnings:?}");
}

#[tokio::test]
async fn a_silent_collector_costs_spans_which_are_counted_and_a_few_seconds_at_the_end() {
    // It accepts connections, because the system does, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it has an address"));
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_BSP_MAX_QUEUE_SIZE", "2")];
    let (took, warnings) = ten_answers(&variables).await;
    assert!(took < Duration::from_secs(7), "{took:?}");
    let counted = warnings.iter().find(|warning| warning.contains("dropped_span_count=")).expect("a count");
    let count =
        counted.split("dropped_span_count=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
    assert!(count.is_some_and(|count| (4..10).contains(&count)), "{warnings:?}");
}

#[tokio::test]
async fn variables_that_cannot_be_used_are_refused_by_name() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (name, value, rule) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "an http:// or https:// URL"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://me:secret@host", "an http:// or https:// URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "otlp or none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "1 to 65536"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon", "1 to 600000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "999999999999999999999", "1 to 600000"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem", "SSL_CERT_FILE"),
    ] {
        let refusal = Process::refusal(&[endpoint, (name, value)]).await;
        assert!(refusal.starts_with(name) && refusal.contains(rule), "{name}={value}: {refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
    }
}
