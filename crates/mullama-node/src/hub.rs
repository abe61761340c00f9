//! Models by name: what a load finds, and downloads with progress.

use std::path::{Path, PathBuf};

use mullama::MullamaError;
use mullama_hub::{Hub, HubConfig, LocalModel, Progress};
use napi_derive::napi;
use serde_json::{Map, Value, json};

use crate::error::{Failure, wrong_type};
use crate::job::{Job, Output, Report};
use crate::notifier::Notifier;
use crate::value::camel_case;

/// What a program wants to load.
pub(crate) struct Source {
    /// A name or a path.
    name: String,
    /// Whether it can only be a path.
    is_path: bool,
    /// Whether a model that is not on this machine is downloaded.
    pull: bool,
    /// The file of the model inside the package.
    demo: PathBuf,
}

/// A file to load.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    /// What its publisher recommends, as JavaScript gets it.
    pub(crate) defaults: Value,
    /// The model, if it was found by its name.
    local: Option<LocalModel>,
}

impl Source {
    /// Reads JSON with the fields `name`, `isPath`, `pull` and `demo`.
    pub(crate) fn read(json: &str) -> Result<Self, Failure> {
        let fields: Value = serde_json::from_str(json).map_err(|error| wrong_type(&error.to_string()))?;
        let text = |name: &str| fields[name].as_str().unwrap_or_default();
        let flag = |name: &str| fields[name].as_bool().unwrap_or_default();
        Ok(Self {
            name: text("name").to_owned(),
            is_path: flag("isPath"),
            pull: flag("pull"),
            demo: text("demo").into(),
        })
    }

    /// The file: a path as it stands, or what the name stands for. May download it.
    pub(crate) fn find(&self, report: &Report) -> Result<Found, MullamaError> {
        if self.name == "demo" && !self.is_path {
            return Ok(plain_file(&self.demo, "demo"));
        }
        if self.is_path || self.name.contains('\0') || Path::new(&self.name).is_file() {
            return Ok(plain_file(Path::new(&self.name), &self.name));
        }
        let hub = hub(&self.demo)?;
        let local = if self.pull {
            hub.find_or_pull_blocking(&self.name, |_| report.is_wanted())?
        } else {
            hub.find(&self.name)?
        };
        hub.touch(&local);
        let defaults = defaults(&local);
        Ok(Found { path: local.path.clone(), name: local.name.clone(), defaults, local: Some(local) })
    }

    /// After a failed load: the error that says how to repair the file, if it is damaged and was downloaded.
    pub(crate) fn explain(&self, found: &Found, error: MullamaError) -> MullamaError {
        let Some(local) = &found.local else { return error };
        let shown = hub(&self.demo).and_then(|hub| hub.show(&local.name, None));
        match shown {
            Err(MullamaError::ModelLoad { path, source }) if path == found.path => {
                MullamaError::ModelLoad { path, source }
            }
            _ => error,
        }
    }
}

/// A file that was named by its path.
fn plain_file(path: &Path, name: &str) -> Found {
    let defaults = json!({ "settings": {}, "nCtx": null, "system": null });
    Found { path: path.to_owned(), name: name.to_owned(), defaults, local: None }
}

/// The hub that the environment asks for.
fn hub(demo: &Path) -> Result<Hub, MullamaError> {
    let config = HubConfig::from_env()?;
    Hub::new(HubConfig { demo: Some(demo.to_owned()), ..config })
}

/// What the publisher recommends, under JavaScript's names.
fn defaults(local: &LocalModel) -> Value {
    let settings: Map<String, Value> =
        local.defaults.stream.iter().map(|(name, value)| (camel_case(name), value.clone())).collect();
    json!({ "settings": settings, "nCtx": local.defaults.n_ctx, "system": local.defaults.system })
}

/// Downloads a model on another thread, unless it is there and `renew` is not set. The result is JSON.
#[napi]
pub(crate) fn pull_model(
    name: String,
    demo: String,
    renew: bool,
    notifier: &Notifier,
    key: u32,
) -> Result<Job, Failure> {
    Job::start(notifier.handle(key), move |report| {
        let hub = hub(Path::new(&demo))?;
        let tell = |progress: &Progress| {
            let Progress { phase, file, done, total } = progress;
            report.progress(json!({ "phase": phase.as_str(), "file": file, "done": done, "total": total }).to_string())
        };
        let local = if renew { hub.pull_blocking(&name, tell) } else { hub.find_or_pull_blocking(&name, tell) }?;
        if !renew {
            hub.touch(&local);
        }
        let known = json!({
            "name": local.name, "path": local.path.to_string_lossy(), "size": local.size, "alias": local.alias,
            "location": json!(local.location), "defaults": defaults(&local),
        });
        Ok(Output::Text(known.to_string()))
    })
}
