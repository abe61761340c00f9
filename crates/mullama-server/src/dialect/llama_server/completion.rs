//! `/completion`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Model, Prompt};

use super::frames::{CompletionDialect, Facts};
use super::options::{Options, read_config};
use super::prompt::read_prompts;
use crate::error::ApiError;
use crate::generation::{KeepAlive, Streams, respond};
use crate::json::Json;
use crate::state::State;

/// Continues prompts, streamed or whole.
pub(super) async fn completion(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    read_config(&body, &mut config)?;
    let options = Options::read(&body)?;
    let prompts = read_prompts(&body.require("prompt")?, model.context().model()).await?;
    let (count, is_streamed) = (options.count, options.is_streamed);
    let keep_alive = options.ping.map_or_else(|| state.keep_alive(), KeepAlive);
    let vocabulary = Arc::clone(model.context().model());
    let facts = Facts {
        model: model.name().to_owned(),
        prompts: prompts.iter().map(|prompt| text_of(prompt, &vocabulary)).collect(),
        config: config.clone(),
        context_len: model.context().context_len()?,
        bytes_of: Box::new(move |token| vocabulary.detokenize(&[token]).unwrap_or_default()),
    };
    let dialect = CompletionDialect::new(facts, options);
    let streams = Streams::open(model, prompts, count, &config)?;
    respond(streams, dialect, is_streamed, keep_alive).await
}

/// A prompt as text.
fn text_of(prompt: &Prompt, model: &Model) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        // Ids that are not in the vocabulary are reported by the stream.
        Prompt::Tokens(tokens) => String::from_utf8_lossy(&model.detokenize(tokens).unwrap_or_default()).into_owned(),
        Prompt::Chat(_) | Prompt::Refused(_) => String::new(),
    }
}
