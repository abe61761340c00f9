//! The cost of the engine itself: streams over logits that cost nothing.

use std::time::Instant;

use mullama::testing::{Limits, Reuse, ScriptedContext, Size, always};
use mullama::{StreamConfig, TokenStream};

use crate::args::Args;
use crate::cases::Outcome;
use crate::table::{quantile, say};

const TOKENS: u32 = 2_000;

/// Prints the microseconds per token of one stream and of eight.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    let limits = Limits { rows: 512, cells: 1 << 16, n_seq: 72, reuse: Reuse::Nothing };
    let size = Size { context_len: 4096, limits, ..Size::default() };
    let context = ScriptedContext::start(size, always(|tokens| 97 + i32::try_from(tokens.len() % 26).unwrap_or(0)))?;
    for streams in [1, 8] {
        let name = format!("engine alone over scripted logits, {streams} streams (µs a token)");
        if !name.contains(&args.only) {
            continue;
        }
        let mut costs = Vec::new();
        for _ in 0..args.pairs {
            let config = StreamConfig::new().temperature(0.0).max_tokens(TOKENS).buffer_size(TOKENS).timeout_ms(None);
            let began = Instant::now();
            let mut open: Vec<TokenStream> =
                (0..streams).map(|_| context.stream(vec![1], config.clone())).collect::<Result<_, _>>()?;
            for stream in &mut open {
                for token in stream {
                    token?;
                }
            }
            costs.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(TOKENS * streams));
        }
        say(&format!("| {name} | | {:.2} | |", quantile(costs, 0.5)));
    }
    Ok(())
}
