//! The cost of prompts: shared prefixes, time budgets, and the effect of a long prompt on streams beside it.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mullama::{Context, ContextParams, Model, TokenId};
use mullama_ffi::{Batch, ContextOptions, ModelOptions};

use crate::args::Args;
use crate::cases::{Outcome, config, context, together};
use crate::table::{pairs, quantile, say};

/// Runs the cases about prompts.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    warm_prefix(args, "first token of a prompt, cold / warm in the pool", false)?;
    warm_prefix(args, "first token of a prompt, cold / warm in host memory", true)?;
    idle_company(args)?;
    foreign_prompt(args)?;
    lone_prompt(args)
}

/// Tokens that were not computed before; they differ from the first one on for each `seed`.
pub(crate) fn prompt(len: usize, seed: usize) -> Vec<TokenId> {
    (0..len)
        .map(|at| TokenId::try_from(300 + (at * 7 + seed * 131) % 600).expect("a token of the demo's vocabulary"))
        .collect()
}

fn context_with_cells(args: &Args, n_ctx: u32, kv_cells: u32) -> Outcome<Context> {
    let (n_ctx, kv_cells) = (Some(n_ctx), Some(kv_cells));
    let params = ContextParams { n_ctx, kv_cells, n_threads: Some(args.threads), ..ContextParams::default() };
    Ok(Context::new(Arc::new(Model::load(&args.model)?), params)?)
}

fn first_token(context: &Context, prompt: Vec<TokenId>) -> Outcome<f64> {
    let done = context.generate(prompt, config(1))?;
    Ok(done.timings.first_token.as_secs_f64() * 1000.0)
}

/// Time to the first token of a repeated prompt. In a pool for 32 prompts an idle prefix keeps its cells.
fn warm_prefix(args: &Args, name: &str, offloaded: bool) -> Outcome<()> {
    let cells = u32::try_from(args.prompt)? * if offloaded { 2 } else { 32 };
    let context = context_with_cells(args, u32::try_from(args.prompt)? + 64, cells.max(2048))?;
    let mut seed = 0;
    let mut cold_then = |again: bool| {
        seed += 1;
        let prompt = prompt(args.prompt, seed);
        let cold = first_token(&context, prompt.clone())?;
        if again { first_token(&context, prompt) } else { Ok(cold) }
    };
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    if !name.contains(&args.only) {
        return Ok(());
    }
    cold_then(true)?;
    for _ in 0..args.pairs {
        cold.push(cold_then(false)?);
        warm.push(cold_then(true)?);
    }
    let (cold, warm) = (quantile(cold, 0.5), quantile(warm, 0.5));
    say(&format!("| {name} (ms) | {:.1} | {cold:.1} | {warm:.2} |", cold / warm));
    Ok(())
}

/// Eight streams beside the cached prefixes of three finished conversations, compared with eight in an empty engine.
fn idle_company(args: &Args) -> Outcome<()> {
    let (with_cached, empty) = (context(args, 1)?, context(args, 1)?);
    let mut seed = 0;
    let beside = || {
        for _ in 0..8 {
            seed += 1;
            with_cached.generate(prompt(375, seed), config(1))?;
        }
        together(&with_cached, args.tokens, 8)
    };
    let name = "8 streams beside 3,000 idle tokens / in an empty engine";
    pairs(args, name, beside, || together(&empty, args.tokens, 8))
}

/// How long a running stream waits for its tokens while another stream's long prompt is computed.
fn foreign_prompt(args: &Args) -> Outcome<()> {
    let names =
        ["gap of a stream beside a foreign prompt, p99 / its median alone (ms)", "speed of that prompt / alone"];
    if !names.iter().any(|name| name.contains(&args.only)) {
        return Ok(());
    }
    let len = args.prompt * 4;
    let context = context_with_cells(args, u32::try_from(len)? + 1024, 8192.max(u32::try_from(len)? + 2048))?;
    first_token(&context, prompt(len / 4, 1))?;
    let prefill = |seed| -> Outcome<f64> {
        let done = context.generate(prompt(len, seed), config(1))?;
        #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
        Ok(len as f64 / done.timings.prefill.as_secs_f64())
    };
    let alone = prefill(2)?;
    let mut stream = context.stream("Once upon a time", config(900))?;
    let (mut quiet, mut beside, mut speed) = (Vec::new(), Vec::new(), f64::NAN);
    let mut gap = |gaps: &mut Vec<f64>| {
        let began = Instant::now();
        let token = stream.next_blocking();
        gaps.push(began.elapsed().as_secs_f64() * 1000.0);
        token.is_some()
    };
    for _ in 0..60 {
        gap(&mut quiet);
    }
    thread::scope(|scope| -> Outcome<()> {
        let foreign = scope.spawn(|| prefill(3).map_err(|error| error.to_string()));
        while !foreign.is_finished() && gap(&mut beside) {}
        speed = foreign.join().map_err(|_| "the foreign prompt panicked")??;
        Ok(())
    })?;
    let (p99, median) = (quantile(beside, 0.99), quantile(quiet, 0.5));
    say(&format!("| {} | {:.2} | {p99:.1} | {median:.2} |", names[0], p99 / median));
    say(&format!("| {} (tokens/s) | {:.2} | {speed:.0} | {alone:.0} |", names[1], speed / alone));
    Ok(())
}

/// A long prompt computed within the prefill budget, compared with one decode call of `n_batch` 2048.
fn lone_prompt(args: &Args) -> Outcome<()> {
    let len = (args.prompt * 2).min(2048);
    let context = context_with_cells(args, u32::try_from(len)? + 64, 4096)?;
    let model = mullama_ffi::Model::load(&args.model, &ModelOptions::default(), None)?;
    let (n_threads, n_threads_batch) = (args.threads, args.threads);
    let options =
        ContextOptions { n_ctx: 4096, n_batch: 2048, n_threads, n_threads_batch, ..ContextOptions::default() };
    let mut raw = mullama_ffi::Context::new(&model, &options)?;
    let mut seed = 0;
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens")]
    let tokens = len as f64;
    let ours = || {
        seed += 1;
        let done = context.generate(prompt(len, seed), config(1))?;
        Ok(tokens / done.timings.prefill.as_secs_f64())
    };
    let bare = || {
        let mut batch = Batch::new(2048);
        for (position, &token) in (0..).zip(&prompt(len, 0)) {
            batch.push(token, position, 0, usize::try_from(position)? + 1 == len)?;
        }
        let began = Instant::now();
        raw.decode(&batch)?;
        raw.logits(len - 1)?;
        let took = began.elapsed();
        raw.seq_rm(0, 0, None)?;
        raw.pause_threads()?;
        Ok(tokens / took.as_secs_f64())
    };
    pairs(args, "a lone prompt under the step's budget / n_batch 2048", ours, bare)
}
