//! Requests of every dialect, answered without a socket.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use mullama::ContextParams;
use serde_json::{Value, json};
use tower_service::Service as _;

use crate::{LoadOptions, ModelSource, ModelSpec, ServerConfig, State};

/// A server of the demo model, whose engine takes three streams.
fn state(config: ServerConfig) -> State {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
    let spec = ModelSpec { name: "demo".to_owned(), source: ModelSource::File(path.into()) };
    let context = ContextParams { n_ctx: Some(256), n_parallel: 1, max_queue: 2, ..ContextParams::default() };
    State::new(vec![spec], LoadOptions { context, ..LoadOptions::default() }, config, None).expect("valid settings")
}

/// The status and the document of an answer.
async fn ask(state: &State, path: &str, body: &Value) -> (u16, Value) {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    let request = request.body(Body::from(body.to_string())).expect("a request");
    let answer = crate::router(state.clone()).call(request).await.expect("it never fails");
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.expect("the whole body").to_bytes();
    (status, serde_json::from_slice(&bytes).expect("a document"))
}

/// A request of this path that is answered, with further fields.
fn asked(path: &str, fields: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut body = match path {
        "/v1/completions" | "/completion" => json!({"prompt": "Hi", "max_tokens": 1}),
        "/v1/responses" => json!({"input": "Hi", "max_output_tokens": 1}),
        "/api/generate" => json!({"model": "demo", "prompt": "Hi", "stream": false}),
        "/api/chat" => json!({"model": "demo", "messages": messages, "stream": false}),
        "/tokenize" => json!({"content": "Hi"}),
        "/detokenize" => json!({"tokens": [65]}),
        "/apply-template" | "/v1/messages/count_tokens" => json!({"messages": messages}),
        "/api/show" => json!({}),
        _ => json!({"messages": messages, "max_tokens": 1}),
    };
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_wrong_field_loads_no_model() {
    let state = state(ServerConfig::default());
    for (path, fields) in [
        ("/v1/chat/completions", json!({"top_p": 7})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user"}]})),
        ("/v1/chat/completions", json!({"unknown": 1})),
        ("/v1/completions", json!({"prompt": [[]], "n": 0})),
        ("/v1/completions", json!({"echo": true, "logprobs": 1})),
        ("/v1/responses", json!({"input": [{"role": "robot", "content": "x"}]})),
        ("/v1/messages", json!({"max_tokens": 0})),
        ("/v1/messages", json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]})),
        ("/v1/messages/count_tokens", json!({"messages": [{"role": "tool", "content": "x"}]})),
        ("/api/generate", json!({"options": {"num_ctx": "long"}})),
        ("/api/generate", json!({"raw": true, "system": "x"})),
        ("/api/chat", json!({"messages": [{"role": "", "content": "x"}]})),
        ("/completion", json!({"prompt": [{}]})),
        ("/completion", json!({"n_cmpl": 0})),
        ("/tokenize", json!({"content": {}})),
        ("/detokenize", json!({"tokens": [-1]})),
        ("/apply-template", json!({"messages": "x"})),
    ] {
        let (status, document) = ask(&state, path, &asked(path, &fields)).await;
        assert_eq!(status, 400, "{path} {fields}: {document}");
        assert!(state.models().resident().is_empty(), "{path} {fields}");
    }
}

