//! A pull in a process of its own: the test program starts itself again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use mullama_hub::{Hub, Phase};
use serde_json::{Value, json};

use crate::setup::Setup;

const ARGUMENTS: &str = "MULLAMA_TEST_PULL";

/// A process that pulls a model; it is killed when it is dropped.
pub(crate) struct Puller(pub(crate) Child);

/// What a process reported.
pub(crate) struct Report {
    /// Its phases, in order, each once.
    pub(crate) phases: Vec<String>,
    /// `path` of the model, or `code`, `reason` and `message` of the error.
    pub(crate) end: Value,
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Drop for Puller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A command that pulls `name` with the store of `setup`; its arguments follow those of `prefix`.
pub(crate) fn command(setup: &Setup, name: &str, prefix: &[&str]) -> Command {
    let program = std::env::current_exe().expect("this program");
    let this = program.to_string_lossy().into_owned();
    let mut words = prefix.iter().copied().chain([
        this.as_str(),
        "--exact",
        "program::pulls_in_a_process",
        "--nocapture",
        "--quiet",
    ]);
    let mut command = Command::new(words.next().expect("at least this program"));
    let arguments = json!({"folder": setup.folder.path(), "url": setup.server.url(), "name": name});
    command.args(words).env(ARGUMENTS, arguments.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a process that pulls.
pub(crate) fn start(setup: &Setup, name: &str) -> Puller {
    Puller(command(setup, name, &[]).spawn().expect("this program starts"))
}

/// Waits for the end of a process.
pub(crate) fn finish(mut puller: Puller) -> Report {
    let stdout = BufReader::new(puller.0.stdout.take().expect("it is piped"));
    let lines: Vec<_> = stdout.lines().map_while(Result::ok).collect();
    let mut stderr = String::new();
    let _ = std::io::Read::read_to_string(&mut puller.0.stderr.take().expect("it is piped"), &mut stderr);
    let status = puller.0.wait().expect("our child");
    let phases = lines.iter().filter_map(|line| line.strip_prefix("phase ")).map(str::to_owned).collect();
    let end = lines.iter().find_map(|line| serde_json::from_str(line.strip_prefix("end ")?).ok()).unwrap_or_default();
    Report { phases, end, status, stderr }
}

/// Pulls in a process, and expects it to succeed.
pub(crate) fn pulls(setup: &Setup, name: &str, content: &mullama_hub_server::Content) {
    let report = finish(start(setup, name));
    let path = report.end["path"].as_str().unwrap_or_else(|| panic!("{}: {}", report.end, report.stderr));
    crate::setup::assert_is(Path::new(path), content);
}

fn say(kind: &str, what: impl std::fmt::Display) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{kind} {what}").expect("the parent reads");
    stdout.flush().expect("the parent reads");
}

/// What such a process does. Among the other tests, where no process asked for it, it checks that by itself.
#[test]
fn pulls_in_a_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        let setup = Setup::new();
        return pulls(&setup, "tiny", &setup.demo());
    };
    if std::env::var_os(crate::secrets::LOG_EVERYTHING).is_some() {
        crate::secrets::log_everything();
    }
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    let url = arguments["url"].as_str().unwrap().parse().unwrap();
    let mut config = crate::setup::config(Path::new(arguments["folder"].as_str().unwrap()), &url);
    config.hugging_face_token = Some(mullama_hub_server::HUGGING_FACE_TOKEN.to_owned());
    let mut phase: Option<Phase> = None;
    // The libtest line before it has no end.
    say("", "");
    let result = Hub::new(config).and_then(|hub| {
        hub.pull_blocking(arguments["name"].as_str().unwrap(), |progress| {
            if phase.replace(progress.phase) != Some(progress.phase) {
                say("phase", format!("{:?}", progress.phase));
            }
            true
        })
    });
    match result {
        Ok(model) => say("end", json!({"path": model.path})),
        Err(error) => {
            let reason = match &error {
                mullama::MullamaError::Download { failure, .. } => failure.reason(),
                _ => "",
            };
            say("end", json!({"code": error.code(), "reason": reason, "message": error.to_string()}));
        }
    }
}
