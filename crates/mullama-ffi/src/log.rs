//! Receives llama.cpp's log: every line goes to `tracing`, and the last warnings of each thread are kept for its
//! errors.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char};
use std::panic;

use tracing::Level;

/// The target of every line of llama.cpp in `tracing`.
pub(crate) const TARGET: &str = "mullama::llama";

/// Warnings and errors kept per thread: a refused model or context is explained in the last two or three.
const KEPT_COMPLAINTS: usize = 8;
/// A line without an end is cut at this length, so that memory is bounded.
const MAX_LINE_BYTES: usize = 64 * 1024;

// ggml_log_level, which the bindings spell as plain constants.
const DEBUG: i32 = 1;
const WARN: i32 = 3;
const ERROR: i32 = 4;
const CONT: i32 = 5;

struct Lines {
    level: Level,
    pending: String,
    said: VecDeque<String>,
    /// Lines of a call that may turn out to have been stopped on purpose.
    held: Option<Vec<(Level, String)>>,
}

thread_local! {
    static LINES: RefCell<Lines> = const {
        RefCell::new(Lines { level: Level::INFO, pending: String::new(), said: VecDeque::new(), held: None })
    };
}

/// Forgets this thread's warnings and errors; a call that may report them starts with this.
pub(crate) fn forget_said() {
    LINES.with_borrow_mut(|lines| lines.said.clear());
}

/// The warnings and errors that llama.cpp logged on this thread since [`forget_said`].
pub(crate) fn take_said() -> Vec<String> {
    LINES.with_borrow_mut(|lines| lines.said.drain(..).collect())
}

/// Holds this thread's lines back until [`release`].
pub(crate) fn hold() {
    LINES.with_borrow_mut(|lines| lines.held = Some(Vec::new()));
}

/// Logs the lines that were held back. After a call that was stopped on purpose, llama.cpp's errors about it are only
/// noise, so they are logged as `DEBUG`.
pub(crate) fn release(stopped: bool) {
    let held = LINES.with_borrow_mut(|lines| lines.held.take());
    for (level, line) in held.unwrap_or_default() {
        emit(if stopped { Level::DEBUG } else { level }, &line);
    }
}

/// llama.cpp's log callback. It runs on any thread, inside C++, so it must never unwind.
pub(crate) extern "C" fn on_text(level: i32, text: *const c_char) {
    // If a subscriber panics, the line is lost, which is better than losing the process.
    let _ = panic::catch_unwind(|| {
        if level == DEBUG && !tracing::enabled!(target: TARGET, Level::DEBUG) {
            return;
        }
        // SAFETY: the shim passes llama.cpp's NUL-terminated text, which lives until this call returns.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        // A subscriber may itself log through llama.cpp; its line is dropped, because the buffer is already borrowed.
        let finished = LINES.try_with(|lines| match lines.try_borrow_mut() {
            Ok(mut lines) => {
                let finished = lines.take(level, &text);
                match &mut lines.held {
                    Some(held) => {
                        held.extend(finished);
                        Vec::new()
                    }
                    None => finished,
                }
            }
            Err(_) => Vec::new(),
        });
        // A thread that is ending has no line buffer any more.
        let Ok(finished) = finished else { return };
        for (level, line) in finished {
            emit(level, &line);
        }
    });
}

impl Lines {
    /// Adds a piece of text and returns the lines that it completes.
    fn take(&mut self, level: i32, text: &str) -> Vec<(Level, String)> {
        let mut finished = Vec::new();
        if level != CONT {
            self.finish(&mut finished);
            self.level = match level {
                DEBUG => Level::DEBUG,
                WARN => Level::WARN,
                ERROR => Level::ERROR,
                _ => Level::INFO,
            };
        }
        for piece in text.split_inclusive('\n') {
            self.pending.push_str(piece);
            if piece.ends_with('\n') || self.pending.len() > MAX_LINE_BYTES {
                self.finish(&mut finished);
            }
        }
        finished
    }

    fn finish(&mut self, finished: &mut Vec<(Level, String)>) {
        let line = std::mem::take(&mut self.pending);
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        if self.level <= Level::WARN {
            if self.said.len() == KEPT_COMPLAINTS {
                self.said.pop_front();
            }
            self.said.push_back(line.to_owned());
        }
        finished.push((self.level, line.to_owned()));
    }
}

fn emit(level: Level, line: &str) {
    match level {
        Level::ERROR => tracing::error!(target: TARGET, "{line}"),
        Level::WARN => tracing::warn!(target: TARGET, "{line}"),
        Level::INFO => tracing::info!(target: TARGET, "{line}"),
        _ => tracing::debug!(target: TARGET, "{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines { level: Level::INFO, pending: String::new(), said: VecDeque::new(), held: None }
    }

    #[test]
    fn continued_text_is_one_line_at_the_level_it_began_with() {
        let mut lines = lines();
        assert!(lines.take(WARN, "one, ").is_empty());
        assert!(lines.take(CONT, "two, ").is_empty());
        assert_eq!(lines.take(CONT, "three\n"), [(Level::WARN, "one, two, three".to_owned())]);
    }

    #[test]
    fn a_line_without_an_end_is_completed_by_the_next_one() {
        let mut lines = lines();
        assert!(lines.take(2, "no end").is_empty());
        let finished = lines.take(ERROR, "next\n");
        assert_eq!(finished, [(Level::INFO, "no end".to_owned()), (Level::ERROR, "next".to_owned())]);
    }

    #[test]
    fn only_the_last_warnings_and_errors_are_kept() {
        let mut lines = lines();
        for number in 0..20 {
            lines.take(ERROR, &format!("{number}\n"));
        }
        lines.take(2, "said by the way\n");
        assert_eq!(lines.said.len(), KEPT_COMPLAINTS);
        assert_eq!(lines.said.back().map(String::as_str), Some("19"));
    }
}
