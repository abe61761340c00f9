//! A client that sends random requests, reads in a random manner, and checks the results.

use std::error::Error;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use mullama::{MullamaError, StreamConfig, TokenId, TokenStream, TryNext};

use crate::chance::Chance;
use crate::harness::{CONTEXT, Harness};

/// Maximum time that an active reader may have to wait for a token.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients observed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) streams: u64,
    finished: u64,
    left: u64,
    timed_out: u64,
    refused: u64,
    tokens: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.streams += other.streams;
        self.finished += other.finished;
        self.left += other.left;
        self.timed_out += other.timed_out;
        self.refused += other.refused;
        self.tokens += other.tokens;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { streams, finished, left, timed_out, refused, tokens } = self;
        write!(f, "{streams} streams: {finished} read to the end, {left} left, {timed_out} timed out, ")?;
        write!(f, "{refused} refused, {tokens} tokens read")
    }
}

/// How a client reads.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Fast,
    /// Sleeps this long after each token.
    Slow(Duration),
    /// Reads this many tokens, sleeps for a long time, then reads on.
    Stalled(u64),
    /// Reads this many tokens, then cancels or drops the stream.
    Gone(u64),
}

/// Sends one request after another until the time is over.
pub(crate) fn come_and_go(
    harness: &Harness,
    seed: u64,
    until: Instant,
) -> Result<Report, Box<dyn Error + Send + Sync>> {
    let (mut chance, mut report) = (Chance::new(seed), Report::default());
    while Instant::now() < until {
        report.streams += 1;
        let prompt = prompt(&mut chance);
        let (config, manner) = (config(&mut chance, prompt.len()), manner(&mut chance));
        let mut stream = match harness.stream(prompt.clone(), config.clone()) {
            Ok(stream) => stream,
            Err(MullamaError::Overloaded { .. }) => {
                report.refused += 1;
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let error = read(&mut stream, manner, &mut chance)?;
        report.tokens += stream.tokens_generated() as u64;
        let text = stream.text();
        drop(stream);
        let whole = error.is_none() && !matches!(manner, Manner::Gone(_));
        match error {
            None if whole => report.finished += 1,
            None => report.left += 1,
            Some(MullamaError::StreamTimeout { .. }) => report.timed_out += 1,
            Some(error) => return Err(error.into()),
        }
        if let Some(alone) = harness.alone(prompt, config.timeout_ms(None))? {
            let right = if whole { text == alone } else { alone.starts_with(&text) };
            if !right {
                return Err(format!("{manner:?}: {text:?}, but alone {alone:?}").into());
            }
        }
    }
    Ok(report)
}

/// One of five shared prompts, a prefix of it of random length, and a tail of the client's own.
fn prompt(chance: &mut Chance) -> Vec<TokenId> {
    let (head, len) = (chance.below(5), 1 + chance.below(60));
    let byte = |n: u64| TokenId::try_from(n % 256).expect("a byte");
    let mut tokens: Vec<TokenId> = (0..len).map(|at| byte(at * 11 + head * 50)).collect();
    for _ in 0..chance.below(20) {
        tokens.push(byte(chance.below(256)));
    }
    tokens
}

fn config(chance: &mut Chance, prompt_len: usize) -> StreamConfig {
    let free_tokens = (CONTEXT - prompt_len) as u64;
    let number = |n: u64| u32::try_from(n).expect("small");
    let mut config = StreamConfig::new()
        .max_tokens(number(chance.below(free_tokens.min(80))))
        .buffer_size(number(1 + chance.below(8)))
        .priority(i32::try_from(chance.below(3)).expect("small"))
        .seed(number(chance.below(1000)))
        .timeout_ms(None);
    if chance.one_in(3) {
        config = config.temperature(0.0);
    }
    if chance.one_in(6) {
        config.timeout_ms(1 + chance.below(40))
    } else if chance.one_in(3) {
        config.stop_sequences(vec!["ab".into(), "xyz".into(), "e".into()])
    } else {
        config
    }
}

fn manner(chance: &mut Chance) -> Manner {
    match chance.below(8) {
        0 => Manner::Slow(Duration::from_micros(chance.below(2_000))),
        1 => Manner::Stalled(chance.below(10)),
        2 | 3 => Manner::Gone(chance.below(20)),
        _ => Manner::Fast,
    }
}

/// Reads in this manner; returns the error that ended the stream, if there was one.
fn read(stream: &mut TokenStream, manner: Manner, chance: &mut Chance) -> Result<Option<MullamaError>, String> {
    let mut taken = 0;
    loop {
        match manner {
            Manner::Gone(after) if taken == after => {
                if chance.one_in(2) {
                    stream.cancel();
                }
                return Ok(None);
            }
            Manner::Stalled(after) if taken == after => std::thread::sleep(Duration::from_millis(30)),
            Manner::Slow(pause) => std::thread::sleep(pause),
            Manner::Fast | Manner::Gone(_) | Manner::Stalled(_) => {}
        }
        match stream.next_within(PATIENCE) {
            TryNext::Token(_) => taken += 1,
            TryNext::Ended => return Ok(None),
            TryNext::Failed(error) => return Ok(Some(error)),
            TryNext::Pending => return Err(format!("no token for {PATIENCE:?}: {:?}", stream.usage())),
        }
    }
}
