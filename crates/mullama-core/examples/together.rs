//! Eight readers share one engine; the one that stops reading delays none of the others.
//!
//!     cargo run --release --example together -- model.gguf

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::thread;

use mullama::{Context, ContextParams, Model, StreamConfig, TokenStream};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: together MODEL")?;
    let context = Context::new(Arc::new(Model::load(path)?), ContextParams::default())?;

    // This stream is not read: it is computed 16 tokens ahead, then it is paused and its slot is free.
    let asleep = context.stream("Once upon a time", StreamConfig::new().buffer_size(16))?;
    let open = |seed| context.stream("Write a poem:", StreamConfig::new().max_tokens(100).seed(seed));
    let readers = (0..7).map(open).collect::<Result<Vec<TokenStream>, _>>()?;

    let lines = thread::scope(|scope| {
        let read = |stream: TokenStream| stream.into_completion().map(|done| (done.usage, done.timings.decode));
        let threads: Vec<_> = readers.into_iter().map(|stream| scope.spawn(move || read(stream))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a reader does not panic")).collect::<Result<Vec<_>, _>>()
    })?;
    for (usage, time) in lines {
        writeln!(stdout(), "{} tokens in {time:.2?}", usage.completion_tokens)?;
    }
    writeln!(stdout(), "asleep: {} tokens wait for it", asleep.buffered())?;
    Ok(())
}
