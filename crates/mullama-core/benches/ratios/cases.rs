//! Compares streams with bare loops, and with streams under pressure.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mullama::testing::beside_busy_threads;
use mullama::{Context, ContextParams, Model, MullamaError, StreamConfig, TokenStream};

use crate::args::Args;
use crate::raw::{CELLS, PROMPT, Raw};
use crate::table::pairs;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs the cases that `args` selects and prints one line each.
pub(crate) fn run(args: &Args) -> Outcome<()> {
    let context = context(args, 1)?;
    let tokens = args.tokens;
    let mut raw_1 = Raw::new(args, 1)?;
    let mut raw_8 = Raw::new(args, 8)?;
    pairs(args, "Rust stream / raw", || single(&context, tokens), || Ok(raw_1.run(tokens)?))?;
    pairs(args, "8 streams / raw batch of 8", || together(&context, tokens, 8), || Ok(raw_8.run(tokens)?))?;
    let alone = || together(&context, tokens, 7);
    pairs(args, "7 beside 1 paused / 7 alone", || beside_paused(&context, tokens), alone)?;
    small_pool(args)?;
    busy_thread(args)?;
    busy_cores(args)?;
    side_by_side(args)
}

/// A context with its own pool size over the model: `share` parts of the usual pool.
pub(crate) fn context(args: &Args, share: u32) -> Outcome<Context> {
    let model = Arc::new(Model::load(&args.model)?);
    let params = ContextParams {
        n_ctx: Some(CELLS / 8 / share),
        kv_cells: Some(CELLS / share),
        n_threads: Some(args.threads),
        ..ContextParams::default()
    };
    Ok(Context::new(model, params)?)
}

/// Eight streams in a pool for four of them, compared with a pool for all.
fn small_pool(args: &Args) -> Outcome<()> {
    let tokens = args.tokens;
    let per_stream = tokens + 16;
    let sized = |streams: u32| -> Outcome<Context> {
        let params = ContextParams {
            n_ctx: Some(per_stream),
            kv_cells: Some(per_stream * streams),
            n_threads: Some(args.threads),
            ..ContextParams::default()
        };
        Ok(Context::new(Arc::new(Model::load(&args.model)?), params)?)
    };
    let (small, large) = (sized(4)?, sized(8)?);
    pairs(args, "pool for 4 of 8 streams / for 8", || together(&small, tokens, 8), || together(&large, tokens, 8))
}

/// Eight streams beside one busy thread, compared with the better of one and two fixed threads. With one thread the
/// engine has nothing to adapt, so that case runs the same eight streams; the case with two fixed threads is the bare
/// loop.
fn busy_thread(args: &Args) -> Outcome<()> {
    let name = "8 streams beside a busy thread / best fixed threads";
    if !name.contains(&args.only) {
        return Ok(());
    }
    let (adapting, one) = adapting_and_one(args)?;
    let mut two = Raw::with_threads(args, 8, 2)?;
    beside_busy_threads(1, || {
        let best = || Ok(together(&one, args.tokens, 8)?.max(two.run(args.tokens)?));
        pairs(args, name, || together(&adapting, args.tokens, 8), best)
    })
}

/// Eight streams beside as many busy threads as the engine has, compared with one fixed thread: with more, a bare
/// loop would take minutes.
fn busy_cores(args: &Args) -> Outcome<()> {
    let name = "8 streams where all cores are busy / one fixed thread";
    if !name.contains(&args.only) {
        return Ok(());
    }
    let (adapting, one) = adapting_and_one(args)?;
    beside_busy_threads(args.threads as usize, || {
        pairs(args, name, || together(&adapting, args.tokens, 8), || together(&one, args.tokens, 8))
    })
}

/// The slower of two engines that run eight streams each at the same time, compared with one engine alone.
fn side_by_side(args: &Args) -> Outcome<()> {
    let (left, right) = (context(args, 1)?, context(args, 1)?);
    let both = || -> Outcome<f64> {
        thread::scope(|scope| {
            let other = scope.spawn(|| together(&left, args.tokens, 8).map_err(|error| error.to_string()));
            let speed = together(&right, args.tokens, 8)?;
            Ok(speed.min(other.join().expect("a reader does not panic")?))
        })
    };
    pairs(args, "each of 2 engines side by side / one alone", both, || together(&left, args.tokens, 8))
}

fn adapting_and_one(args: &Args) -> Outcome<(Context, Context)> {
    Ok((context(args, 1)?, context(&Args { threads: 1, ..args.clone() }, 1)?))
}

pub(crate) fn config(tokens: u32) -> StreamConfig {
    StreamConfig::new().max_tokens(tokens).ignore_eos(true).seed(1).timeout_ms(None)
}

pub(crate) fn drain(stream: &mut TokenStream) -> Result<usize, MullamaError> {
    let mut items = 0;
    for token in stream {
        token?;
        items += 1;
    }
    Ok(items)
}

pub(crate) fn speed(items: usize, began: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
    let items = items as f64;
    items / began.elapsed().as_secs_f64()
}

fn single(context: &Context, tokens: u32) -> Outcome<f64> {
    let began = Instant::now();
    let items = drain(&mut context.stream(PROMPT, config(tokens))?)?;
    Ok(speed(items, began))
}

/// Runs `n` streams, each of which is read by its own thread.
pub(crate) fn together(context: &Context, tokens: u32, n: usize) -> Outcome<f64> {
    let began = Instant::now();
    let mut streams = (0..n).map(|_| context.stream(PROMPT, config(tokens))).collect::<Result<Vec<_>, _>>()?;
    let items: usize = thread::scope(|scope| {
        let readers: Vec<_> = streams.iter_mut().map(|stream| scope.spawn(move || drain(stream))).collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).sum::<Result<usize, _>>()
    })?;
    Ok(speed(items, began))
}

/// Seven streams while an eighth is paused because it is not read.
fn beside_paused(context: &Context, tokens: u32) -> Outcome<f64> {
    let paused = context.stream(PROMPT, config(tokens).buffer_size(64))?;
    let patience = Instant::now() + Duration::from_secs(30);
    while paused.buffered() < 64 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    together(context, tokens, 7)
}
