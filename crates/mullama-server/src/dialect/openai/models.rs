//! `/v1/models`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as Shared};
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::State;

fn document(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "mullama"})
}

/// All models, loaded or not.
pub(crate) async fn models(Shared(state): Shared<State>) -> Response {
    let data: Vec<Value> = state.models().names().iter().map(|name| document(name)).collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

/// One model.
pub(crate) async fn model(
    Shared(state): Shared<State>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|_| ApiError::invalid("the name of the model in the path is not valid UTF-8"))?;
    let name = state.models().resolve(&name)?;
    Ok(axum::Json(document(&name)).into_response())
}
