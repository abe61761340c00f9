//! Measures how many compute threads wait for a core that another program or thread is using.
//!
//! ggml's threads meet at a barrier after each node of a graph and spin there. If one of them is not running, all
//! others wait until the scheduler runs it again, and a step of a millisecond can take a second. For each thread, Linux
//! counts the time in which it was ready to run but had no core: the second number in its `schedstat` file, in
//! nanoseconds (Documentation/scheduler/sched-stats). Other systems have no such counter, so there are no readings on
//! them.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::per_process::PerProcess;

/// Minimum time that a reading covers. The scheduler's time slices last up to four milliseconds, and the threads that
/// accompany a new stream (its reader, its tokenizer) take one or two of them. In a shorter reading that would look like
/// a core that another program keeps busy.
const READING_TIME: Duration = Duration::from_millis(40);
/// Maximum number of attempts to identify the threads of a new pool before it is used without readings.
const ATTEMPTS: u32 = 5;

/// How long the threads of a pool waited for a core.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuContention {
    /// Number of threads that were ready to run but had no core, averaged over the reading.
    pub waiting: f64,
    /// Number of threads that computed.
    pub threads: u32,
    /// The time that the reading covers.
    pub over: Duration,
}

/// Measures how long the threads of one pool waited, including the thread that decodes with it.
#[derive(Debug, Default)]
pub(crate) struct ContentionMeter {
    /// The `schedstat` files of the pool's own threads; `None` if they are not known.
    workers: Option<Vec<File>>,
    /// The `schedstat` file of the thread that decodes. It belongs to no pool, and a context may move between threads.
    caller: Option<(ThreadId, File)>,
    /// When the current stretch of uninterrupted computing began, and how many nanoseconds the threads had waited by
    /// then.
    started: Option<(Instant, u64)>,
    /// The share of earlier stretches in the current reading: their duration, and how long the threads waited in them.
    /// Short requests with pauses between them therefore complete a reading as well.
    earlier: (Duration, Duration),
    latest: Option<CpuContention>,
}

impl ContentionMeter {
    /// Records that a decode begins.
    pub(crate) fn begin(&mut self) {
        self.latest = None;
        let here = thread::current().id();
        if self.caller.as_ref().is_none_or(|(thread, _)| *thread != here) {
            self.caller = File::open("/proc/thread-self/schedstat").ok().map(|file| (here, file));
            self.started = None;
        }
        if self.started.is_none() {
            self.started = self.waited().map(|waited| (Instant::now(), waited));
        }
    }

    /// Records that a decode has ended. There is a new reading once enough time has passed since the previous one.
    pub(crate) fn end(&mut self) {
        let time = self.earlier.0 + self.started.map_or(Duration::ZERO, |(then, _)| then.elapsed());
        if time < READING_TIME || self.started.is_none() {
            return;
        }
        self.add_stretch();
        let (over, waited) = std::mem::take(&mut self.earlier);
        let threads = 1 + self.workers.as_ref().map_or(0, Vec::len);
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        // Linux counts a wait when it ends, so one that began before this reading can exceed it.
        let waiting = (waited.as_secs_f64() / over.as_secs_f64()).min(f64::from(threads));
        self.latest = self.started.map(|_| CpuContention { waiting, threads, over });
    }

    /// Interrupts the measurement: what the pool's threads wait for from now on does not count.
    pub(crate) fn interrupt(&mut self) {
        self.add_stretch();
        (self.started, self.latest) = (None, None);
    }

    /// Counts the time since the last count; nothing is counted if the files cannot be read.
    fn add_stretch(&mut self) {
        let Some((then, waited_then)) = self.started else { return };
        self.started = self.waited().map(|waited| (Instant::now(), waited));
        if let Some((now, waited)) = self.started {
            self.earlier.0 += now - then;
            self.earlier.1 += Duration::from_nanos(waited.saturating_sub(waited_then));
        }
    }

    /// The reading that was completed by the last decode.
    pub(crate) fn latest(&self) -> Option<CpuContention> {
        self.latest
    }

    /// Nanoseconds that all threads have waited since they were started.
    fn waited(&self) -> Option<u64> {
        let (_, caller) = self.caller.as_ref()?;
        self.workers.as_ref()?.iter().chain([caller]).map(run_delay).sum()
    }
}

