//! Runs one test at a time, loads the model, and reads the kernel's figures about this process.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mullama::{Model, StreamConfig};

const LIMIT: Duration = Duration::from_mins(1);

/// While a test holds this, it is the only one that uses the process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn demo() -> Arc<Model> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf");
    Arc::new(Model::load(path).expect("the demo loads"))
}

pub(crate) fn greedy(max_tokens: u32) -> StreamConfig {
    StreamConfig::new().temperature(0.0).max_tokens(max_tokens).ignore_eos(true).timeout_ms(None)
}

/// Waits until a condition holds; fails after [`LIMIT`].
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Resident memory of this process in KiB.
pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs is readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// CPU time of the process's other threads, by name, in ticks of 10 ms.
pub(crate) fn ticks_of_others() -> Vec<(String, u64)> {
    let own = fs::read_link("/proc/thread-self").expect("procfs is readable");
    let own = own.file_name().expect("a thread").to_owned();
    let tasks = fs::read_dir("/proc/self/task").expect("procfs is readable");
    let others = tasks.filter_map(Result::ok).filter(|task| task.file_name() != own);
    others.filter_map(|task| ticks(&fs::read_to_string(task.path().join("stat")).ok()?)).collect()
}

/// Number of threads of this process whose name starts with this.
pub(crate) fn threads_named(prefix: &str) -> usize {
    ticks_of_others().iter().filter(|(name, _)| name.starts_with(prefix)).count()
}

/// Number of threads that tokenize prompts, in all lanes.
pub(crate) fn tokenizer_threads() -> usize {
    ["mullama-short", "mullama-long", "mullama-bulk"].into_iter().map(threads_named).sum()
}

/// Name, and user plus system time, from a line of `/proc/…/stat`.
fn ticks(stat: &str) -> Option<(String, u64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    Some((name.to_owned(), fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?))
}
