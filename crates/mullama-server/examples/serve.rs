//! Serves one GGUF file on a loopback port until Ctrl-C: `cargo run --release --example serve -- model.gguf 8080`.

#![expect(clippy::print_stderr, reason = "an example may print")]

use std::io;

use mullama_server::{Listen, LoadOptions, ModelSource, ModelSpec, Server, ServerConfig, State, Telemetry};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("the first argument is the path of a GGUF file")?;
    let port = arguments.next().map_or(Ok(8080), |port| port.parse())?;
    let model = ModelSpec { name: "demo".into(), source: ModelSource::File(path.into()) };
    let config = ServerConfig { telemetry: Telemetry::from_env()?, ..ServerConfig::default() };
    let state = State::new(vec![model], LoadOptions::default(), config, None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind(&Listen::Tcp("127.0.0.1".into(), port), state).await?;
        eprintln!("listening at {}", server.url());
        server.run(async { drop(tokio::signal::ctrl_c().await) }).await;
        io::Result::Ok(())
    })?;
    Ok(())
}