/// The second number of a `schedstat` file.
fn run_delay(mut file: &File) -> Option<u64> {
    // Three numbers of at most 20 digits.
    let mut text = [0; 64];
    file.rewind().ok()?;
    let length = file.read(&mut text).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Starts a pool of `workers` threads with `start`, and returns it with a meter for its threads.
///
/// The new threads are those that exist afterwards and did not exist before. If another part of the program starts a
/// thread at the same moment, there are too many, and the pool is started again. A pool whose threads cannot be
/// identified works like any other, but has no readings.
pub(crate) fn measured<T, E>(workers: usize, start: impl Fn() -> Result<T, E>) -> Result<(T, ContentionMeter), E> {
    static ONE_POOL_AT_A_TIME: PerProcess<Mutex<()>> = PerProcess::new();
    let _guard = ONE_POOL_AT_A_TIME.get().lock().unwrap_or_else(PoisonError::into_inner);
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let before: HashSet<OsString> = threads().collect();
        let started = start()?;
        let files: Option<Vec<File>> = threads().filter(|thread| !before.contains(thread)).map(schedstat).collect();
        let files = files.filter(|files| files.len() == workers);
        if files.is_some() || before.is_empty() || attempts == 0 {
            return Ok((started, ContentionMeter { workers: files, ..ContentionMeter::default() }));
        }
    }
}

fn schedstat(thread: OsString) -> Option<File> {
    File::open(Path::new("/proc/self/task").join(thread).join("schedstat")).ok()
}

/// The ids of this process's threads; none on a system without `/proc`.
fn threads() -> impl Iterator<Item = OsString> {
    fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(|thread| Some(thread.ok()?.file_name()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};

    use super::*;

    /// Threads that wait until they are released, as a pool's do.
    fn start_threads(count: usize) -> (mpsc::SyncSender<()>, Arc<Mutex<mpsc::Receiver<()>>>) {
        let (release, released) = mpsc::sync_channel(1);
        let released = Arc::new(Mutex::new(released));
        for _ in 0..count {
            let released = Arc::clone(&released);
            thread::spawn(move || released.lock().map(|released| released.recv()).is_ok());
        }
        (release, released)
    }

    #[test]
    fn the_threads_of_a_pool_are_identified() {
        let (_pool, meter) = measured(3, || Ok::<_, ()>(start_threads(3))).expect("started");
        assert_eq!(meter.workers.map(|files| files.len()), Some(3));
    }

    #[test]
    fn a_pool_is_restarted_when_another_thread_starts_at_the_same_time() {
        let foreign = AtomicBool::new(true);
        let start = || Ok::<_, ()>(start_threads(2 + usize::from(foreign.swap(false, Ordering::Relaxed))));
        let (_pool, meter) = measured(2, start).expect("started");
        assert_eq!(meter.workers.map(|files| files.len()), Some(2));
    }

    #[test]
    fn a_pool_whose_threads_cannot_be_identified_has_no_readings() {
        // Far too many: where threads of other tests end meanwhile, the system's list of threads may lack some.
        let (_pool, mut meter) = measured(2, || Ok::<_, ()>(start_threads(20))).expect("started");
        meter.begin();
        meter.earlier.0 = READING_TIME;
        meter.end();
        assert_eq!(meter.latest(), None);
    }

    #[test]
    fn a_reading_covers_at_least_the_minimum_time_and_excludes_interruptions() {
        let (_pool, mut meter) = measured(0, || Ok::<_, ()>(())).expect("started");
        meter.begin();
        meter.end();
        let too_early = meter.latest().is_some_and(|reading| reading.over < READING_TIME);
        assert!(!too_early);
        let began = Instant::now();
        while began.elapsed() < READING_TIME {
            std::hint::spin_loop();
        }
        meter.begin();
        meter.end();
        let reading = meter.latest().expect("a reading");
        assert!(reading.over >= READING_TIME && reading.threads == 1, "{reading:?}");
        assert!((0.0..=1.0).contains(&reading.waiting), "{reading:?}");
        meter.begin();
        meter.interrupt();
        let counted = meter.earlier.0;
        thread::sleep(READING_TIME);
        meter.begin();
        meter.end();
        assert!(meter.latest().is_none_or(|reading| reading.over < counted + READING_TIME), "a pause does not count");
    }

    #[test]
    fn stretches_shorter_than_a_reading_add_up_to_one() {
        let (_pool, mut meter) = measured(0, || Ok::<_, ()>(())).expect("started");
        let mut stretches = 0;
        let reading = loop {
            meter.begin();
            let began = Instant::now();
            while began.elapsed() < READING_TIME / 4 {
                std::hint::spin_loop();
            }
            meter.end();
            stretches += 1;
            assert!(stretches < 100, "no reading");
            if let Some(reading) = meter.latest() {
                break reading;
            }
            meter.interrupt();
        };
        assert!(reading.over >= READING_TIME, "{reading:?}");
    }
}
