//! Runs the server until standard input ends: `mullama-hub-server python/mullama/models/demo.gguf`.
//!
//! The first line of standard output is a JSON object with its addresses.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use mullama_hub_server::{HUGGING_FACE_TOKEN, Server};
use serde_json::json;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(demo), None) = (arguments.next(), arguments.next()) else {
        let _ = writeln!(io::stderr(), "usage: mullama-hub-server DEMO.gguf");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from(demo)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mullama-hub-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(demo: &std::path::Path) -> io::Result<()> {
    let server = Server::start(demo)?;
    let control = format!("{}/_control", server.url());
    let addresses =
        json!({"url": server.url(), "cdn_url": server.cdn_url(), "control": control, "hf_token": HUGGING_FACE_TOKEN});
    let mut stdout = io::stdout();
    writeln!(stdout, "{addresses}")?;
    stdout.flush()?;
    io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink())?;
    Ok(())
}
