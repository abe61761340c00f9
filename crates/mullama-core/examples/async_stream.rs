//! Streams in an async program; dropping a stream that takes too long frees its compute.
//!
//!     cargo run --release --example async_stream -- model.gguf

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Duration;

use futures_util::StreamExt;
use mullama::{AsyncModel, StreamConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: async_stream MODEL")?;
    let model = AsyncModel::load(path).await?;
    let config = StreamConfig::new().max_tokens(200).temperature(0.7).stop_sequences(vec!["END".into()]);
    let mut stream = model.generate_stream("Tell me about Rust:", config).await?;

    let read = async {
        while let Some(token) = stream.next().await {
            write!(stdout(), "{}", token?.text)?;
            stdout().flush()?;
        }
        Ok::<(), Box<dyn Error>>(())
    };
    match tokio::time::timeout(Duration::from_secs(10), read).await {
        Ok(done) => done?,
        Err(_) => writeln!(stdout(), "\nthat took too long")?,
    }
    writeln!(stdout(), "\n{:.0} tokens/s", stream.tokens_per_second())?;
    Ok(())
}
