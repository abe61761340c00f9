//! The line that each request has in the log: never its query, its body or its key.

use std::time::Duration;

use tracing::field::display;

/// Paths that are asked for again and again; their lines are for debugging.
const ROUTINE: &[&str] = &["/status", "/metrics", "/health"];
/// Most characters of a path.
const SHOWN_CHARS: usize = 200;

/// What a line says about a request.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) method: &'static str,
    /// The path without the query, as it was sent: percent-encoded, so it has no line breaks. If it ends with the id of
    /// a stream, it is the path of the route.
    pub(crate) path: String,
    pub(crate) status: u16,
    /// The id that the answer has in `x-request-id`.
    pub(crate) request_id: Option<String>,
}

/// How the answer of a request ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// Tokens that were generated for it.
    pub(crate) tokens: u64,
    /// False if the client left before its end.
    pub(crate) has_ended: bool,
    /// The code of the error that it is, or that ended it.
    pub(crate) error: Option<&'static str>,
}

impl Access {
    /// Writes the line.
    pub(crate) fn log(&self, outcome: Outcome) {
        let path = shortened(&self.path);
        let (method, status, request_id) = (self.method, self.status, self.request_id.as_deref().map(display));
        let Outcome { took, tokens, has_ended, error } = outcome;
        let (duration_ms, error) = (milliseconds(took), error.map(display));
        let is_routine = ROUTINE.contains(&path) || path.starts_with("/assets/");
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "mullama::access", status, duration_ms, tokens, has_ended, error, request_id, "{method} {path}")
            };
        }
        if status >= 500 || error.is_some() && status < 400 {
            line!(warn);
        } else if is_routine {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn shortened(path: &str) -> &str {
    path.char_indices().nth(SHOWN_CHARS).map_or(path, |(end, _)| &path[..end])
}
