//! What the engine and llama.cpp say, kept for a language that has a log of its own.
//!
//! Rust programs install a `tracing` subscriber of their choice and need none of this. For another language's logging, a
//! [`LogQueue`] is the subscriber: whoever speaks never waits for who listens.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, SetGlobalDefaultError};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines kept while nobody listens; the oldest are dropped beyond them.
const KEPT_LINES: usize = 4096;
/// Everything that mullama says has a target of this name, or one under it.
const TARGET: &str = "mullama";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// How serious it is.
    pub level: Level,
    /// Who says it: `mullama` is the engine, `mullama::llama` is llama.cpp.
    pub target: &'static str,
    /// The words, with the event's fields behind them.
    pub message: String,
}

/// A bounded queue of log lines.
#[derive(Debug, Clone, Default)]
pub struct LogQueue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How much is listened to, as the position in [`LEVELS`].
    level: AtomicUsize,
    lines: Mutex<Lines>,
    spoken: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<LogLine>,
    /// Lines so far, including those that were taken or dropped.
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
    /// Becomes the process's `tracing` subscriber, for warnings and errors of mullama.
    ///
    /// # Errors
    /// If the process has one already.
    pub fn install(&self) -> Result<(), SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(Queued(Arc::clone(&self.0)))
    }

    /// Listens to lines of this level and worse.
    pub fn listen_to(&self, level: LevelFilter) {
        let at = LEVELS.iter().position(|&known| known == level).unwrap_or(0);
        if self.0.level.swap(at, Ordering::Relaxed) != at {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    /// All lines since the last call, oldest first, without waiting.
    pub fn take(&self) -> Vec<LogLine> {
        self.take_counted().0
    }

    /// As [`take`](Self::take), with the number of lines that were [`logged`](Self::logged) until then.
    pub fn take_counted(&self) -> (Vec<LogLine>, u64) {
        let mut lines = self.0.lock();
        (lines.kept.drain(..).collect(), lines.logged)
    }

    /// How many lines were logged so far, including those that were taken or dropped.
    pub fn logged(&self) -> u64 {
        self.0.lock().logged
    }

    /// Waits until there are lines to [`take`](Self::take); `false` once the queue is closed.
    pub fn wait(&self) -> bool {
        let silent = |lines: &mut Lines| lines.kept.is_empty() && !lines.closed;
        !self.0.spoken.wait_while(self.0.lock(), silent).unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Ends every [`wait`](Self::wait), now and later.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.spoken.notify_all();
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
        let ours = metadata.target().strip_prefix(TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        ours && metadata.is_event() && *metadata.level() <= self.0.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = VocabularyView::default();
        event.record(&mut words);
        let metadata = event.metadata();
        let line =
            LogLine { level: *metadata.level(), target: metadata.target(), message: words.message + &words.fields };
        let mut lines = self.0.lock();
        if lines.kept.len() == KEPT_LINES {
            lines.kept.pop_front();
        }
        lines.kept.push_back(line);
        lines.logged += 1;
        drop(lines);
        self.0.spoken.notify_one();
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

/// An event in words: its message, then ` name=value` for each field.
#[derive(Default)]
struct VocabularyView {
    message: String,
    fields: String,
}

impl Visit for VocabularyView {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
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
    fn lines_come_in_order_with_their_fields_and_no_others_than_asked_for() {
        let queue = LogQueue::default();
        tracing::subscriber::with_default(Queued(Arc::clone(&queue.0)), || {
            tracing::warn!(target: "mullama", rows = 3, "the decode {}", "failed");
            tracing::info!(target: "mullama::llama", "too quiet");
            tracing::error!(target: "mullamania", "somebody else");
            tracing::error!(target: "mullama::llama", "loud");
        });
        let said: Vec<_> = queue.take().into_iter().map(|line| (line.level, line.target, line.message)).collect();
        let warning = (Level::WARN, "mullama", "the decode failed rows=3".to_owned());
        assert_eq!(said, [warning, (Level::ERROR, "mullama::llama", "loud".to_owned())]);
    }

    #[test]
    fn a_queue_that_nobody_reads_keeps_the_newest_lines_alone() {
        let queue = LogQueue::default();
        tracing::subscriber::with_default(Queued(Arc::clone(&queue.0)), || {
            (0..KEPT_LINES + 5).for_each(|line| tracing::error!(target: "mullama", "{line}"));
        });
        let kept = queue.take();
        assert_eq!((kept.len(), kept[0].message.as_str()), (KEPT_LINES, "5"));
    }

    #[test]
    fn a_closed_queue_lets_its_listener_go() {
        let queue = LogQueue::default();
        let listener = queue.clone();
        let listener = std::thread::spawn(move || listener.wait());
        queue.close();
        assert!(!listener.join().unwrap());
    }
}
