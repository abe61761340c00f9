//! `/api/pull` and `/api/delete`: models that clients download to the server, and remove from it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use mullama::{MullamaError, StreamConfig};
use mullama_hub::{Hub, ModelName, Phase, Progress};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::fields::{DELETE_TABLES, PULL_TABLES};
use super::frames::ErrorDocument;
use super::inventory::named;
use crate::dialect::model_files::on_files;
use crate::error::ApiError;
use crate::generation::Frames;
use crate::json::{Json, fields};
use crate::models::ModelSource;
use crate::state::{PULLS_AT_ONCE, State};
use crate::transport::Peer;

/// The content type of a streamed answer.
const LINES: &str = "application/x-ndjson";

/// A line about a download.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<u64>,
}

impl Report {
    fn of(progress: &Progress) -> Self {
        let bare = |status: &str| Self { status: status.to_owned(), digest: None, total: None, completed: None };
        match progress.phase {
            Phase::Resolving => bare("pulling manifest"),
            Phase::Waiting => bare("waiting for another download of the same file"),
            Phase::Downloading => Self {
                status: format!("pulling {}", progress.file),
                digest: Some(progress.file.clone()),
                total: progress.total,
                completed: Some(progress.done),
            },
            Phase::Verifying => bare("verifying sha256 digest"),
            Phase::Done => bare("writing manifest"),
        }
    }

    fn success() -> Self {
        Self { status: "success".to_owned(), digest: None, total: None, completed: None }
    }
}

/// Downloads a model, which the server then has.
pub(super) async fn pull(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let hub = permitted(&state, &request)?;
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    fields::apply(PULL_TABLES, &body, &mut StreamConfig::new())?;
    let is_streamed = body.get("stream")?.map_or(Ok(true), |value| value.flag())?;
    let Some(name) = wanted(&state, &hub, &body).await? else {
        let mut frames = Frames::default();
        frames.line(&Report::success());
        let content_type = if is_streamed { LINES } else { "application/json" };
        return Ok(([(header::CONTENT_TYPE, content_type)], frames.take()).into_response());
    };
    let full = || ApiError::overloaded(format!("{PULLS_AT_ONCE} downloads are running; try again later"), 10);
    let permit = state.pulls().try_acquire_owned().map_err(|_| full())?;
    let mut pull = Pull::start(state, hub, name, permit);
    if is_streamed {
        let lines = stream::unfold(pull, async |mut pull| Some((Ok::<_, MullamaError>(pull.lines().await?), pull)));
        return Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response());
    }
    pull.outcome().await?;
    Ok(axum::Json(Report::success()).into_response())
}

/// Removes a model that the server has downloaded.
pub(super) async fn delete(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let hub = permitted(&state, &request)?;
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    fields::apply(DELETE_TABLES, &body, &mut StreamConfig::new())?;
    let name = name_of_registry(&body)?;
    let removing = name.clone();
    match on_files(move || hub.remove(&removing)).await? {
        Err(MullamaError::UnknownModel { .. }) => {
            let spec = state.models().spec(named(&body)?)?;
            return Err(not_downloaded(&spec.name));
        }
        removed => removed.map_err(public)?,
    };
    // A model in memory goes once its last stream has ended.
    state.models().remove(&name);
    Ok(axum::Json(json!({"status": "success"})).into_response())
}

/// The name of the model to download; none if the model is built in, or the server was started with its file.
async fn wanted(state: &State, hub: &Hub, body: &Json<'_>) -> Result<Option<String>, ApiError> {
    let name = named(body)?;
    if matches!(ModelName::parse(name), Ok(ModelName::Demo)) {
        return state.models().add(name).map(|()| None);
    }
    match state.models().spec(name).map(|spec| spec.source) {
        Ok(ModelSource::File(_) | ModelSource::Loaded(_)) => Ok(None),
        // A name of the server's own for another model.
        Ok(ModelSource::Named(source)) if ModelName::parse(&source).ok() != ModelName::parse(name).ok() => {
            let (hub, text) = (hub.clone(), source.clone());
            let is_here = on_files(move || hub.find(&text).is_ok()).await?;
            Ok((!is_here).then_some(source))
        }
        _ => name_of_registry(body).map(Some),
    }
}

/// The refusal to remove a model that the server has, but did not download.
fn not_downloaded(name: &str) -> ApiError {
    let message = format!("this server has no downloaded file of {name}, so it cannot be removed");
    ApiError { field: Some("model".to_owned()), ..ApiError::invalid(message) }
}

