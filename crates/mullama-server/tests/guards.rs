//! Who is let in, and what malformed requests are answered.

mod support;

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use mullama::{ContextParams, MullamaError};
use mullama_server::{Listen, LoadOptions, Server, ServerConfig, State, router};
use tower_service::Service;

use support::{Running, chat, get, post, start, start_default};

async fn start_with(config: ServerConfig) -> Running {
    start(config, ContextParams::default()).await
}

/// The fields of a request that is answered at once.
const SHORT: &str = r#", "max_tokens": 1"#;

fn chat_with(headers: &str) -> Vec<u8> {
    post("/v1/chat/completions", headers, &support::chat_body("Hello", SHORT))
}

#[tokio::test]
async fn a_server_with_keys_answers_only_those_who_send_one() {
    let keys = vec!["first-key".to_owned(), "second-key".to_owned()];
    let server = start_with(ServerConfig { api_keys: keys, ..ServerConfig::default() }).await;
    for header in ["Authorization: Bearer second-key\r\n", "X-Api-Key: first-key\r\n", "api-key: first-key\r\n"] {
        assert_eq!(server.ask(chat_with(header)).await.status, 200, "{header}");
        assert_eq!(server.ask(get("/v1/models", header)).await.status, 200, "{header}");
    }
    for header in ["", "Authorization: Bearer first\r\n", "X-Api-Key: \r\n"] {
        for answer in [server.ask(chat_with(header)).await, server.ask(get("/v1/models", header)).await] {
            assert_eq!((answer.status, answer.code().as_str()), (401, "INVALID_API_KEY"), "{header}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            assert!(!answer.body.contains("second-key") && !answer.body.contains("first"), "{}", answer.body);
        }
    }
    assert_eq!(server.ask(get("/no-such-path", "")).await.status, 401, "paths are not told to strangers");
    assert_eq!(server.ask(get("/health", "")).await.status, 200);
}

#[tokio::test]
async fn a_large_body_without_a_key_is_answered_and_not_reset() {
    let server = start_with(ServerConfig { api_keys: vec!["key".to_owned()], ..ServerConfig::default() }).await;
    let body = "x".repeat(4 << 20);
    assert_eq!(server.ask(post("/v1/chat/completions", "", &body)).await.status, 401);
    let too_large = "x".repeat(10 << 20);
    let answer = server.ask(post("/v1/chat/completions", "X-Api-Key: key\r\n", &too_large)).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_keys_or_the_word_that_it_needs_none() {
    let bind = async |config: ServerConfig| {
        let state = State::new(Vec::new(), LoadOptions::default(), config, None).expect("valid settings");
        Server::bind(&Listen::Tcp("0.0.0.0".to_owned(), 0), state).await
    };
    let error = bind(ServerConfig::default()).await.expect_err("no keys");
    assert!(error.to_string().contains("api_keys"), "{error}");
    let keys = ServerConfig { api_keys: vec!["key".to_owned()], ..ServerConfig::default() };
    assert!(bind(keys).await.is_ok());
    assert!(bind(ServerConfig { allow_no_keys: true, ..ServerConfig::default() }).await.is_ok());
}

#[tokio::test]
async fn a_web_page_cannot_use_a_local_model_unasked() {
    let server = start_default().await;
    for headers in ["Origin: http://evil.com\r\nContent-Type: text/plain\r\n", "Origin: null\r\n"] {
        let answer = server.ask(chat_with(headers)).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "ORIGIN_NOT_ALLOWED"), "{headers}");
        assert!(!answer.head.contains("access-control-allow-origin"), "{}", answer.head);
    }
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.com\r\n\
                     Access-Control-Request-Method: POST\r\n\r\n";
    let answer = server.ask(preflight).await;
    assert_eq!(answer.status, 403);
    assert!(!answer.head.contains("access-control-allow"), "{}", answer.head);
    assert_eq!(server.ask(chat_with("Origin: http://localhost\r\n")).await.status, 200, "the server's own page");
    server.until("only the server's own page has used the model", |stats| stats.tokens_generated == 1).await;
}

#[tokio::test]
async fn a_page_of_another_site_embeds_nothing_of_the_server() {
    let server = start_default().await;
    let look = |headers: &str| get("/v1/models", headers);
    for mode in ["", "Sec-Fetch-Mode: no-cors\r\n", "Sec-Fetch-Mode: cors\r\nOrigin: http://evil.com\r\n"] {
        let answer = server.ask(look(&format!("Sec-Fetch-Site: cross-site\r\n{mode}"))).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "ORIGIN_NOT_ALLOWED"), "{mode}");
    }
    for headers in ["Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
        assert_eq!(server.ask(look(headers)).await.status, 200, "{headers}");
    }
}

#[tokio::test]
async fn a_mounted_router_takes_only_the_names_that_it_is_given() {
    let app = |allowed_hosts: &[&str]| {
        let allowed_hosts = allowed_hosts.iter().map(|&host| host.to_owned()).collect();
        let config = ServerConfig { allowed_hosts, ..ServerConfig::default() };
        router(State::new(Vec::new(), LoadOptions::default(), config, None).expect("valid settings"))
    };
    for (host, allowed, status) in [
        ("api.example", &[][..], 403),
        ("localhost:3000", &[], 200),
        ("api.example", &["api.example"], 200),
        ("evil.com", &["api.example"], 403),
        ("evil.com", &["*"], 200),
    ] {
        let request = Request::get("/v1/models").header("host", host).body(Body::empty()).expect("a request");
        let response = app(allowed).call(request).await.expect("a router does not fail");
        assert_eq!(response.status(), status, "{host} {allowed:?}");
    }
}

