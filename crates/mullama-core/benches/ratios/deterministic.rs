//! The cost of determinism for the stream that requests it, and for the streams beside it.

use std::time::Instant;

use mullama::{Context, StreamConfig};

use crate::args::Args;
use crate::cases::{Outcome, config, context, drain, speed, together};
use crate::prompts::prompt;
use crate::raw::PROMPT;
use crate::table::{pairs, quantile, say};

/// Runs the cases about deterministic streams.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    let context = context(args, 1)?;
    let tokens = args.tokens;
    let exact = || single(&context, config(tokens).deterministic(true));
    pairs(args, "deterministic stream / plain stream", exact, || single(&context, config(tokens)))?;
    prompts(args, &context)?;
    let alone = || together(&context, tokens, 4);
    pairs(args, "4 streams beside a deterministic one / 4 alone", || beside(&context, tokens), alone)
}

/// Measures prompts, because those of deterministic streams are computed in smaller chunks.
fn prompts(args: &Args, context: &Context) -> Outcome<()> {
    let name = "prompt of a deterministic stream / of a plain one";
    if !name.contains(&args.only) {
        return Ok(());
    }
    let len = args.prompt.min(400);
    let mut seed = 0;
    let mut prefill = |deterministic: bool| -> Outcome<f64> {
        seed += 1;
        let done = context.generate(prompt(len, seed), config(1).deterministic(deterministic))?;
        #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
        Ok(len as f64 / done.timings.prefill.as_secs_f64())
    };
    let (mut exact, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..args.pairs {
        exact.push(prefill(true)?);
        plain.push(prefill(false)?);
    }
    let (exact, plain) = (quantile(exact, 0.5), quantile(plain, 0.5));
    say(&format!("| {name} (tokens/s) | {:.2} | {exact:.0} | {plain:.0} |", exact / plain));
    Ok(())
}

fn single(context: &Context, config: StreamConfig) -> Outcome<f64> {
    let began = Instant::now();
    let items = drain(&mut context.stream(PROMPT, config)?)?;
    Ok(speed(items, began))
}

/// Four streams while a deterministic one is always running beside them.
fn beside(context: &Context, tokens: u32) -> Outcome<f64> {
    let _exact = context.stream(PROMPT, config(4 * tokens).deterministic(true).buffer_size(65_536))?;
    together(context, tokens, 4)
}
