//! `/api/tags`, `/api/show` and `/api/ps`: the models of the server and what their files say.

use std::path::Path;
use std::time::{Duration, SystemTime};

use axum::Json as Document;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use mullama::StreamConfig;
use mullama::gguf::{self, Description, MetadataValue};
use mullama_hub::Hub;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fields::SHOW_TABLES;
use crate::dialect::model_files::{Found, found, modification, on_files};
use crate::dialect::time::rfc3339;
use crate::error::ApiError;
use crate::json::{Json, fields};
use crate::models::{ModelSpec, Resident, missing};
use crate::state::State;

/// Most characters of a text of the metadata that are shown, and most elements of a list.
const TEXT_SHOWN: usize = 1000;
const ELEMENTS_SHOWN: u64 = 16;
/// When a model that stays for ever is said to expire.
const FOR_EVER: Duration = Duration::from_hours(100 * 365 * 24);
/// Ollama's names of settings that mullama names otherwise.
const PARAMETERS: [(&str, &str); 2] = [("stop_sequences", "stop"), ("max_tokens", "num_predict")];

#[derive(Debug, Serialize)]
pub(super) struct Models {
    models: Vec<Listed>,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_at: Option<String>,
    size: u64,
    digest: String,
    details: Details,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_vram: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
}

#[derive(Debug, Default, Serialize)]
struct Details {
    parent_model: &'static str,
    format: &'static str,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: String,
}

/// The models of the server, loaded or not.
pub(super) async fn tags(Shared(state): Shared<State>) -> Result<Document<Models>, ApiError> {
    let (specs, hub) = (state.models().specs(), state.models().hub().cloned());
    let list = move || specs.iter().map(|spec| listed(&spec.name, &found(&spec.source, hub.as_ref()).path)).collect();
    on_files(list).await.map(|models| Document(Models { models }))
}

/// The models in memory.
pub(super) async fn ps(Shared(state): Shared<State>) -> Result<Document<Models>, ApiError> {
    let (resident, hub) = (state.models().resident(), state.models().hub().cloned());
    on_files(move || resident.iter().map(|one| running(one, hub.as_ref())).collect())
        .await
        .map(|models| Document(Models { models }))
}

/// What is known about one model.
pub(super) async fn show(Shared(state): Shared<State>, request: Request) -> Result<Document<Value>, ApiError> {
    let body = state.body(request).await?;
    let body = body.json();
    fields::apply(SHOW_TABLES, &body, &mut StreamConfig::new())?;
    let spec = state.models().spec(named(&body)?)?;
    let hub = state.models().hub().cloned();
    on_files(move || shown(&spec, hub.as_ref())).await?.map(Document)
}

/// The name in a request, in its new or its old field.
pub(super) fn named<'a>(body: &Json<'a>) -> Result<&'a str, ApiError> {
    match body.one_of(&["model", "name"])? {
        Some(name) if name.text()?.is_empty() => Err(name.error("is empty")),
        Some(name) => name.text(),
        None => Err(ApiError::field("model", "is required")),
    }
}

fn listed(name: &str, path: &Path) -> Listed {
    let described = gguf::describe(path).ok();
    Listed {
        name: name.to_owned(),
        model: name.to_owned(),
        modified_at: Some(modified_at(path)),
        size: described.as_ref().map_or(0, |described| described.file_len),
        digest: digest(path),
        details: described.as_ref().map_or_else(Details::default, Details::of),
        expires_at: None,
        size_vram: None,
        context_length: None,
    }
}

fn running(resident: &Resident, hub: Option<&Hub>) -> Listed {
    let context = resident.loaded.context();
    let model = context.model();
    let is_offloaded = model.n_gpu_layers() > 0;
    let expires_at = resident.expires_at.unwrap_or_else(|| SystemTime::now() + FOR_EVER);
    Listed {
        size: model.size(),
        modified_at: None,
        expires_at: Some(rfc3339(expires_at)),
        size_vram: Some(if is_offloaded { model.size() } else { 0 }),
        context_length: context.context_len().ok(),
        ..listed(resident.loaded.name(), &found(&resident.source, hub).path)
    }
}

fn modified_at(path: &Path) -> String {
    rfc3339(modification(path))
}

/// The SHA-256 of a model whose store has it in the name of the file; otherwise empty.
fn digest(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let hex = name.strip_prefix("sha256-").unwrap_or(name);
    let is_digest = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { hex.to_owned() } else { String::new() }
}

impl Details {
    fn of(described: &Description) -> Self {
        let family = described.text("general.architecture").unwrap_or_default().to_owned();
        Self {
            parent_model: "",
            format: "gguf",
            families: vec![family.clone()],
            family,
            parameter_size: parameter_size(described.parameters()),
            quantization_level: described.quantization().unwrap_or("unknown").to_owned(),
        }
    }
}

/// A number of weights as people write it.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
pub(super) fn parameter_size(count: u64) -> String {
    match count {
        1_000_000_000.. => format!("{:.1}B", count as f64 / 1e9),
        1_000_000.. => format!("{:.2}M", count as f64 / 1e6),
        1000.. => format!("{:.0}K", count as f64 / 1e3),
        _ => count.to_string(),
    }
}

/// The error of a file that is there and cannot be read.
fn unreadable(name: &str) -> ApiError {
    let message = format!("the file of {name} cannot be read; the server's log says why");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "MODEL_LOAD", message)
}

fn shown(spec: &ModelSpec, hub: Option<&Hub>) -> Result<Value, ApiError> {
    let Found { path, defaults } = found(&spec.source, hub);
    let described = gguf::describe(&path).map_err(|error| {
        tracing::debug!("{}: {error}", spec.name);
        tracing::error!("{}: its file cannot be read", spec.name);
        if path.exists() { unreadable(&spec.name) } else { missing(&spec.name) }
    })?;
    let mut shown = json!({
        "modelfile": "",
        "parameters": parameters(&defaults.stream),
        "template": described.text("tokenizer.chat_template").unwrap_or_default(),
        "details": Details::of(&described),
        "model_info": model_info(&described),
        "capabilities": ["completion"],
        "modified_at": modified_at(&path),
    });
    let license = described.text("general.license").map(shortened);
    for (name, text) in [("license", license), ("system", defaults.system)] {
        if let Some(text) = text {
            shown[name] = text.into();
        }
    }
    Ok(shown)
}

/// The settings that the publisher recommends, one a line.
fn parameters(recommended: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    for (name, value) in recommended {
        let name = PARAMETERS.iter().find(|(ours, _)| ours == name).map_or(name.as_str(), |(_, theirs)| theirs);
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        lines.extend(values.iter().map(|value| format!("{name:<30} {value}")));
    }
    lines.join("\n")
}

fn model_info(described: &Description) -> Map<String, Value> {
    let others = described.metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer.chat_template"));
    let mut info: Map<String, Value> = others.map(|(key, value)| (key.clone(), to_json(value))).collect();
    info.insert("general.parameter_count".to_owned(), described.parameters().into());
    info
}

/// A value of the metadata. As with Ollama, a long list is null.
fn to_json(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::Integer(number) => i64::try_from(*number)
            .map(Value::from)
            .or_else(|_| u64::try_from(*number).map(Value::from))
            .unwrap_or_default(),
        MetadataValue::Number(number) => (*number).into(),
        MetadataValue::Flag(flag) => (*flag).into(),
        MetadataValue::Text(text) => shortened(text).into(),
        MetadataValue::Array { len, first } if *len <= ELEMENTS_SHOWN => first.iter().map(to_json).collect(),
        _ => Value::Null,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_SHOWN).collect()
}
