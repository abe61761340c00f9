//! `/v1/models`, in the shape of `OpenAI`'s API, and in that of Anthropic's for its clients.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::dialect::model_files::{modified, on_files};
use crate::dialect::time::rfc3339;
use crate::error::ApiError;
use crate::models::ModelSpec;
use crate::state::State;

/// The header that all clients of Anthropic's API send.
const ANTHROPIC: &str = "anthropic-version";

fn of_openai(name: &str, created: SystemTime) -> Value {
    let created = created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({"id": name, "object": "model", "created": created, "owned_by": "mullama"})
}

fn of_anthropic(name: &str, created: SystemTime) -> Value {
    let created_at = rfc3339(created);
    json!({"type": "model", "id": name, "display_name": name, "created_at": created_at, "lifecycle": "active"})
}

/// The documents of these models, in the shape that the client expects. Files are looked at off the threads of connections.
async fn documents(state: &State, specs: Vec<ModelSpec>, is_anthropic: bool) -> Result<Vec<Value>, ApiError> {
    let hub = state.models().hub().cloned();
    let document = if is_anthropic { of_anthropic } else { of_openai };
    let one = move |spec: &ModelSpec| document(&spec.name, modified(&spec.source, hub.as_ref()));
    on_files(move || specs.iter().map(one).collect()).await
}

/// All models, loaded or not.
pub(crate) async fn models(Shared(state): Shared<State>, headers: HeaderMap) -> Result<Response, ApiError> {
    let is_anthropic = headers.contains_key(ANTHROPIC);
    let data = documents(&state, state.models().specs(), is_anthropic).await?;
    let document = if is_anthropic {
        let id = |model: Option<&Value>| model.map(|model| model["id"].clone());
        json!({"first_id": id(data.first()), "last_id": id(data.last()), "data": data, "has_more": false})
    } else {
        json!({"object": "list", "data": data})
    };
    Ok(axum::Json(document).into_response())
}

/// One model.
pub(crate) async fn model(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::invalid("the name of the model in the path is not valid UTF-8"))?;
    let spec = state.models().spec(&name)?;
    let documents = documents(&state, vec![spec], headers.contains_key(ANTHROPIC)).await?;
    Ok(axum::Json(documents.into_iter().next()).into_response())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{of_anthropic, of_openai};

    #[test]
    fn a_model_was_created_when_its_file_was_changed() {
        let time = UNIX_EPOCH + Duration::from_hours(24);
        assert_eq!(of_openai("demo", time)["created"], 86_400);
        assert_eq!(of_anthropic("demo", time)["created_at"], "1970-01-02T00:00:00.000000000Z");
    }
}
