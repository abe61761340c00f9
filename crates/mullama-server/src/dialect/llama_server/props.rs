//! `/props` and `/slots`: what the server is, and how busy.

use std::sync::Arc;

use axum::extract::{RawQuery, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mullama::{Model, StreamConfig, TokenId};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::options::Options;
use super::settings::settings;
use crate::error::ApiError;
use crate::models::Loaded;
use crate::state::State;

/// The value of a parameter of the path.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The model that the query names. A model in memory is not used by that: a client that polls does not keep it there.
async fn model(state: &State, query: Option<&str>) -> Result<Arc<Loaded>, ApiError> {
    let name = parameter(query, "model");
    match state.models().glance(name.as_deref())? {
        Some(loaded) => Ok(Arc::new(loaded)),
        None => state.model(name.as_deref()).await,
    }
}

fn text_of(model: &Model, token: Option<TokenId>) -> String {
    let bytes = token.map(|token| model.token_spelling(token));
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// What the server and the model are. The path of the model's file is nobody's business over the network.
pub(super) async fn props(Shared(state): Shared<State>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let loaded = model(&state, query.as_deref()).await?;
    let (context, model) = (loaded.context(), loaded.context().model());
    let config: &StreamConfig = loaded.defaults();
    let document = json!({
        "default_generation_settings": {
            "params": settings(config, &Options::default(), config.seed.unwrap_or(u32::MAX)),
            "n_ctx": context.context_len()?,
        },
        "total_slots": context.params().n_parallel,
        "model_alias": loaded.name(),
        "model_path": "",
        "modalities": {"vision": false, "video": false, "audio": false},
        "endpoint_slots": true,
        "endpoint_props": false,
        "endpoint_metrics": state.config().metrics,
        "chat_template": loaded.chat_template().unwrap_or_default(),
        "bos_token": text_of(model, model.bos()),
        "eos_token": text_of(model, model.eos()),
        "build_info": concat!("mullama-", env!("CARGO_PKG_VERSION")),
        "is_sleeping": false,
    });
    Ok(axum::Json(document).into_response())
}

/// The slots. Streams move between them, so only their number says which are busy; no text of a request is kept.
pub(super) async fn slots(Shared(state): Shared<State>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let loaded = model(&state, query.as_deref()).await?;
    let (running, n_ctx) = (loaded.context().stats()?.running, loaded.context().context_len()?);
    let count = usize::try_from(loaded.context().params().n_parallel).unwrap_or(usize::MAX);
    if parameter(query.as_deref(), "fail_on_no_slot").as_deref() == Some("1") && running >= count {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", "no slot is available"));
    }
    let slot = |id: usize| json!({"id": id, "n_ctx": n_ctx, "speculative": false, "is_processing": id < running});
    let slots: Vec<Value> = (0..count).map(slot).collect();
    Ok(axum::Json(slots).into_response())
}
