//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Chat, Prompt, StreamConfig};

use super::answer;
use super::chat_frames::ChatDialect;
use super::document::Head;
use super::fields::CHAT_TABLES;
use super::options::{Options, max_tokens, prompt_named};
use crate::dialect::{messages, sampling};
use crate::error::ApiError;
use crate::generation::Streams;
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Answers a chat, streamed or whole.
pub(crate) async fn chat_completions(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, read, open, named).await
}

/// What a request asks for.
struct Asked {
    config: StreamConfig,
    options: Options,
    chat: Chat,
}

fn read(body: &Json<'_>, mut config: StreamConfig) -> Result<Asked, ApiError> {
    fields::apply(CHAT_TABLES, body, &mut config)?;
    let options = Options { logprobs: read_config(body, &mut config)?, ..Options::read(body)? };
    Ok(Asked { config, options, chat: read_chat(body)? })
}

/// Opens the streams of a request.
fn open(body: &Json<'_>, model: Arc<Loaded>) -> Result<(Streams, ChatDialect, bool), ApiError> {
    let Asked { config, options, mut chat } = read(body, model.defaults().clone())?;
    messages::adapt(&mut chat, &model);
    let dialect = ChatDialect::new(Head::new("chatcmpl-", &model), options);
    let streams = Streams::open(model, vec![Prompt::from(chat)], options.n, &config).map_err(named)?;
    Ok((streams, dialect, options.stream))
}

/// The error with the names that its field has in this endpoint.
fn named(error: ApiError) -> ApiError {
    prompt_named(fields::renamed(error, CHAT_TABLES), "messages")
}

/// Reads what the tables do not set; returns whether log-probabilities are wanted.
fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<bool, ApiError> {
    sampling::read_common(body, config)?;
    if let Some(number) = max_tokens(body, &["max_completion_tokens", "max_tokens"])? {
        config.max_tokens = number;
    }
    config.logprobs = sampling::read_logprobs(body)?;
    config.validate().map_err(|error| fields::renamed(error.into(), CHAT_TABLES))?;
    Ok(config.logprobs.is_some())
}

fn read_chat(body: &Json<'_>) -> Result<Chat, ApiError> {
    let mut chat = messages::read_messages(&body.require("messages")?).map(Chat::new)?;
    messages::read_template_fields(body, &mut chat)?;
    if let Some(verbosity) = body.get("verbosity")? {
        messages::set_argument("verbosity", &verbosity, &mut chat)?;
    }
    if let Some(effort) = body.get("reasoning_effort")? {
        messages::set_effort(&effort, &mut chat)?;
    }
    Ok(chat)
}
