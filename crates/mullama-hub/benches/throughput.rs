//! How fast a pull is, compared with `curl` for the same blob from the same server: `cargo bench --profile release
//! --package mullama-hub --bench throughput`.
//!
//! The pull verifies SHA-256 and synchronizes the file with the disk; `curl` does neither. `MULLAMA_BENCH_BYTES` is the
//! length of the blob (default 1 GiB), and `TMPDIR` the disk.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mullama_hub::{Hub, HubConfig};
use mullama_hub_server::{Server, blob_path};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
const ROUNDS: usize = 5;

fn main() {
    let len: u64 =
        std::env::var("MULLAMA_BENCH_BYTES").map_or(1 << 30, |text| text.parse().expect("a number of bytes"));
    let server = Server::start(Path::new(DEMO)).expect("a port is free");
    let content = server.sized(len);
    let url = format!("{}{}", server.url(), blob_path("library/sized", &content));
    let (mut pulls, mut curls) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        pulls.push(pull(&server, len));
        curls.push(curl(&url, len));
    }
    let (pull, curl) = (median(pulls), median(curls));
    let megabytes = f64::from(u32::try_from(len / 1_000_000).expect("less than a petabyte"));
    let speed = |time: Duration| megabytes / time.as_secs_f64();
    let ratio = curl.as_secs_f64() / pull.as_secs_f64();
    let line = format!("pull {:.0} MB/s, curl {:.0} MB/s, ratio {ratio:.2}", speed(pull), speed(curl));
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}

fn pull(server: &Server, len: u64) -> Duration {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url: url::Url = server.url().parse().expect("a valid address");
    let config = HubConfig {
        store: folder.path().join("store"),
        registry: url.clone(),
        hugging_face: url,
        hugging_face_cache: folder.path().join("cache"),
        hugging_face_token: None,
        ollama_stores: Vec::new(),
        lm_studio_folders: Vec::new(),
        offline: None,
        demo: None,
        stall_limit: Duration::from_secs(30),
        unusable: Vec::new(),
    };
    let hub = Hub::new(config).expect("the configuration is valid");
    let started = Instant::now();
    hub.pull_blocking(&format!("sized:{len}"), |_| true).expect("the server works");
    started.elapsed()
}

fn curl(url: &str, len: u64) -> Duration {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("blob");
    let started = Instant::now();
    let status = Command::new("curl").args(["-sfL", "-o"]).arg(&path).arg(url).status().expect("curl is installed");
    let elapsed = started.elapsed();
    assert!(status.success() && path.metadata().is_ok_and(|file| file.len() == len));
    elapsed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
