//! The threads that tokenize prompts: few, with large stacks, and with a lower priority than the engine.
//!
//! One pool serves all models of a process, because the cores that it must not take from the engines are shared as
//! well. Short prompts have a lane with its own threads, so they never wait behind long ones. Long prompts of streams
//! are limited by their context. Texts that a caller tokenizes without a stream use a third lane, so they delay no
//! stream.
//!
//! A thread starts when its lane has work and ends after it had none for a while, which frees its stack. Waiting
//! prompts count against a budget of bytes. A prompt that does not fit is refused, because a call must not block. Work
//! that is no longer needed is skipped, and does not count against the budget.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mullama_ffi::{PerProcess, TokenizerThread};

use crate::error::{MullamaError, StreamFailure};
use crate::in_flight::InFlightGuard;
use crate::text::vocabulary::IsWanted;

/// Maximum bytes of a prompt for the lane of short ones: about 4,000 tokens, a few milliseconds of work.
pub(crate) const SHORT_BYTES: usize = 16 << 10;
/// Maximum bytes of waiting prompts in all lanes: one text of the maximum length that the tokenizer accepts.
const BUDGET_BYTES: usize = 64 << 20;
/// Bytes that a waiting prompt counts in addition to its text; limits how many can wait.
const JOB_BYTES: usize = 4 << 10;
/// How long an idle thread keeps its stack.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// How often `go_on` of a waiting caller is called; half of the 100 ms that Ctrl-C may take.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Prompts of the same lane wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Short prompts.
    Short,
    /// Long prompts of streams.
    Long,
    /// Long texts of [`Model::tokenize`](crate::Model::tokenize) and similar calls.
    Bulk,
}

impl Lane {
    const COUNT: usize = 3;

    /// The lane for a stream's prompt of so many bytes.
    pub(crate) fn for_prompt(bytes: usize) -> Self {
        if bytes <= SHORT_BYTES { Self::Short } else { Self::Long }
    }

    /// The lane for a text that is not a stream's prompt.
    pub(crate) fn for_text(bytes: usize) -> Self {
        if bytes <= SHORT_BYTES { Self::Short } else { Self::Bulk }
    }

    fn max_threads(self) -> usize {
        match self {
            Self::Short => 2,
            Self::Long | Self::Bulk => 1,
        }
    }

    /// On a contended core, Linux gives a thread with a nice value of 10 about a tenth of an engine thread's time, and
    /// one with 19 a seventieth. A reader waits for the first token of a short prompt; a long prompt may take longer.
    fn thread(self) -> TokenizerThread {
        match self {
            Self::Short => TokenizerThread { name: "mullama-short", nice: 10 },
            Self::Long => TokenizerThread { name: "mullama-long", nice: 19 },
            Self::Bulk => TokenizerThread { name: "mullama-bulk", nice: 19 },
        }
    }
}

/// Work for a tokenizer thread.
pub(crate) trait Job: Send {
    /// Whether its result is still needed.
    fn is_wanted(&self) -> bool;
    /// Does the work.
    fn run(self: Box<Self>);
    /// Ends the job without doing it, because its result is not needed any more.
    fn skip(self: Box<Self>);
    /// Ends the job without doing it, because no thread is available.
    fn fail(self: Box<Self>, error: MullamaError);
}

/// The threads, and the jobs that wait for them.
#[derive(Default)]
pub(crate) struct TokenizerPool {
    state: Mutex<State>,
    /// The idle threads of each lane sleep here.
    work: [Condvar; Lane::COUNT],
}

#[derive(Default)]
struct State {
    lanes: [Queue; Lane::COUNT],
    /// Bytes of all waiting and running prompts.
    reserved_bytes: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    threads: usize,
    /// Threads that are asleep, or that were woken for a job which they have not taken yet.
    idle: usize,
}

impl std::fmt::Debug for TokenizerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenizerPool").finish_non_exhaustive()
    }
}

