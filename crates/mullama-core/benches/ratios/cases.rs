//! The table's rows that are Rust alone: pairs of interleaved runs and the ratio of their medians.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mullama::{Context, ContextParams, Model, MullamaError, StreamConfig, TokenStream};

use crate::args::Args;
use crate::raw::{CELLS, PROMPT, Raw};

type Outcome<T> = Result<T, Box<dyn Error>>;
/// One run; its tokens a second.
type Run<'a> = Box<dyn FnMut() -> Outcome<f64> + 'a>;

/// Runs the cases that `args` asks for and prints a line each.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    let model = Arc::new(Model::load(&args.model)?);
    let params = ContextParams {
        n_ctx: Some(CELLS / 8),
        kv_cells: Some(CELLS),
        n_threads: Some(args.threads),
        ..ContextParams::default()
    };
    let context = Context::new(model, params)?;
    let tokens = args.tokens;
    let mut raw_1 = Raw::new(args, 1)?;
    let mut raw_8 = Raw::new(args, 8)?;
    let cases: Vec<(&str, Run<'_>, Run<'_>)> = vec![
        ("Rust stream / raw", Box::new(|| single(&context, tokens)), Box::new(|| Ok(raw_1.run(tokens)?))),
        ("8 streams / raw batch of 8", Box::new(|| together(&context, tokens, 8)), Box::new(|| Ok(raw_8.run(tokens)?))),
        (
            "7 beside 1 parked / 7 alone",
            Box::new(|| beside_parked(&context, tokens)),
            Box::new(|| together(&context, tokens, 7)),
        ),
    ];
    say("| case | ratio | tokens/s | beside |");
    for (name, mut ours, mut other) in cases.into_iter().filter(|(name, ..)| name.contains(&args.only)) {
        let (mut our_speeds, mut other_speeds) = (Vec::new(), Vec::new());
        (ours()?, other()?);
        for _ in 0..args.pairs {
            our_speeds.push(ours()?);
            other_speeds.push(other()?);
        }
        let (ours, other) = (median(our_speeds), median(other_speeds));
        say(&format!("| {name} | {:.3} | {ours:.0} | {other:.0} |", ours / other));
    }
    Ok(())
}

fn config(tokens: u32) -> StreamConfig {
    StreamConfig::new().max_tokens(tokens).ignore_eos(true).seed(1).timeout_ms(None)
}

fn drain(stream: &TokenStream) -> Result<usize, MullamaError> {
    let mut items = 0;
    for token in stream {
        token?;
        items += 1;
    }
    Ok(items)
}

fn speed(items: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
    let items = items as f64;
    items / began.elapsed().as_secs_f64()
}

fn single(context: &Context, tokens: u32) -> Outcome<f64> {
    let began = Instant::now();
    let items = drain(&context.stream(PROMPT, config(tokens))?)?;
    Ok(speed(items, began))
}

/// `n` streams, each read by a thread of its own.
fn together(context: &Context, tokens: u32, n: usize) -> Outcome<f64> {
    let began = Instant::now();
    let streams = (0..n).map(|_| context.stream(PROMPT, config(tokens))).collect::<Result<Vec<_>, _>>()?;
    let items: usize = thread::scope(|scope| {
        let readers: Vec<_> = streams.iter().map(|stream| scope.spawn(move || drain(stream))).collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).sum::<Result<usize, _>>()
    })?;
    Ok(speed(items, began))
}

/// Seven streams while an eighth is parked behind a reader that does not read.
fn beside_parked(context: &Context, tokens: u32) -> Outcome<f64> {
    let parked = context.stream(PROMPT, config(tokens).buffer_size(64))?;
    let patience = Instant::now() + Duration::from_secs(30);
    while parked.buffered() < 64 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    together(context, tokens, 7)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A line of the table, or an answer.
#[expect(clippy::print_stdout, reason = "the table is what a bench is for")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
