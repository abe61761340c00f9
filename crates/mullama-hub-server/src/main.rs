//! Runs the server until standard input ends: `mullama-hub-server python/mullama/models/demo.gguf`.
//!
//! The first line of standard output is a JSON object with its addresses. A second argument makes them `https` addresses
//! with such a certificate: `valid`, `self-signed`, `expired` or `other-host`. `ca_pem` is the CA certificate then.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mullama_hub_server::{Certificate, HUGGING_FACE_TOKEN, Server};
use serde_json::json;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (demo, certificate) = (arguments.next(), arguments.next().map(|name| certificate(&name)));
    let (Some(demo), Ok(certificate), None) = (demo, certificate.transpose(), arguments.next()) else {
        let _ = writeln!(io::stderr(), "usage: mullama-hub-server DEMO.gguf [valid|self-signed|expired|other-host]");
        return ExitCode::from(2);
    };
    match run(&PathBuf::from(demo), certificate) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mullama-hub-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn certificate(name: &OsStr) -> Result<Certificate, ()> {
    match name.to_str() {
        Some("valid") => Ok(Certificate::Valid),
        Some("self-signed") => Ok(Certificate::SelfSigned),
        Some("expired") => Ok(Certificate::Expired),
        Some("other-host") => Ok(Certificate::OtherHost),
        _ => Err(()),
    }
}

fn run(demo: &Path, certificate: Option<Certificate>) -> io::Result<()> {
    let server = match certificate {
        Some(certificate) => Server::start_encrypted(demo, certificate)?,
        None => Server::start(demo)?,
    };
    let control = format!("{}/_control", server.plain_url());
    let mut addresses =
        json!({"url": server.url(), "cdn_url": server.cdn_url(), "control": control, "hf_token": HUGGING_FACE_TOKEN});
    if let Some(ca_pem) = server.ca_pem() {
        addresses["ca_pem"] = ca_pem.into();
    }
    let mut stdout = io::stdout();
    writeln!(stdout, "{addresses}")?;
    stdout.flush()?;
    io::copy(&mut io::stdin().lock().take(u64::MAX), &mut io::sink())?;
    Ok(())
}
