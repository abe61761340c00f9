//! Looks, while a decode runs, whether it should go on: its owner may have called it off, its threads may wait for cores.
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

/// Time that the threads of a crowded decode wait, together, in the time of one. A thread that shares its core with one
/// other waits half its time, and whether one thread less is then better is for the clock to say.
const CROWDED: f64 = 0.8;
/// Nodes of a graph between two looks at the clock: they take microseconds on a quiet machine.
const NODES: u32 = 4;
/// A decode that is over by then is not looked at.
const FIRST: Duration = Duration::from_millis(4);
/// Least time over which waiting is measured: some slices of the scheduler, which last some milliseconds each.
const WINDOW: Duration = Duration::from_millis(16);
/// Windows that must be crowded, one after the other. A group whose processor time is rationed waits now and then for
/// longer than a window, and needs no fewer threads for that.
const IN_A_ROW: u32 = 2;
/// How much longer than a look itself the time to the next one is, at least.
const REST: u32 = 200;

/// Who waited in a crowded decode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Crowding {
    /// Threads that waited for a core, on average.
    pub waiting: f64,
    /// Threads that computed.
    pub threads: u32,
}

/// What a running decode asks after each node of its graph.
#[derive(Debug)]
pub(crate) struct Lookout {
    abort: Arc<AtomicBool>,
    /// Whether the running decode is ended if it is crowded.
    gives_up: AtomicBool,
    gave_up: AtomicBool,
    nodes: AtomicU32,
    view: Mutex<View>,
    /// Nodes after which the running decode is given up, whoever waits; 0 for none.
    #[cfg(feature = "test-support")]
    pretended: AtomicU32,
}

#[derive(Debug)]
struct View {
    /// Where Linux tells of the threads that compute; empty for a thread alone, which waits for none.
    threads: Arc<[String]>,
    /// When the next look is due.
    next: Instant,
    window: Duration,
    /// How long a look takes, at least: one that takes longer was kept from its core itself.
    cost: Duration,
    /// The last look, and how long the threads had waited by then, in nanoseconds.
    before: Option<(Instant, u64)>,
    /// Crowded windows since one that was not.
    crowded: u32,
    crowding: Option<Crowding>,
}

impl Lookout {
    pub(crate) fn new(abort: Arc<AtomicBool>) -> Self {
        let view = View {
            threads: Arc::default(),
            next: Instant::now(),
            window: WINDOW,
            cost: Duration::MAX,
            before: None,
            crowded: 0,
            crowding: None,
        };
        Self {
            abort,
            gives_up: AtomicBool::new(false),
            gave_up: AtomicBool::new(false),
            nodes: AtomicU32::new(0),
            view: Mutex::new(view),
            #[cfg(feature = "test-support")]
            pretended: AtomicU32::new(0),
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn abort_flag(&self) -> &Arc<AtomicBool> {
        &self.abort
    }

    /// A decode begins, which may be given up or not; Linux tells of its threads in these files.
    pub(crate) fn begin(&self, threads: &Arc<[String]>, gives_up: bool) {
        self.gives_up.store(gives_up, Ordering::Relaxed);
        #[cfg(feature = "test-support")]
        self.pretended.store(0, Ordering::Relaxed);
        self.gave_up.store(false, Ordering::Relaxed);
        self.nodes.store(0, Ordering::Relaxed);
        let mut view = self.view();
        if !Arc::ptr_eq(&view.threads, threads) {
            (view.threads, view.cost) = (Arc::clone(threads), Duration::MAX);
        }
        (view.before, view.crowding, view.crowded, view.window) = (None, None, 0, WINDOW);
        view.next = Instant::now() + FIRST.max(view.rest());
    }

    /// Whether the last decode was ended because it was crowded.
    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed) && !self.abort.load(Ordering::Acquire)
    }

    /// Who waited, if the last decode was crowded.
    pub(crate) fn crowding(&self) -> Option<Crowding> {
        self.view().crowding
    }

    fn should_abort(&self) -> bool {
        if self.abort.load(Ordering::Relaxed) || self.gave_up.load(Ordering::Relaxed) {
            return true;
        }
        let node = self.nodes.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "test-support")]
        self.pretend(node);
        let crowded = node.is_multiple_of(NODES) && self.view().look() && self.gives_up.load(Ordering::Relaxed);
        self.gave_up.fetch_or(crowded, Ordering::Relaxed) || crowded
    }
}

#[cfg(feature = "test-support")]
impl Lookout {
    /// The decode that has begun is given up after so many nodes, whoever waits.
    pub(crate) fn give_up_after(&self, nodes: u32) {
        self.pretended.store(nodes, Ordering::Relaxed);
    }

    fn pretend(&self, node: u32) {
        let pretended = self.pretended.load(Ordering::Relaxed);
        if pretended > 0 && node + 1 >= pretended && self.gives_up.load(Ordering::Relaxed) {
            self.pretended.store(0, Ordering::Relaxed);
            self.gave_up.store(true, Ordering::Relaxed);
            self.view().crowding = Some(Crowding { waiting: 1.0, threads: 2 });
        }
    }
}

impl View {
    /// Time between two looks, so that they cost little.
    fn rest(&self) -> Duration {
        // Nothing is known before the first.
        if self.cost == Duration::MAX { Duration::ZERO } else { REST * self.cost }
    }

    /// Whether the threads have mostly waited for some time.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        if self.threads.is_empty() || now < self.next {
            return false;
        }
        let Some(waited) = self.threads.iter().map(|file| run_delay(file)).sum::<Option<u64>>() else {
            // Not again in this decode: a system that does not tell, or has no descriptor left, would be asked in vain.
            self.next = now + Duration::from_hours(1);
            return false;
        };
        self.cost = self.cost.min(now.elapsed());
        if let Some((then, waited_then)) = self.before.replace((now, waited)) {
            let waited = Duration::from_nanos(waited.saturating_sub(waited_then));
            self.judge(waited.as_secs_f64() / now.duration_since(then).as_secs_f64());
        }
        self.next = now + self.window.max(self.rest());
        self.crowded >= IN_A_ROW
    }

    /// So many threads waited on average since the last look.
    fn judge(&mut self, waiting: f64) {
        let threads = u32::try_from(self.threads.len()).unwrap_or(u32::MAX);
        if waiting < CROWDED {
            // What went well for so long is looked at less often.
            (self.crowded, self.window) = (0, 2 * self.window);
            return;
        }
        (self.crowded, self.window) = (self.crowded + 1, WINDOW);
        if self.crowded >= IN_A_ROW {
            // A wait counts when it is over, all of it: one that began before the last look may be longer than this window.
            self.crowding = Some(Crowding { waiting: waiting.min(f64::from(threads)), threads });
        }
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

fn run_delay(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}