/// The hub, if this client may change which models the server has: it has shown a key, or it is on this machine.
fn permitted(state: &State, request: &Request) -> Result<Hub, ApiError> {
    let refused = |message: &str| ApiError::new(StatusCode::FORBIDDEN, "FORBIDDEN", message);
    if !state.config().allow_pull {
        return Err(refused("clients may not download or remove models here"));
    }
    let is_on_this_machine = |peer: &Peer| *peer == Peer::Unix || peer.is_loopback();
    let is_local = request.extensions().get::<Peer>().is_some_and(is_on_this_machine);
    if state.config().api_keys.is_empty() && !is_local {
        return Err(refused(
            "a server without API keys lets only clients on its own machine download or remove models",
        ));
    }
    let hub = state.models().hub().cloned();
    hub.ok_or_else(|| ApiError::invalid("this server has no store of models to download to"))
}

/// A name that clients may use: not a path of the server's files, and no address that the server would ask on their
/// behalf.
fn name_of_registry(body: &Json<'_>) -> Result<String, ApiError> {
    let name = named(body)?;
    let refused = |message| Err(ApiError::field("model", message));
    match ModelName::parse(name).map_err(ApiError::from)? {
        ModelName::Demo => {
            let message = format!("{name} is built in, so it cannot be removed");
            Err(ApiError { field: Some("model".to_owned()), ..ApiError::invalid(message) })
        }
        ModelName::Path(_) => refused("must be the name of a model, not a path"),
        ModelName::Url(_) => refused("must be the name of a model, not an address"),
        ModelName::Registry(registry) if registry.host.is_some() => refused("must not name a host"),
        name @ (ModelName::Registry(_) | ModelName::HuggingFace(_)) => Ok(name.to_string()),
    }
}

/// The error as a client is told it: nothing about the server's folders.
fn public(error: MullamaError) -> ApiError {
    tracing::debug!("{}", error.message());
    let error = ApiError::from(error);
    tracing::warn!("{}", error.message);
    error
}

/// A download, which ends when this is dropped.
struct Pull {
    work: JoinHandle<Result<(), ApiError>>,
    progress: watch::Receiver<Option<Progress>>,
    /// The longest silence.
    keep_alive: Duration,
    has_ended: bool,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Pull {
    fn start(state: State, hub: Hub, name: String, permit: OwnedSemaphorePermit) -> Self {
        let (tell, progress) = watch::channel(None);
        let keep_alive = state.config().keep_alive;
        // A task of its own: a client that reads slowly gets fewer lines, and the download does not wait for it.
        let work = tokio::spawn(async move {
            let pulled = hub.pull(&name, move |progress| drop(tell.send_replace(Some(progress.clone())))).await;
            drop(permit);
            pulled.map_err(public)?;
            state.models().add(&name)
        });
        Self { work, progress, keep_alive, has_ended: false }
    }

    /// The next lines; `None` after the last.
    async fn lines(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        let mut frames = Frames::default();
        // After a silence, the latest line is repeated.
        let changed = tokio::time::timeout(self.keep_alive, self.progress.changed()).await;
        if let Some(progress) = self.progress.borrow_and_update().as_ref()
            && !matches!(changed, Ok(Err(_)))
        {
            frames.line(&Report::of(progress));
        }
        if matches!(changed, Ok(Err(_))) {
            self.has_ended = true;
            match self.outcome().await {
                Ok(()) => frames.line(&Report::success()),
                Err(error) => frames.line(&ErrorDocument { error: &error.message }),
            }
        }
        Some(Bytes::from(frames.take()))
    }

    async fn outcome(&mut self) -> Result<(), ApiError> {
        let cancelled = MullamaError::Closed { what: "server" };
        (&mut self.work).await.unwrap_or_else(|_| Err(cancelled.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: Phase) -> Progress {
        Progress { phase, file: "tiny:latest".into(), done: 3, total: Some(9) }
    }

    #[test]
    fn phases_of_a_download_have_the_words_of_ollama() {
        let line = |phase| serde_json::to_string(&Report::of(&progress(phase))).unwrap();
        assert_eq!(line(Phase::Resolving), r#"{"status":"pulling manifest"}"#);
        let pulling = r#"{"status":"pulling tiny:latest","digest":"tiny:latest","total":9,"completed":3}"#;
        assert_eq!(line(Phase::Downloading), pulling);
        assert_eq!(line(Phase::Verifying), r#"{"status":"verifying sha256 digest"}"#);
    }

    #[test]
    fn neither_paths_nor_addresses_nor_hosts_can_be_pulled() {
        let name = |name: &str| {
            let body = json!({"model": name});
            name_of_registry(&Json::new(&body, "")).map_err(|error| error.message)
        };
        assert_eq!(name("tiny").as_deref(), Ok("tiny:latest"));
        assert_eq!(name("hf.co/user/repo:Q4_K_M").as_deref(), Ok("hf.co/user/repo:Q4_K_M"));
        let refused =
            ["/etc/passwd", "./x.gguf", "~/x", "demo", "http://127.0.0.1:1/x.gguf", "127.0.0.1:1/library/x", "", ".."];
        for wrong in refused {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(name("demo"), Err("demo is built in, so it cannot be removed".to_owned()));
    }
}