#[tokio::test]
async fn more_answers_than_the_engine_takes_are_no_overload_but_a_wrong_request() {
    let state = state(ServerConfig::default());
    let prompts = |count: usize| json!(vec!["Hi"; count]);
    for (path, fields, words) in [
        ("/v1/chat/completions", json!({"n": 4}), "n is 4, but this server computes at most 3 answers"),
        ("/v1/completions", json!({"n": 128}), "n is 128, but"),
        ("/v1/completions", json!({"prompt": prompts(4)}), "prompt is a list of 4 prompts, but"),
        ("/v1/completions", json!({"prompt": prompts(2), "n": 2}), "n is 2 for each of 2 prompts, but"),
        ("/completion", json!({"n_cmpl": 4}), "n_cmpl is 4, but"),
        ("/completion", json!({"n": 4}), "n is 4, but"),
        ("/completion", json!({"prompt": prompts(128), "n_cmpl": 128}), "prompt is a list of 128 prompts, but"),
    ] {
        let (status, document) = ask(&state, path, &asked(path, &fields)).await;
        let message = document["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.starts_with(words), "{path} {fields}: {status} {document}");
    }
    for (path, fields) in [("/v1/chat/completions", json!({"n": 3})), ("/completion", json!({"prompt": prompts(3)}))] {
        // Streams that have just ended may still be counted.
        let (status, document) = ask(&self::state(ServerConfig::default()), path, &asked(path, &fields)).await;
        assert_eq!(status, 200, "{path} {fields}: {document}");
    }
}

#[tokio::test]
async fn errors_that_clients_act_on_have_the_codes_that_they_know() {
    let open = state(ServerConfig::default());
    let locked = state(ServerConfig { api_keys: vec!["secret".to_owned()], ..ServerConfig::default() });
    let long = "word ".repeat(1000);
    for (state, path, fields, status, code, own) in [
        (&open, "/v1/chat/completions", json!({"model": "other"}), 404, "model_not_found", "MODEL_NOT_FOUND"),
        (&open, "/v1/completions", json!({"prompt": long}), 400, "context_length_exceeded", "CONTEXT_OVERFLOW"),
        (&locked, "/v1/responses", json!({}), 401, "invalid_api_key", "INVALID_API_KEY"),
    ] {
        let (found, document) = ask(state, path, &asked(path, &fields)).await;
        let error = &document["error"];
        assert_eq!((found, &error["type"]), (status, &json!("invalid_request_error")), "{document}");
        assert_eq!((&error["code"], &error["mullama_code"]), (&json!(code), &json!(own)));
    }
    let messages = json!({"messages": [{"role": "user", "content": long}]});
    let (status, document) = ask(&open, "/v1/messages", &asked("/v1/messages", &messages)).await;
    let message = document["error"]["message"].as_str().unwrap_or_default();
    let numbers =
        message.strip_prefix("prompt is too long: ").and_then(|rest| rest.strip_suffix(" tokens > 255 maximum"));
    assert_eq!((status, &document["error"]["type"]), (400, &json!("invalid_request_error")), "{document}");
    assert!(numbers.is_some_and(|tokens| tokens.parse::<u32>().is_ok_and(|tokens| tokens > 255)), "{message}");
}

#[tokio::test]
async fn a_client_may_shorten_the_limit_of_a_request_and_not_lengthen_it() {
    let limit = Some(Duration::from_mins(1));
    let state = state(ServerConfig { request_timeout: limit, ..ServerConfig::default() });
    for path in ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/completion", "/api/chat"] {
        let with = |ms: u64| {
            let fields = json!({"timeout_ms": ms});
            asked(path, &if path == "/api/chat" { json!({"options": fields}) } else { fields })
        };
        for ms in [0, 60_001, u64::MAX] {
            let (status, document) = ask(&state, path, &with(ms)).await;
            let words = format!("timeout_ms is {ms}, but this server allows 1 to 60000");
            assert!(status == 400 && document.to_string().contains(&words), "{path}: {document}");
        }
        let (status, document) = ask(&state, path, &with(60_000)).await;
        assert_eq!(status, 200, "{path}: {document}");
    }
}

#[tokio::test]
async fn every_dialect_of_answers_takes_the_extensions() {
    let state = state(ServerConfig::default());
    let fields = json!({
        "buffer_size": 4, "ignore_eos": true, "dry_multiplier": 0.5, "xtc_probability": 0.1, "mirostat": 2,
        "stop_token_ids": [1], "min_p": 0.1, "seed": i64::MAX, "cache_prompt": false, "logit_bias": {"65": 1},
    });
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/completion"] {
        let (status, document) = ask(&state, path, &asked(path, &fields)).await;
        assert_eq!(status, 200, "{path}: {document}");
    }
    for path in ["/api/generate", "/api/chat"] {
        let mut options = fields.clone();
        options["num_predict"] = json!(1);
        let (status, document) = ask(&state, path, &asked(path, &json!({"options": options}))).await;
        assert_eq!(status, 200, "{path}: {document}");
        let wrong = json!({"options": {"cache_prompt": false, "deterministic": false}});
        let (status, document) = ask(&state, path, &asked(path, &wrong)).await;
        assert!(status == 400 && document["error"].to_string().contains("options.cache_prompt"), "{document}");
    }
}

