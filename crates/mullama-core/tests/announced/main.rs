//! The Rust examples that the API was announced with, as they were printed in `tests/announced.txt` of the repository,
//! which a Python test compares with this file.
#![cfg(feature = "streaming")]
#![allow(clippy::all, clippy::pedantic, clippy::print_stdout, clippy::print_stderr, reason = "printed elsewhere")]

use std::error::Error;
use std::path::Path;

type Outcome = Result<(), Box<dyn Error>>;

/// Makes a folder with the model's file of the examples the working directory of this process.
fn with_the_model() -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf");
    std::os::unix::fs::symlink(demo.canonicalize()?, folder.path().join("model.gguf"))?;
    std::env::set_current_dir(folder.path())?;
    Ok(folder)
}

/// One test, because the working directory is the whole process's.
#[test]
fn every_announced_example_runs() -> Outcome {
    let _folder = with_the_model()?;
    callback()?;
    whole_program::run()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    runtime.block_on(async {
        configured().await?;
        slow_consumer().await?;
        errors().await?;
        Ok::<(), Box<dyn Error>>(())
    })?;
    early_stop()
}

#[rustfmt::skip]
fn callback() -> Outcome {
    use mullama::{Model, Context, ContextParams};
    use std::sync::Arc;
    use std::io::Write;

    let model = Arc::new(Model::load("model.gguf")?);
    let mut context = Context::new(model, ContextParams::default())?;

    context.generate_streaming("Write a poem:", 200, |token| {
        print!("{}", token);
        std::io::stdout().flush().ok();
        true  // Return true to continue, false to stop
    })?;
    println!();
    Ok(())
}

#[rustfmt::skip]
async fn configured() -> Outcome {
    let model = mullama::AsyncModel::load("model.gguf").await?;
    use mullama::StreamConfig;

    let config = StreamConfig::new()
        .max_tokens(500)
        .temperature(0.7)
        .top_k(40)
        .top_p(0.9)
        .stop_sequences(vec!["END".to_string()])
        .stream_delay_ms(0);

    let mut stream = model.generate_stream("Hello:", config).await?;
    assert!(tokio_stream::StreamExt::next(&mut stream).await.is_some());
    Ok(())
}

#[rustfmt::skip]
mod whole_program {
    use mullama::{AsyncModel, StreamConfig};
    use tokio_stream::StreamExt;

    #[tokio::main]
    async fn main() -> Result<(), mullama::MullamaError> {
        let model = AsyncModel::load("model.gguf").await?;

        let config = StreamConfig::new()
            .max_tokens(200)
            .temperature(0.7);

        let mut stream = model.generate_stream("Tell me about Rust:", config).await?;

        while let Some(token_result) = stream.next().await {
            let token_data = token_result?;
            print!("{}", token_data.text);
        }

        println!("\nTokens generated: {}", stream.tokens_generated());
        Ok(())
    }

    pub(super) fn run() -> Result<(), mullama::MullamaError> {
        main()
    }
}

#[rustfmt::skip]
async fn slow_consumer() -> Outcome {
    use tokio_stream::StreamExt;
    let model = mullama::AsyncModel::load("model.gguf").await?;
    let config = mullama::StreamConfig::new().max_tokens(20);
    use tokio::time::{sleep, Duration};

    let mut stream = model.generate_stream("Generate text:", config).await?;

    while let Some(token_result) = stream.next().await {
        let token_data = token_result?;
        print!("{}", token_data.text);

        // Slow consumer -- generator will pause automatically
        sleep(Duration::from_millis(50)).await;
    }
    assert!(stream.tokens_generated() > 0);
    Ok(())
}

#[rustfmt::skip]
async fn errors() -> Outcome {
    use tokio_stream::StreamExt;
    let model = mullama::AsyncModel::load("model.gguf").await?;
    let config = mullama::StreamConfig::new().timeout_ms(50).stream_delay_ms(20);
    let mut stream = model.generate_stream("Hello:", config).await?;

    while let Some(token_result) = stream.next().await {
        match token_result {
            Ok(token_data) => print!("{}", token_data.text),
            Err(mullama::MullamaError::StreamingError(msg)) => {
                eprintln!("\nStreaming error: {}", msg);
                break;
            }
            Err(e) => {
                eprintln!("\nUnexpected error: {}", e);
                break;
            }
        }
    }
    assert_eq!(stream.finish_reason(), Some(mullama::FinishReason::Timeout));
    Ok(())
}

#[rustfmt::skip]
fn early_stop() -> Outcome {
    let model = std::sync::Arc::new(mullama::Model::load("model.gguf")?);
    let mut context = mullama::Context::new(model, mullama::ContextParams::default())?;
    let mut output = String::new();
    let mut total_tokens = 0;

    context.generate_streaming("Generate a list:", 1000, |token| {
        output.push_str(&token);
        total_tokens += 1;

        // Stop after 5 list items
        let item_count = output.matches("\n-").count();
        if item_count >= 5 {
            return false;  // Stop generation
        }

        print!("{}", token);
        true
    })?;
    assert!(total_tokens > 0 && output.matches("\n-").count() <= 5);
    Ok(())
}
