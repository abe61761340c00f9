//! How long it takes until a cancelled stream has freed its slot, for each phase.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mullama::{Context, TokenId, TokenStream};

use crate::args::Args;
use crate::cases::{Outcome, config, context};
use crate::table::{quantile, say};

/// Maximum time to wait for a phase.
const PATIENCE: Duration = Duration::from_secs(30);

/// Brings a stream into a phase.
type Phase = fn(&Context) -> Outcome<TokenStream>;

/// Prints the latency of a cancel in each phase.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    let context = context(args, 1)?;
    let phases: [(&str, Phase); 3] = [("prefill", in_prefill), ("decode", in_decode), ("paused", paused)];
    for (phase, enter) in phases {
        let name = format!("cancel in {phase}, p50 and p99 (ms)");
        if !name.contains(&args.only) {
            continue;
        }
        let mut took = Vec::new();
        for _ in 0..args.pairs * 5 {
            let stream = enter(&context)?;
            let began = Instant::now();
            stream.cancel();
            wait(|| Ok(context.unfinished()? == 0))?;
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        say(&format!("| {name} | | {:.3} | {:.3} |", quantile(took.clone(), 0.5), quantile(took, 0.99)));
    }
    Ok(())
}

fn wait(ready: impl Fn() -> Outcome<bool>) -> Outcome<()> {
    let began = Instant::now();
    while !ready()? {
        if began.elapsed() > PATIENCE {
            return Err("the phase does not come".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// The prompts differ from the start, because a shared prefix would not be computed again.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn in_prefill(context: &Context) -> Outcome<TokenStream> {
    let len = context.context_len()? - 8;
    let seed = NEXT.fetch_add(1, Ordering::Relaxed);
    let prompt: Vec<TokenId> = (0..len).map(|at| TokenId::try_from((at * 7 + seed) % 600).unwrap_or(0) + 300).collect();
    let before = context.stats()?.prefill_steps.count;
    let stream = context.stream(prompt, config(4))?;
    // The first step of the prompt is over, and many more follow.
    wait(|| Ok(context.stats()?.prefill_steps.count > before))?;
    Ok(stream)
}

fn in_decode(context: &Context) -> Outcome<TokenStream> {
    let stream = context.stream("Once upon a time", config(400).buffer_size(1000))?;
    wait(|| Ok(stream.usage().completion_tokens >= 3))?;
    Ok(stream)
}

fn paused(context: &Context) -> Outcome<TokenStream> {
    let stream = context.stream("Once upon a time", config(400).buffer_size(2))?;
    wait(|| Ok(stream.buffered() == 2 && context.stats()?.paused == 1))?;
    Ok(stream)
}
