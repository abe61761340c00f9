//! A server in a process of its own, which is this test program again, so that it has an environment of its own.

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mullama::ContextParams;
use mullama_server::{ServerConfig, Telemetry};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::support::{self, Answer, Client, LIMIT};

/// A server in a process, which is killed when this is dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Process {
    /// Starts a server with these variables and no others of OpenTelemetry.
    pub async fn start(variables: &[(&str, &str)]) -> Self {
        let (child, mut lines) = spawn(variables);
        let port = after(&mut lines, "port ").await.parse().expect("a port");
        Self { child, lines, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// What a server says about variables that cannot be used.
    pub async fn refusal(variables: &[(&str, &str)]) -> String {
        let (mut child, mut lines) = spawn(variables);
        let refusal = after(&mut lines, "refused ").await;
        child.wait().expect("it ends");
        refusal
    }

    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.expect("the server accepts"))
    }

    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// Stops the server in order. Returns how long that took, and the warnings of its log.
    pub async fn stop(mut self) -> (Duration, Vec<String>) {
        drop(self.child.stdin.take());
        let mut warnings = Vec::new();
        loop {
            let line = next(&mut self.lines).await;
            if let Some(milliseconds) = line.strip_prefix("stopped ") {
                return (Duration::from_millis(milliseconds.parse().expect("a time")), warnings);
            }
            warnings.extend(line.strip_prefix("warning ").map(str::to_owned));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(variables: &[(&str, &str)]) -> (Child, Receiver<String>) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "process::serves_with_its_environment", "--ignored", "--nocapture"]);
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs([("OTEL_BSP_SCHEDULE_DELAY", "20")]).envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (sender, lines) = channel(1024);
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.try_send(line)));
    (child, lines)
}

async fn next(lines: &mut Receiver<String>) -> String {
    let line = tokio::time::timeout(LIMIT, lines.recv()).await;
    line.expect("the server says something in time").expect("the server runs")
}

/// The rest of the next line that begins with these words.
async fn after(lines: &mut Receiver<String>, words: &str) -> String {
    loop {
        if let Some(rest) = next(lines).await.strip_prefix(words) {
            return rest.to_owned();
        }
    }
}

fn say(line: &str) {
    // The harness writes the name of the test before it, without a line break.
    let _ = writeln!(std::io::stdout(), "\n{line}");
}

/// Serves until the standard input ends.
#[tokio::test]
#[ignore = "it is the server that the other tests start"]
async fn serves_with_its_environment() {
    tracing::subscriber::set_global_default(Log).expect("it is the only one");
    let telemetry = match Telemetry::from_env() {
        Ok(telemetry) => telemetry,
        Err(error) => return say(&format!("refused {error}")),
    };
    let config = ServerConfig { telemetry, websocket: true, ..ServerConfig::default() };
    let mut server = support::start(config, ContextParams::default()).await;
    say(&format!("port {}", server.address.port()));
    let input = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    input.expect("it reads").expect("there is an input");
    let began = Instant::now();
    server.ask_to_stop();
    server.ended().await;
    say(&format!("stopped {}", began.elapsed().as_millis()));
}

/// Writes warnings and errors to the output.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line("warning".to_owned());
        event.record(&mut line);
        say(&line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}
