//! Streams a text to the terminal, token by token.
//!
//!     cargo run --release --example stream -- model.gguf "Once upon a time"

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;

use mullama::{Context, ContextParams, Model, StreamConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: stream MODEL [PROMPT]")?;
    let prompt = args.next().unwrap_or_else(|| "Once upon a time".into());

    let context = Context::new(Arc::new(Model::load(path)?), ContextParams::default())?;
    let mut stream = context.stream(prompt, StreamConfig::new().max_tokens(200))?;
    let mut out = stdout();
    for token in &mut stream {
        write!(out, "{}", token?)?;
        out.flush()?;
    }
    writeln!(out, "\n{:.0} tokens/s", stream.tokens_per_second())?;
    Ok(())
}
