//! Measures what a token costs in addition to its decode: one row of a large vocabulary, and the rows of many streams.
//!
//!     cargo bench --profile release -p mullama --bench sampling
//!
//! Every figure is a median; the compared variants alternate.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use mullama::StreamConfig;
use mullama::testing::SamplingRows;

const N_VOCAB: usize = 152_000;
const STREAMS: usize = 64;
const RUNS: usize = 101;

fn main() -> Result<(), Box<dyn Error>> {
    say("| case | a | b | |\n|---|---|---|---|");
    for (name, config) in [("the default chain", StreamConfig::new()), ("greedy", StreamConfig::new().temperature(0.0))]
    {
        one_row(name, &config)?;
    }
    many_rows()
}

/// One row with two biases, compared with reading the same row once.
fn one_row(name: &str, config: &StreamConfig) -> Result<(), Box<dyn Error>> {
    let biases = vec![(17, 1.0), (151_000, -1.0)];
    let mut with_biases = SamplingRows::new(1, N_VOCAB, &config.clone().logit_bias(biases))?;
    let mut plain = SamplingRows::new(1, N_VOCAB, config)?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        times[0].push(micros(|| Ok::<_, Box<dyn Error>>(with_biases.read()))?);
        times[1].push(micros(|| with_biases.sample(1))?);
        times[2].push(micros(|| plain.sample(1))?);
    }
    let [read, sampled, plain] = times.map(median);
    say(&format!(
        "| {name}: reading a row of {N_VOCAB} / sampling it with 2 biases (µs) | {read:.1} | {sampled:.1} | {:.1} more |",
        sampled - read
    ));
    say(&format!(
        "| {name}: sampling it without / with 2 biases (µs) | {plain:.1} | {sampled:.1} | {:.1} more |",
        sampled - plain
    ));
    Ok(())
}

/// The rows of many streams on one thread, compared with two.
fn many_rows() -> Result<(), Box<dyn Error>> {
    let mut rows = SamplingRows::new(STREAMS, N_VOCAB, &StreamConfig::new())?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        times[0].push(micros(|| rows.sample(1))?);
        times[1].push(micros(|| rows.sample(2))?);
    }
    let [one, two] = times.map(median);
    say(&format!(
        "| {STREAMS} rows of {N_VOCAB} on 1 thread / on 2 (µs) | {one:.0} | {two:.0} | {:.2} times faster |",
        one / two
    ));
    Ok(())
}

fn micros<T, E: Into<Box<dyn Error>>>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, Box<dyn Error>> {
    let began = Instant::now();
    black_box(work().map_err(Into::into)?);
    Ok(began.elapsed().as_secs_f64() * 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "the table is what a bench is for")]
fn say(line: &str) {
    println!("{line}");
}
