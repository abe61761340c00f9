//! One connection: reads requests, finds their answers, and sends these with the faults that apply.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::answer::Answer;
use crate::fault::{self, Fault};
use crate::request::{self, Request};
use crate::send::{Sender, send};
use crate::server::Shared;
use crate::{control, hugging_face, registry};

/// A connection that neither asks nor reads for this long is closed.
const IDLE_LIMIT: Duration = Duration::from_mins(2);

/// Answers all requests of a connection, which has a number and arrived at the origin `main` or `cdn`.
pub(crate) fn serve(shared: &Shared, (origin, connection): (&'static str, u64), stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IDLE_LIMIT))?;
    stream.set_write_timeout(Some(IDLE_LIMIT))?;
    while let Some(mut request) = Request::read(stream)? {
        (request.origin, request.connection) = (origin, connection);
        if !serve_one(shared, stream, &request)? || request.closes() {
            break;
        }
    }
    Ok(())
}

/// Answers one request; false if the connection must end.
fn serve_one(shared: &Shared, stream: &TcpStream, request: &Request) -> io::Result<bool> {
    if let Some(path) = request.path.strip_prefix("/_control/") {
        request::finish_headers(stream)?;
        let answer = control::answer(shared, &request.method, path, &request.read_body(stream)?);
        return send(&Sender { shared, stream, request, entry: None, faults: &[] }, answer);
    }
    let faults = fault::of_request(&mut shared.state().rules, &request.method, &request.path);
    let sender = Sender { shared, stream, request, entry: shared.record(request), faults: &faults };
    // A socket that is closed with unread bytes sends a reset.
    if !faults.iter().any(|fault| matches!(fault, Fault::Reset | Fault::CutWithReset { .. })) {
        request::finish_headers(stream)?;
    }
    for fault in &faults {
        match fault {
            Fault::Close | Fault::Reset => return Ok(false),
            Fault::NoAnswer => return hang(shared, stream),
            Fault::Garbage => return (&*stream).write_all(b"SSH-2.0-OpenSSH_9.9\r\n").map(|()| false),
            Fault::SlowStart { ms } if shared.wait(Duration::from_millis(*ms)) => return Ok(false),
            _ => {}
        }
    }
    send(&sender, route(shared, request))
}

/// Waits until the client closes the connection or the server stops.
pub(crate) fn hang(shared: &Shared, stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    while !shared.wait(Duration::ZERO) {
        match stream.peek(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // The byte that was left unread for a reset.
            Ok(1) if shared.wait(Duration::from_millis(20)) => break,
            Ok(1) => {}
            Ok(_) | Err(_) => break,
        }
    }
    Ok(false)
}

fn route(shared: &Shared, request: &Request) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::text(405, "text/plain", "only GET and HEAD");
    }
    let path = request.path.as_str();
    if request.origin == "cdn" {
        return shared.cdn(request);
    }
    if let Some(rest) = path.strip_prefix("/v2/") {
        return registry::answer(shared, request, rest);
    }
    if let Some(rest) = path.strip_prefix("/api/models/") {
        return hugging_face::api(shared, request, rest);
    }
    if path == "/token" {
        return registry::token(shared, request);
    }
    if let Some(answer) = file(shared, path) {
        return answer;
    }
    let resolved = hugging_face::resolve(shared, request, path.trim_start_matches('/'));
    resolved.unwrap_or_else(|| Answer::json(404, &json!({"error": "not found"})))
}

/// A plain file, or one of the length that its name says.
fn file(shared: &Shared, path: &str) -> Option<Answer> {
    let sized = path.strip_prefix("/sized/").and_then(|name| name.strip_suffix(".gguf")?.parse().ok());
    let mut state = shared.state();
    let content = match sized {
        Some(len) => state.site.sized(len)?,
        None => state.site.files.get(path)?.clone(),
    };
    drop(state);
    Some(Answer::file(content.clone(), &format!("file-{}-{}", content.len(), &content.sha256()[..16])))
}
