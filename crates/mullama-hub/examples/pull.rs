//! Downloads a model by name and prints its path: `cargo run --release -p mullama-hub --example pull -- llama3.2:1b`.
//!
//! A second run continues where the first was interrupted.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use mullama_hub::{Hub, HubConfig};

fn main() -> ExitCode {
    let Some(name) = env::args().nth(1) else {
        let _ = writeln!(io::stderr(), "usage: pull NAME");
        return ExitCode::from(2);
    };
    let hub = HubConfig::from_env().and_then(Hub::new);
    let pulled = hub.and_then(|hub| {
        hub.pull_blocking(&name, |progress| {
            let total = progress.total.map_or_else(|| "?".to_owned(), |total| (total >> 20).to_string());
            let phase = progress.phase.as_str();
            let _ = write!(io::stderr(), "\r{phase} {}: {} of {total} MiB ", progress.file, progress.done >> 20);
            true
        })
    });
    let _ = writeln!(io::stderr());
    let (line, code) = match pulled {
        Ok(model) => (model.path.display().to_string(), ExitCode::SUCCESS),
        Err(error) => (format!("{}: {}", error.code(), error.message()), ExitCode::FAILURE),
    };
    let _ = writeln!(io::stdout(), "{line}");
    code
}
