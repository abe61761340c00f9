//! Mutants of the demo model in llama.cpp itself: each is refused or runs; none crashes or hangs.
//!
//! They run in child processes, many per child; the child logs the number of each mutant before it tries it.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mullama::{Context, ContextParams, Model, MullamaError, StreamConfig};

use crate::writer::{HEADER_LEN, demo};

/// Set in the child process: the directory to work in.
const CHILD: &str = "MULLAMA_GGUF_TEST_CHILD";
/// The number of mutants to try, if it is not the default; for manual searches.
const COUNT: &str = "MULLAMA_GGUF_MUTANTS";
/// The seed of the mutants, if it is not the default; for manual searches.
const SEED: &str = "MULLAMA_GGUF_SEED";

/// Number of truncated mutants, which come before those with flipped bits.
const CUTS: u64 = 50;
const FLIPS: u64 = 500;
/// Maximum duration of one mutant; a valid one takes about ten milliseconds.
const LONGEST: Duration = Duration::from_secs(20);

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A reproducible sequence of random numbers (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("less than a usize")
    }
}

/// The mutant with this number: truncated, or with one to three flipped bits in the header.
fn mutant(demo: &[u8], number: u64, seed: u64) -> Vec<u8> {
    let mut chance = Chance(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut bytes = demo.to_vec();
    if number < CUTS {
        // Half of the cuts are in the header, half in the data.
        let bound = if number.is_multiple_of(2) { HEADER_LEN } else { bytes.len() };
        bytes.truncate(chance.below(bound));
        return bytes;
    }
    for _ in 0..=chance.below(3) {
        // Every second flip hits the scalars before the tokens or the tensors after them.
        let at = match chance.below(4) {
            0 => chance.below(1_200),
            1 => 29_370 + chance.below(HEADER_LEN - 29_370),
            _ => chance.below(HEADER_LEN),
        };
        bytes[at] ^= 1 << chance.below(8);
    }
    bytes
}

/// Loads a model and lets it generate two tokens.
fn run(path: &Path) -> Result<(), MullamaError> {
    let model = Arc::new(Model::load(path)?);
    let params = ContextParams { n_ctx: Some(256), n_threads: Some(1), n_threads_batch: Some(1), ..Default::default() };
    let context = Context::new(model, params)?;
    let config = StreamConfig::new().max_tokens(2).temperature(0.0);
    context.generate("Write a poem: 123 \u{e9}", config).map(|_| ())
}

/// Tries all mutants from `first` on, and logs each one before it is tried.
fn try_all(directory: &Path) {
    let demo = demo();
    let seed = number(SEED, 1);
    let (path, mut log) = (directory.join("mutant.gguf"), File::create(directory.join("log")).expect("a log"));
    let mut ran = 0;
    for number in 0..CUTS + number(COUNT, FLIPS) {
        writeln!(log, "{number}").expect("logged");
        fs::write(&path, mutant(&demo, number, seed)).expect("written");
        ran += u64::from(run(&path).is_ok());
    }
    writeln!(log, "ran {ran}").expect("logged");
}

/// Waits for the child as long as it makes progress; returns its status, or `None` if it hangs.
fn watch(child: &mut Child, log: &Path) -> Option<ExitStatus> {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        let len = fs::metadata(log).map_or(0, |log| log.len());
        if len > seen {
            (seen, since) = (len, Instant::now());
        } else if since.elapsed() > LONGEST {
            child.kill().expect("our child");
            child.wait().expect("our child");
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_mutant_is_refused_or_runs() {
    if let Some(directory) = env::var_os(CHILD) {
        return try_all(directory.as_ref());
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    // 16 GiB of address space: the stack of a tokenizer alone takes half a GiB.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 16777216; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "crash::every_mutant_is_refused_or_runs", "--quiet"])
        .env(CHILD, directory.path())
        .spawn()
        .unwrap();
    let ended = watch(&mut child, &log);
    let log = fs::read_to_string(&log).unwrap();
    let last = log.lines().last().unwrap_or("nothing");
    match ended {
        Some(status) if status.success() => {}
        Some(status) => panic!("mutant {last}: {status}"),
        None => panic!("mutant {last} hangs"),
    }
    let ran: u64 = last.strip_prefix("ran ").and_then(|count| count.parse().ok()).unwrap();
    assert!(ran > 0, "no mutant ran: the check refuses everything");
}
