//! Looks, while a decode runs, whether it should go on: its owner may have called it off, or its threads wait for cores.
//!
//! ggml's threads wait for each other by spinning after each node of a graph. Where others compute as well, such a wait
//! can last until the scheduler comes back to the thread that is missing, and a step of a millisecond takes a second.
//! Linux counts for each thread how long it was ready to run and did not: the second number of its `schedstat`, in
//! nanoseconds (Documentation/scheduler/sched-stats). Elsewhere nothing is seen, and no decode is given up.

use std::ffi::c_void;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Threads that wait on average where a decode is crowded. A thread that shares its core with one other waits half its
/// time, and whether one thread less is then better is for the clock to say; two such threads are better gone.
const CROWDED: f64 = 0.8;
/// Nodes of a graph between two looks at the clock: they take microseconds on a quiet machine.
const NODES: u32 = 4;
/// A decode that is over by then is not looked at.
const FIRST: Duration = Duration::from_millis(4);
/// Least time over which waiting is measured: some slices of the scheduler, which last some milliseconds each.
const WINDOW: Duration = Duration::from_millis(16);
/// How much longer than the look itself the time to the next one is.
const REST: u32 = 200;

/// What a running decode asks after each node of its graph.
#[derive(Debug)]
pub(crate) struct Lookout {
    abort: Arc<AtomicBool>,
    /// Whether a crowded decode is ended.
    gives_up: bool,
    gave_up: AtomicBool,
    nodes: AtomicU32,
    view: Mutex<View>,
}

#[derive(Debug)]
struct View {
    /// Where Linux tells of the threads that compute; empty for a thread alone, which waits for none.
    threads: Vec<String>,
    /// When the next look is due.
    next: Instant,
    window: Duration,
    /// The last look, and how long the threads had waited by then, in nanoseconds.
    before: Option<(Instant, u64)>,
    crowding: Option<f64>,
}

impl Lookout {
    pub(crate) fn new(abort: Arc<AtomicBool>, gives_up: bool) -> Self {
        let view = View { threads: Vec::new(), next: Instant::now(), window: WINDOW, before: None, crowding: None };
        Self { abort, gives_up, gave_up: AtomicBool::new(false), nodes: AtomicU32::new(0), view: Mutex::new(view) }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn abort_flag(&self) -> &Arc<AtomicBool> {
        &self.abort
    }

    /// These threads compute from now on, beside the one that calls.
    pub(crate) fn watch(&self, workers: impl Iterator<Item = u32>) {
        let mut threads: Vec<_> = workers.map(|id| format!("/proc/self/task/{id}/schedstat")).collect();
        if !threads.is_empty() {
            threads.push("/proc/thread-self/schedstat".to_owned());
        }
        self.view().threads = threads;
    }

    /// A decode begins.
    pub(crate) fn begin(&self) {
        self.gave_up.store(false, Ordering::Relaxed);
        let mut view = self.view();
        (view.before, view.crowding, view.window) = (None, None, WINDOW);
        view.next = Instant::now() + FIRST;
    }

    /// Whether the last decode was ended because it was crowded.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed) && !self.abort.load(Ordering::Acquire)
    }

    /// How many threads of the last decode waited for a core, on average, if it was crowded.
    pub(crate) fn crowding(&self) -> Option<f64> {
        self.view().crowding
    }

    fn should_abort(&self) -> bool {
        if self.abort.load(Ordering::Relaxed) || self.gave_up.load(Ordering::Relaxed) {
            return true;
        }
        if !self.nodes.fetch_add(1, Ordering::Relaxed).is_multiple_of(NODES) {
            return false;
        }
        let crowded = self.view().look();
        if crowded && self.gives_up {
            self.gave_up.store(true, Ordering::Relaxed);
        }
        crowded && self.gives_up
    }
}

impl View {
    /// Whether the threads have mostly waited since the last look.
    fn look(&mut self) -> bool {
        if self.threads.is_empty() {
            return false;
        }
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        let Some(waited) = self.threads.iter().map(|path| run_delay(path)).sum::<Option<u64>>() else {
            // A system that does not say will not say later.
            self.threads.clear();
            return false;
        };
        self.next = now + self.window.max(REST * now.elapsed());
        let Some((then, waited_then)) = self.before.replace((now, waited)) else { return false };
        self.window *= 2;
        let waiting = Duration::from_nanos(waited.saturating_sub(waited_then)).as_secs_f64();
        // A wait counts when it is over, all of it: one that began before the last look may be longer than the time since.
        #[expect(clippy::cast_precision_loss, reason = "threads are few")]
        let waiting = (waiting / now.duration_since(then).as_secs_f64()).min(self.threads.len() as f64);
        let crowded = waiting >= CROWDED;
        if crowded {
            self.crowding = Some(self.crowding.map_or(waiting, |most| most.max(waiting)));
        }
        crowded
    }
}

/// The callback of llama.cpp.
///
/// # Safety
///
/// `lookout` is a [`Lookout`] that outlives the context.
pub(crate) unsafe extern "C" fn should_abort(lookout: *mut c_void) -> bool {
    // SAFETY: as the caller promises; it is only ever shared.
    unsafe { &*lookout.cast::<Lookout>() }.should_abort()
}

fn run_delay(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What the threads of a pool are called; a name has 15 bytes at most.
const NAME: &str = "mullama-compute";
const OWN_NAME: &str = "/proc/thread-self/comm";

/// Whoever starts threads bears their name for that time, and it is how they are found.
static STARTING: Mutex<()> = Mutex::new(());

/// What `start` returns, and the ids of the threads that it started on Linux. They are called [`NAME`] there.
pub(crate) fn starting<T>(start: impl FnOnce() -> T) -> (T, Vec<u32>) {
    let _alone = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(name) = fs::read(OWN_NAME) else { return (start(), Vec::new()) };
    let before = compute_threads();
    // A system that forbids it leaves the threads uncounted.
    let _ = fs::write(OWN_NAME, NAME);
    let started = start();
    let _ = fs::write(OWN_NAME, name.trim_ascii_end());
    let mut threads = compute_threads();
    threads.retain(|id| !before.contains(id));
    (started, threads)
}

fn compute_threads() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let is_one = |id: &u32| {
        fs::read(format!("/proc/self/task/{id}/comm")).is_ok_and(|name| name.trim_ascii_end() == NAME.as_bytes())
    };
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(is_one).collect()
}
