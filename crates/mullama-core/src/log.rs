//! Collects the log lines of the engine and of llama.cpp for a language that has its own logging.
//!
//! Rust programs install a `tracing` subscriber of their choice and do not need this. For another language's logging, a
//! [`LogQueue`] is the subscriber: the thread that logs never waits for the thread that reads the lines.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, SetGlobalDefaultError};
use tracing::{Event, Level, Metadata, Subscriber};

/// Maximum number of lines kept until they are read; beyond that the oldest are dropped.
const KEPT_LINES: usize = 4096;
/// The target of everything that mullama logs is this, a path under it, or begins with the name of a crate such as
/// `mullama_server`.
const TARGET: &str = "mullama";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// The severity.
    pub level: Level,
    /// The source: `mullama` is the engine, `mullama::llama` is llama.cpp, and `mullama::server::…` the crate
    /// `mullama-server`.
    pub target: Cow<'static, str>,
    /// The text, followed by the event's fields.
    pub message: String,
}

/// A bounded queue of log lines.
#[derive(Debug, Clone, Default)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The maximum verbosity to collect, as an index into [`LEVELS`].
    level: AtomicUsize,
    lines: Mutex<Lines>,
    line_added: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<LogLine>,
    /// Number of lines so far, including those that were taken or dropped.
    logged: u64,
    closed: bool,
}

const LEVELS: [LevelFilter; 6] = [
    LevelFilter::WARN,
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

impl LogQueue {
    /// A queue that is the process's `tracing` subscriber, unless the program has one already: that one gets the lines then.
    pub fn installed() -> Self {
        let queue = Self::default();
        let _ = queue.install();
        queue
    }

    /// Becomes the process's `tracing` subscriber, for warnings and errors of mullama.
    ///
    /// # Errors
    /// If the process already has a subscriber.
    pub fn install(&self) -> Result<(), SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(Queued(Arc::clone(&self.0)))
    }

    /// Sets the level: only lines of this level and more severe ones are collected. The default is `WARN`.
    pub fn listen_to(&self, level: LevelFilter) {
        let at = LEVELS.iter().position(|&known| known == level).unwrap_or(0);
        if self.0.level.swap(at, Ordering::Relaxed) != at {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    /// Takes all lines since the last call, oldest first, without waiting.
    pub fn take(&self) -> Vec<LogLine> {
        self.take_counted().0
    }

    /// Like [`take`](Self::take), and also returns the number of lines that were [`logged`](Self::logged) until then.
    pub fn take_counted(&self) -> (Vec<LogLine>, u64) {
        let mut lines = self.0.lock();
        (lines.kept.drain(..).collect(), lines.logged)
    }

    /// Number of lines logged so far, including those that were taken or dropped.
    pub fn logged(&self) -> u64 {
        self.0.lock().logged
    }

    /// Blocks until there are lines to [`take`](Self::take); `false` once the queue is closed.
    pub fn wait(&self) -> bool {
        let nothing_to_take = |lines: &mut Lines| lines.kept.is_empty() && !lines.closed;
        !self.0.line_added.wait_while(self.0.lock(), nothing_to_take).unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Ends every [`wait`](Self::wait), current and future.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.line_added.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn level(&self) -> LevelFilter {
        LEVELS[self.level.load(Ordering::Relaxed)]
    }
}

/// The subscriber's side of a queue.
struct Queued(Arc<Shared>);

impl Subscriber for Queued {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        source(metadata.target()).is_some() && metadata.is_event() && *metadata.level() <= self.0.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = EventText::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let Some(target) = source(metadata.target()) else { return };
        let line = LogLine { level: *metadata.level(), target, message: text.message + &text.fields };
        let mut lines = self.0.lock();
        if lines.kept.len() == KEPT_LINES {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
        lines.logged += 1;
        drop(lines);
        self.0.line_added.notify_one();
    }

    // mullama opens no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The source of a line with this target; `None` if it is not mullama's.
fn source(target: &str) -> Option<Cow<'_, str>> {
    let rest = target.strip_prefix(TARGET)?;
    if let Some(part) = rest.strip_prefix('_') {
        return Some(format!("{TARGET}::{part}").into());
    }
    (rest.is_empty() || rest.starts_with("::")).then_some(target.into())
}

/// An event as text: its message, then ` name=value` for each field.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_level_and_target_are_queued_in_order_with_their_fields() {
        let queue = LogQueue::default();
        tracing::subscriber::with_default(Queued(Arc::clone(&queue.0)), || {
            tracing::warn!(target: "mullama", rows = 3, "the decode {}", "failed");
            tracing::info!(target: "mullama::llama", "too quiet");
            tracing::error!(target: "mullamania", "another target");
            tracing::error!(target: "mullama::llama", "loud");
            tracing::error!(target: "mullama_server::models", "of another crate");
        });
        let collected = queue.take().into_iter().map(|line| (line.level, line.target.into_owned(), line.message));
        let expected = [
            (Level::WARN, "mullama", "the decode failed rows=3"),
            (Level::ERROR, "mullama::llama", "loud"),
            (Level::ERROR, "mullama::server::models", "of another crate"),
        ];
        assert!(collected.eq(expected.map(|(level, target, text)| (level, target.to_owned(), text.to_owned()))));
    }

    #[test]
    fn a_queue_without_a_reader_keeps_only_the_newest_lines() {
        let queue = LogQueue::default();
        tracing::subscriber::with_default(Queued(Arc::clone(&queue.0)), || {
            (0..KEPT_LINES + 5).for_each(|line| tracing::error!(target: "mullama", "{line}"));
        });
        let kept = queue.take();
        assert_eq!((kept.len(), kept[0].message.as_str()), (KEPT_LINES, "5"));
    }

    #[test]
    fn closing_the_queue_wakes_its_listener() {
        let queue = LogQueue::default();
        let listener = queue.clone();
        let listener = std::thread::spawn(move || listener.wait());
        queue.close();
        assert!(!listener.join().unwrap());
    }
}
