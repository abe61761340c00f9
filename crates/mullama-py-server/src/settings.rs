//! The settings of a server, as the package passes them.

use std::path::PathBuf;
use std::time::Duration;

use mullama::{ModelOptions, MullamaError};
use mullama_hub::{Hub, HubConfig, ModelName};
use mullama_py_common::settings::context_params;
use mullama_py_common::to_py;
use mullama_server::{Listen, LoadOptions, ModelSource, ModelSpec, ServerConfig, State, Telemetry, TlsFiles};
use pyo3::prelude::*;

/// The settings by name. The package checks their ranges.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(clippy::struct_excessive_bools, reason = "Python's keywords")]
pub(crate) struct Settings<'py> {
    /// Names of models, and what they are loaded from.
    models: Vec<(String, String)>,
    /// The demo model of the package.
    demo: PathBuf,
    context_params: Bound<'py, PyAny>,
    n_gpu_layers: i32,
    use_mmap: bool,
    use_mlock: bool,
    host: String,
    port: u16,
    /// The path of a Unix socket, in place of host and port.
    unix: Option<PathBuf>,
    socket_mode: u32,
    systemd: bool,
    pub(crate) threads: usize,
    max_loaded: usize,
    idle_unload: Option<f64>,
    max_connections: usize,
    max_body_bytes: usize,
    header_timeout: f64,
    body_timeout: f64,
    write_timeout: f64,
    drain_timeout: f64,
    request_timeout: Option<f64>,
    keep_alive: f64,
    api_keys: Vec<String>,
    allow_no_keys: bool,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    websocket: bool,
    metrics: bool,
    allow_pull: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
}

impl Settings<'_> {
    pub(crate) fn listen(&self) -> Listen {
        match &self.unix {
            _ if self.systemd => Listen::Systemd,
            Some(path) => Listen::Unix(path.clone()),
            None => Listen::Tcp(self.host.clone(), self.port),
        }
    }

    pub(crate) fn state(self, py: Python<'_>) -> PyResult<State> {
        let hub = HubConfig::from_env().map(|config| HubConfig { demo: Some(self.demo.clone()), ..config });
        let hub = hub.and_then(Hub::new).map_err(|error: MullamaError| to_py(py, &error))?;
        let options = LoadOptions {
            context: context_params(&self.context_params)?,
            model: ModelOptions {
                n_gpu_layers: self.n_gpu_layers,
                use_mmap: self.use_mmap,
                use_mlock: self.use_mlock,
                ..ModelOptions::default()
            },
            max_loaded: self.max_loaded,
            idle_unload: self.idle_unload.map(Duration::from_secs_f64),
        };
        for (_, source) in &self.models {
            check_file(&hub, source).map_err(|error| to_py(py, &error))?;
        }
        let spec = |(name, source): &(String, String)| ModelSpec {
            name: name.clone(),
            source: ModelSource::Named(source.clone()),
        };
        let models = self.models.iter().map(spec).collect();
        State::new(models, options, self.config()?, Some(hub)).map_err(|error| to_py(py, &error))
    }

    fn config(self) -> PyResult<ServerConfig> {
        Ok(ServerConfig {
            max_connections: self.max_connections,
            header_timeout: Duration::from_secs_f64(self.header_timeout),
            body_timeout: Duration::from_secs_f64(self.body_timeout),
            max_body_bytes: self.max_body_bytes,
            keep_alive: Duration::from_secs_f64(self.keep_alive),
            write_timeout: Duration::from_secs_f64(self.write_timeout),
            drain_timeout: Duration::from_secs_f64(self.drain_timeout),
            request_timeout: self.request_timeout.map(Duration::from_secs_f64),
            api_keys: self.api_keys,
            allow_no_keys: self.allow_no_keys,
            socket_mode: self.socket_mode,
            allowed_origins: self.allowed_origins,
            allowed_hosts: self.allowed_hosts,
            websocket: self.websocket,
            metrics: self.metrics,
            allow_pull: self.allow_pull,
            tls: self.tls_cert.zip(self.tls_key).map(|(certificates, key)| TlsFiles { certificates, key }),
            telemetry: Telemetry::from_env()?,
        })
    }
}

/// A file that is given by its path must be there when the server starts. The models of other names are found, or
/// downloaded, when they are first used.
fn check_file(hub: &Hub, source: &str) -> Result<(), MullamaError> {
    match ModelName::parse(source) {
        Ok(ModelName::Path(_)) | Err(_) => hub.find(source).map(drop),
        Ok(_) => Ok(()),
    }
}
