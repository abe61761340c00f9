//! The line that each request has in the log: never its query, its body or its key.

use std::time::Duration;

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
}

impl Access {
    /// Writes the line. `has_ended` is false if the client left before the end of the answer.
    pub(crate) fn log(&self, took: Duration, tokens: u64, has_ended: bool) {
        let path = shortened(&self.path);
        let (method, status, duration_ms) = (self.method, self.status, took.as_secs_f64() * 1e3);
        let is_routine = ROUTINE.contains(&path) || path.starts_with("/assets/");
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "mullama::access", status, duration_ms, tokens, has_ended, "{method} {path}")
            };
        }
        if status >= 500 {
            line!(warn);
        } else if is_routine {
            line!(debug);
        } else {
            line!(info);
        }
    }
}

fn shortened(path: &str) -> &str {
    path.char_indices().nth(SHOWN_CHARS).map_or(path, |(end, _)| &path[..end])
}
