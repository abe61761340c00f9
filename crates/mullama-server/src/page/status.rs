//! `/status`: what each model's engine does now, for the page.

use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::models::Presence;
use crate::state::State;

#[derive(Debug, Serialize)]
struct Document {
    version: &'static str,
    models: Vec<ModelStatus>,
}

/// All numbers are 0 while the model is not loaded.
#[derive(Debug, Default, Serialize)]
struct ModelStatus {
    name: String,
    is_loaded: bool,
    is_loading: bool,
    slots: u32,
    queued: usize,
    running: usize,
    paused: usize,
    cells: usize,
    cells_used: usize,
    cells_cached: usize,
}

impl ModelStatus {
    fn of(name: String, presence: &Presence) -> Self {
        let empty = Self { name, ..Self::default() };
        let loaded = match presence {
            Presence::Absent => return empty,
            Presence::Loading => return Self { is_loading: true, ..empty },
            Presence::Loaded(loaded) => loaded,
        };
        let stats = loaded.context().stats().unwrap_or_default();
        Self {
            is_loaded: true,
            slots: loaded.context().params().n_parallel,
            queued: stats.queued,
            running: stats.running,
            paused: stats.paused,
            cells: stats.cells,
            cells_used: stats.cells_used,
            cells_cached: stats.cells_cached,
            ..empty
        }
    }
}

pub(super) async fn status(Shared(state): Shared<State>) -> Response {
    let models =
        state.models().present().into_iter().map(|(name, presence)| ModelStatus::of(name, &presence)).collect();
    let document = Document { version: env!("CARGO_PKG_VERSION"), models };
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(document)).into_response()
}