#[tokio::test]
async fn the_type_of_a_choice_is_checked_before_its_other_fields() {
    let state = state(ServerConfig::default());
    for (fields, words) in [
        (json!({"thinking": {"budget_tokens": 2000, "type": "enabled"}}), "thinking.type must be disabled: "),
        (json!({"tool_choice": {"name": "f", "type": "tool"}}), "tool_choice.type must be none or auto: "),
        (json!({"thinking": {"type": "disabled", "budget_tokens": 1}}), "thinking.budget_tokens is not supported yet"),
    ] {
        for path in ["/v1/messages", "/v1/messages/count_tokens"] {
            let (status, document) = ask(&state, path, &asked(path, &fields)).await;
            let message = document["error"]["message"].as_str().unwrap_or_default();
            assert!(status == 400 && message.starts_with(words), "{path} {fields}: {document}");
        }
    }
}

#[tokio::test]
async fn the_field_of_an_error_is_the_path_of_what_is_wrong() {
    let state = state(ServerConfig::default());
    let role = json!({"messages": [{"role": "banana", "content": "Hi"}]});
    let bias = json!({"logit_bias": {"99999": 1}});
    for (fields, param) in [(role, "messages[0].role"), (bias, "logit_bias.99999")] {
        let (status, document) = ask(&state, "/v1/chat/completions", &asked("/v1/chat/completions", &fields)).await;
        assert_eq!((status, &document["error"]["param"]), (400, &json!(param)), "{document}");
    }
}

#[tokio::test]
async fn a_bias_of_a_text_is_that_of_each_of_its_tokens() {
    let state = state(ServerConfig::default());
    let (_, document) = ask(&state, "/tokenize", &json!({"content": "Hello you"})).await;
    let tokens = document["tokens"].as_array().expect("a list").clone();
    assert!(tokens.len() > 1, "{document}");
    let wanted: Vec<Value> = tokens.iter().map(|token| json!({"token": token, "bias": -1.0})).collect();
    let fields = json!({"logit_bias": [["Hello you", -1]]});
    let (status, document) = ask(&state, "/completion", &asked("/completion", &fields)).await;
    let biases = &document["generation_settings"]["logit_bias"];
    assert_eq!((status, biases), (200, &json!(wanted)), "{document}");
}

#[tokio::test]
async fn a_model_whose_file_is_missing_is_named() {
    let spec = ModelSpec { name: "lost".to_owned(), source: ModelSource::File("/nowhere/lost.gguf".into()) };
    let state = State::new(vec![spec], LoadOptions::default(), ServerConfig::default(), None).expect("valid settings");
    for path in ["/api/show", "/api/chat", "/v1/chat/completions"] {
        let (status, document) = ask(&state, path, &asked(path, &json!({"model": "lost"}))).await;
        let error = &document["error"];
        let message = error.as_str().or_else(|| error["message"].as_str());
        assert_eq!((status, message), (404, Some("the file of lost is missing on the server")), "{path}");
    }
}

#[tokio::test]
async fn the_properties_of_a_model_have_its_end_token_as_it_is_spelled() {
    let request = Request::get("/props").header("host", "localhost").body(Body::empty()).expect("a request");
    let answer = crate::router(state(ServerConfig::default())).call(request).await.expect("it never fails");
    let body = answer.into_body().collect().await.expect("the whole body").to_bytes();
    let document: Value = serde_json::from_slice(&body).expect("a document");
    assert!(document["eos_token"].as_str().is_some_and(|text| !text.is_empty()), "{}", document["eos_token"]);
}

#[tokio::test]
async fn a_client_is_told_how_the_websocket_is_turned_on() {
    let request = Request::get("/ws").header("host", "localhost").body(Body::empty()).expect("a request");
    let answer = crate::router(state(ServerConfig::default())).call(request).await.expect("it never fails");
    assert_eq!(answer.status().as_u16(), 404);
    let body = answer.into_body().collect().await.expect("the whole body").to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("--websocket"), "{body:?}");
}