#[tokio::test]
async fn settings_are_checked_before_there_is_a_router_or_a_server() {
    for config in [
        ServerConfig { api_keys: vec![String::new()], ..ServerConfig::default() },
        ServerConfig { write_timeout: Duration::MAX, ..ServerConfig::default() },
        ServerConfig { max_connections: 0, ..ServerConfig::default() },
        ServerConfig { allowed_origins: vec!["junk".to_owned()], ..ServerConfig::default() },
    ] {
        let error = State::new(Vec::new(), LoadOptions::default(), config, None).expect_err("out of range");
        assert!(matches!(error, MullamaError::InvalidConfig { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_upgrade_is_told_to_what() {
    let server = start_with(ServerConfig { websocket: true, ..ServerConfig::default() }).await;
    let answer = server.ask(get("/ws", "")).await;
    assert_eq!(answer.status, 426);
    assert!(answer.head.contains("upgrade: websocket"), "{}", answer.head);
}

#[tokio::test]
async fn a_name_that_a_web_page_gave_to_this_machine_is_refused() {
    let server = start_default().await;
    let by = |host: &str| format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in ["evil.com", "evil.com:8080", "localhost.evil.com"] {
        let answer = server.ask(by(host)).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "HOST_NOT_ALLOWED"), "{host}");
    }
    let absolute = "GET http://evil.com/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(server.ask(absolute).await.status, 403);
    for host in ["localhost", "127.0.0.1:1", "[::1]:1"] {
        assert_eq!(server.ask(by(host)).await.status, 200, "{host}");
    }
    assert_eq!(server.ask("GET /health HTTP/1.1\r\n\r\n").await.status, 400, "no Host");
    let hosts = vec!["my.box".to_owned()];
    let server = start_with(ServerConfig { allowed_hosts: hosts, ..ServerConfig::default() }).await;
    assert_eq!(server.ask(by("my.box:8080")).await.status, 200);
}

#[tokio::test]
async fn an_allowed_web_page_may_send_and_read() {
    let origins = vec!["https://good.com".to_owned()];
    let server = start_with(ServerConfig { allowed_origins: origins, ..ServerConfig::default() }).await;
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://good.com\r\n\
                     Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n";
    let answer = server.ask(preflight).await;
    assert_eq!(answer.status, 204);
    for header in [
        "access-control-allow-origin: https://good.com",
        "access-control-allow-headers: authorization",
        "vary: origin",
        "access-control-allow-credentials: true",
    ] {
        assert!(answer.head.contains(header), "{header}: {}", answer.head);
    }
    for answer in [
        server.ask(chat_with("Origin: https://good.com\r\n")).await,
        server.ask(post("/v1/chat/completions", "Origin: https://good.com\r\n", "no JSON")).await,
    ] {
        assert!(answer.head.contains("access-control-allow-origin: https://good.com"), "{}", answer.head);
    }
    assert!(server.ask(chat(SHORT)).await.head.contains("vary: origin"));
}

#[tokio::test]
async fn malformed_requests_are_bad_requests_and_others_are_answered_meanwhile() {
    let server = start_default().await;
    let many = (0..100_000).map(|index| format!(r#""f{index}": 0"#)).collect::<Vec<_>>().join(", ");
    let deep = format!(r#"{{"messages": {}"#, "[".repeat(100_000));
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        r#"{"messages": 7}"#,
        r#"{"messages": [7]}"#,
        r#"{"messages": []}"#,
        &deep,
        &format!("{{{many}}}"),
        r#"{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}"#,
        r#"{"messages": [{"role": "user", "content": "x"}], "max_tokens": 99999999999999999999999}"#,
        r#"{"messages": [{"role": "user", "content": "x"}], "n": 4294967296}"#,
        r#"{"messages": [{"role": "user", "content": "x"}], "seed": 1.5}"#,
        r#"{"messages": [{"role": "user", "content": "\ud800"}]}"#,
    ];
    for body in bodies {
        let answer = server.ask(post("/v1/chat/completions", "", body)).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.body);
        assert!(!answer.code().is_empty() && answer.body.len() < 8192, "{shown}");
    }
    let answer = server
        .ask(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n{\"a\":\"\xff\xff")
        .await;
    assert_eq!(answer.status, 400);
    assert_eq!(server.ask(chat_with("Content-Type: text/plain\r\n")).await.status, 200);
}

#[tokio::test]
async fn malformed_http_is_refused_and_never_smuggled() {
    let server = start_default().await;
    let start = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
    let smuggled = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 4\r\nContent-Length: 5\r\n", "abcde"),
        ("Content-Length: -1\r\n", ""),
        ("Content-Length: 4x\r\n", "abcd"),
        ("Content-Length: 99999999999999999999999\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n"),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\nabc\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Bad Header: x\r\n", ""),
        ("X: a\0b\r\n", ""),
    ] {
        let mut client = server.connect().await;
        client.send(format!("{start}{headers}\r\n{body}{smuggled}")).await;
        let all = client.read_to_end().await;
        let statuses: Vec<&str> = all.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        let is_refused = !statuses.is_empty() && statuses.iter().all(|status| status.starts_with('4'));
        assert!(is_refused, "{headers:?}: {statuses:?}");
    }
    for request in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\x16\x03\x01\x02\x00\x01"] {
        let mut client = server.connect().await;
        client.send(request).await;
        let read = client.read_to_end().await;
        assert!(read.starts_with("HTTP/1.1 400"), "{request:?}: {read}");
    }
    let huge = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(server.ask(huge).await.status, 431);
    let many = "X: y\r\n".repeat(1000);
    assert_eq!(server.ask(get("/health", &many)).await.status, 431);
    assert_eq!(server.ask(get("/health", "")).await.status, 200);
}
