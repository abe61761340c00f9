//! How far a download is.

use std::time::{Duration, Instant};

/// How far a download is. Within one `pull`, `done` never falls and the phases never go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// The file that is being downloaded, for people.
    pub file: String,
    /// Bytes of the model that are on the disk, including those of an earlier attempt.
    pub done: u64,
    /// Bytes of the whole model, if the server says.
    pub total: Option<u64>,
}

/// What a `pull` is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Asks where the model is.
    Resolving,
    /// Waits for another process that downloads the same file.
    Waiting,
    /// Downloads.
    Downloading,
    /// Computes the rest of the digest and checks the file.
    Verifying,
    /// The model is on this machine.
    Done,
}

impl Phase {
    /// A word for it, the same in every language: `resolving`, `waiting`, `downloading`, `verifying` or `done`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Waiting => "waiting",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Done => "done",
        }
    }
}

/// Reports are this far apart, unless the phase or the file changes.
const INTERVAL: Duration = Duration::from_millis(100);

/// Turns what happens to the files of one model into reports that only move forward.
pub(crate) struct Tracker<'a> {
    report: &'a mut (dyn FnMut(&Progress) + Send),
    progress: Progress,
    /// Bytes of the files that are complete.
    finished: u64,
    files_left: usize,
    reported: Option<(Instant, Progress)>,
}

impl<'a> Tracker<'a> {
    pub(crate) fn new(name: &str, report: &'a mut (dyn FnMut(&Progress) + Send)) -> Self {
        let progress = Progress { phase: Phase::Resolving, file: name.to_owned(), done: 0, total: None };
        let mut tracker = Self { report, progress, finished: 0, files_left: 1, reported: None };
        tracker.tell();
        tracker
    }

    /// It is known which files the model has.
    pub(crate) fn expect(&mut self, files: usize, total: Option<u64>) {
        (self.files_left, self.progress.total) = (files, total);
    }

    /// The next file begins.
    pub(crate) fn file(&mut self, name: &str) {
        name.clone_into(&mut self.progress.file);
    }

    /// Another process downloads the file.
    pub(crate) fn waiting(&mut self) {
        self.phase(Phase::Waiting);
    }

    /// So many bytes of the file are there, of `len` if it is known. The number may fall when a file begins again, but
    /// what is reported does not.
    pub(crate) fn arrived(&mut self, bytes: u64, len: Option<u64>) {
        if self.files_left == 1 && self.progress.total.is_none() {
            self.progress.total = len.map(|len| self.finished + len);
        }
        self.progress.done = self.progress.done.max(self.finished + bytes);
        self.phase(Phase::Downloading);
    }

    /// All bytes of the file are there.
    pub(crate) fn verifying(&mut self) {
        // Otherwise the next file would go back to downloading.
        if self.files_left == 1 {
            self.phase(Phase::Verifying);
        }
    }

    /// The file is complete.
    pub(crate) fn file_done(&mut self, len: u64) {
        self.finished += len;
        self.files_left = self.files_left.saturating_sub(1);
        self.progress.done = self.progress.done.max(self.finished);
        self.tell();
    }

    /// The model is on this machine.
    pub(crate) fn done(&mut self) {
        self.progress.total = Some(self.progress.done);
        self.phase(Phase::Done);
    }

    fn phase(&mut self, phase: Phase) {
        self.progress.phase = self.progress.phase.max(phase);
        self.tell();
    }

    fn tell(&mut self) {
        let now = Instant::now();
        let is_due = self.reported.as_ref().is_none_or(|(at, last)| {
            let is_new = last.phase != self.progress.phase || last.file != self.progress.file;
            is_new || (*last != self.progress && now.duration_since(*at) >= INTERVAL)
        });
        if is_due {
            (self.report)(&self.progress);
            self.reported = Some((now, self.progress.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reports(act: impl FnOnce(&mut Tracker<'_>)) -> Vec<Progress> {
        let mut reports = Vec::new();
        let mut report = |progress: &Progress| reports.push(progress.clone());
        act(&mut Tracker::new("m", &mut report));
        reports
    }

    #[test]
    fn a_download_that_begins_again_is_not_seen_to_fall_back() {
        let reports = reports(|tracker| {
            tracker.expect(1, Some(10));
            tracker.arrived(8, None);
            tracker.arrived(2, None);
            tracker.waiting();
            tracker.verifying();
            tracker.done();
        });
        let seen = reports.iter().map(|progress| (progress.phase, progress.done)).collect::<Vec<_>>();
        let [resolving, downloading, verifying, done] =
            [Phase::Resolving, Phase::Downloading, Phase::Verifying, Phase::Done];
        assert_eq!(seen, [(resolving, 0), (downloading, 8), (verifying, 8), (done, 8)]);
    }

    #[test]
    fn reports_are_not_made_for_every_piece() {
        let count = reports(|tracker| (0..10_000).for_each(|bytes| tracker.arrived(bytes, None))).len();
        assert!(count <= 10, "{count} reports within a moment");
    }

    proptest! {
        #[test]
        fn reports_only_move_forward(steps in prop::collection::vec((0..6, 0..100_u64), 0..60), files in 1..4_usize) {
            let reports = reports(|tracker| {
                tracker.expect(files, Some(400));
                for (step, bytes) in steps {
                    match step {
                        0 => tracker.waiting(),
                        1 | 2 => tracker.arrived(bytes, Some(100)),
                        3 => tracker.verifying(),
                        4 => tracker.file(&bytes.to_string()),
                        _ => tracker.file_done(bytes),
                    }
                }
                tracker.done();
            });
            for pair in reports.windows(2) {
                prop_assert!(pair[0].phase <= pair[1].phase && pair[0].done <= pair[1].done);
            }
            prop_assert_eq!(reports.last().map(|last| last.phase), Some(Phase::Done));
        }
    }
}
