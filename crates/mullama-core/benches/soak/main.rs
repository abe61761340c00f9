//! Runs an engine under random clients for a while, and checks every text, and at the end the memory and the counters.
//!
//!     cargo bench --profile release -p mullama --bench soak -- [--seconds N] [--seed N] [MODEL]
//!
//! Without a model the logits are scripted, and each text is compared with the text of the same request in an
//! undisturbed engine. With a model, greedy texts may differ because of the last bits of logits, so only their
//! form is checked.

mod chance;
mod client;
mod harness;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::Harness;

/// Number of concurrent clients: more than slots and queue can hold.
const CLIENTS: u64 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut seconds, mut seed, mut model) = (60, 1, None);
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok()).ok_or(format!("{arg} needs a number"));
        match arg.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = number()?,
            _ => model = Some(PathBuf::from(arg)),
        }
    }
    let harness = Harness::open(model)?;
    // The first tenth fills caches and pools; memory growth is measured from its end.
    let warm = soak(&harness, seed, Duration::from_secs(seconds) / 10)?;
    let before = resident_bytes()?;
    let report = soak(&harness, seed + 1, Duration::from_secs(seconds) * 9 / 10)?;
    harness.check_empty()?;
    let growth = resident_bytes()?.saturating_sub(before);
    say(&format!("{report}"));
    say(&format!("{:#?}", harness.stats()?));
    say(&format!("warm-up: {warm}"));
    say(&format!("memory grew by {} KiB over {} streams", growth / 1024, report.streams));
    if growth > 64 << 20 {
        return Err(format!("memory grew by {growth} bytes").into());
    }
    Ok(())
}

/// Runs all clients until the time is over.
fn soak(harness: &Harness, seed: u64, time: Duration) -> Result<client::Report, Box<dyn Error>> {
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client::come_and_go(harness, seed * 1000 + number, until)))
            .collect();
        let mut all = client::Report::default();
        for client in clients {
            all += client.join().map_err(|_| "a client panicked")?.map_err(|error| error.to_string())?;
        }
        Ok(all)
    })
}

/// Resident memory of this process (Linux).
fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).ok_or("statm has a second field")?.parse()?;
    Ok(pages * 4096)
}

#[expect(clippy::print_stdout, reason = "the report is what a soak is for")]
fn say(line: &str) {
    println!("{line}");
}