impl TokenizerPool {
    /// The pool of this process.
    pub(crate) fn of_process() -> Arc<Self> {
        static POOL: PerProcess<Arc<TokenizerPool>> = PerProcess::new();
        Arc::clone(POOL.get())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a prompt of so many bytes as waiting until the reservation is dropped.
    ///
    /// # Errors
    /// [`MullamaError::PromptsOverloaded`] if the budget is exceeded.
    pub(crate) fn reserve(self: &Arc<Self>, prompt_bytes: usize) -> Result<Reservation, MullamaError> {
        let bytes = prompt_bytes.saturating_add(JOB_BYTES);
        if !self.try_reserve(bytes) {
            self.skip_unwanted();
            if !self.try_reserve(bytes) {
                let waiting_bytes = self.lock().reserved_bytes;
                return Err(MullamaError::PromptsOverloaded { prompt_bytes, waiting_bytes, limit_bytes: BUDGET_BYTES });
            }
        }
        Ok(Reservation { pool: Arc::clone(self), bytes })
    }

    fn try_reserve(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        // A single prompt may be as long as the tokenizer allows.
        let fits = state.reserved_bytes == 0 || state.reserved_bytes.saturating_add(bytes) <= BUDGET_BYTES;
        if fits {
            state.reserved_bytes = state.reserved_bytes.saturating_add(bytes);
        }
        fits
    }

    /// Removes jobs from all lanes whose result is not needed any more.
    fn skip_unwanted(&self) {
        let mut unwanted = Vec::new();
        {
            let mut state = self.lock();
            for queue in &mut state.lanes {
                let jobs = std::mem::take(&mut queue.jobs);
                let (wanted, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.is_wanted());
                queue.jobs = wanted.into();
                unwanted.extend(rest);
            }
        }
        // Dropping their reservations takes the lock, so it is done outside of it.
        unwanted.into_iter().for_each(Job::skip);
    }

    /// Runs the job on a thread of the lane, after earlier ones. It fails if the system refuses the lane's only thread.
    pub(crate) fn submit(self: &Arc<Self>, lane: Lane, job: Box<dyn Job>) {
        let needs_thread = {
            let mut state = self.lock();
            let queue = &mut state.lanes[lane as usize];
            queue.jobs.push_back(job);
            let needs_thread = queue.idle < queue.jobs.len() && queue.threads < lane.max_threads();
            queue.threads += usize::from(needs_thread);
            needs_thread
        };
        self.work[lane as usize].notify_one();
        if needs_thread {
            let pool = Arc::clone(self);
            // The handle is not needed: jobs in flight are waited for, and an idle thread may outlive the process's
            // shutdown.
            if let Err(error) = mullama_ffi::spawn_tokenizer_thread(lane.thread(), move || pool.serve(lane)) {
                self.without_thread(lane, error);
            }
        }
    }

    /// Handles a refused thread: the other threads of the lane do the work; if there are none, its jobs fail.
    fn without_thread(&self, lane: Lane, error: mullama_ffi::Error) {
        let mut state = self.lock();
        let queue = &mut state.lanes[lane as usize];
        queue.threads -= 1;
        if queue.threads > 0 {
            return;
        }
        let jobs = std::mem::take(&mut queue.jobs);
        drop(state);
        let error = MullamaError::StreamingError(StreamFailure::Thread(Arc::new(error)));
        for job in jobs {
            job.fail(error.clone());
        }
    }

    /// The body of a tokenizer thread.
    fn serve(&self, lane: Lane) {
        while let Some(job) = self.next(lane) {
            // The job's own guards report a panic to the waiting stream; the thread continues with the next job.
            let _ = catch_unwind(AssertUnwindSafe(|| if job.is_wanted() { job.run() } else { job.skip() }));
        }
    }

    /// The next job; `None` if there was none for so long that the thread must end.
    fn next(&self, lane: Lane) -> Option<Box<dyn Job>> {
        let mut state = self.lock();
        state.lanes[lane as usize].idle += 1;
        let nothing = |state: &mut State| state.lanes[lane as usize].jobs.is_empty();
        let waited = self.work[lane as usize].wait_timeout_while(state, IDLE_LIMIT, nothing);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let queue = &mut state.lanes[lane as usize];
        queue.idle -= 1;
        let job = queue.jobs.pop_front();
        // This happens under the same lock, so that the next submitter knows that it must start a thread.
        queue.threads -= usize::from(job.is_none());
        job
    }

    /// Runs `work` on a thread of the lane and waits for its result. `go_on`, if given, is called while the caller
    /// waits; if it returns `false`, the result is `None` and `work` is told to stop.
    ///
    /// # Errors
    /// Those of `work`, or [`MullamaError::StreamingError`] if there is no thread or it panicked.
    pub(crate) fn run_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        lane: Lane,
        mut go_on: Option<&mut dyn FnMut() -> bool>,
        work: impl FnOnce(&IsWanted) -> Result<T, MullamaError> + Send + 'static,
    ) -> Result<Option<T>, MullamaError> {
        if !go_on.as_mut().is_none_or(|go_on| go_on()) {
            return Ok(None);
        }
        let (report, result) = sync_channel(1);
        let wanted = Arc::new(AtomicBool::new(true));
        let job = BlockingJob { work, report, wanted: Arc::clone(&wanted), in_flight: InFlightGuard::begin() };
        self.submit(lane, Box::new(job));
        loop {
            let answer = match go_on {
                Some(_) => result.recv_timeout(POLL_INTERVAL),
                None => result.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match answer {
                Ok(done) => return done.map(Some),
                Err(RecvTimeoutError::Timeout) => {
                    if !go_on.as_mut().is_none_or(|go_on| go_on()) {
                        wanted.store(false, Ordering::Release);
                        return Ok(None);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(MullamaError::StreamingError(StreamFailure::TokenizerPanicked));
                }
            }
        }
    }
}

/// A prompt's share of the budget, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<TokenizerPool>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.pool.lock().reserved_bytes -= self.bytes;
    }
}

/// Work whose caller waits for the result.
struct BlockingJob<T, F> {
    work: F,
    report: SyncSender<Result<T, MullamaError>>,
    wanted: Arc<AtomicBool>,
    in_flight: InFlightGuard,
}

impl<T, F> Job for BlockingJob<T, F>
where
    T: Send,
    F: FnOnce(&IsWanted) -> Result<T, MullamaError> + Send,
{
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    fn run(self: Box<Self>) {
        let Self { work, report, wanted, in_flight } = *self;
        let is_wanted: IsWanted = Arc::new(move || wanted.load(Ordering::Acquire));
        let done = work(&is_wanted);
        drop(in_flight);
        // The receiver is gone if the caller has given up.
        let _ = report.send(done);
    }

    fn skip(self: Box<Self>) {}

    fn fail(self: Box<Self>, error: MullamaError) {
        let _ = self.report.send(Err(error));
    }
}
