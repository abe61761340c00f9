//! `/v1/responses`: text, streamed and whole. Nothing is stored.

mod frames;
mod object;
mod request;

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Chat, Prompt, StreamConfig};

pub(crate) use self::frames::ResponseDialect;
pub(crate) use self::object::Echo;
use super::answer;
use super::document::Head;
use super::fields::RESPONSE_TABLES;
use super::options::prompt_named;
use crate::dialect::messages;
use crate::error::ApiError;
use crate::generation::Streams;
use crate::ids;
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Answers a conversation, streamed or whole.
pub(crate) async fn responses(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, read, open, named).await
}

/// What a request asks for.
struct Asked {
    config: StreamConfig,
    chat: Chat,
    echo: Echo,
    is_streamed: bool,
}

fn read(body: &Json<'_>, mut config: StreamConfig) -> Result<Asked, ApiError> {
    fields::apply(RESPONSE_TABLES, body, &mut config)?;
    request::read_config(body, &mut config)?;
    let chat = request::read_chat(body)?;
    let echo = Echo::read(body, &config)?;
    Ok(Asked { config, chat, echo, is_streamed: body.flag_or("stream", false)? })
}

/// Opens the stream of a request.
fn open(body: &Json<'_>, model: Arc<Loaded>) -> Result<(Streams, ResponseDialect, bool), ApiError> {
    let Asked { config, mut chat, echo, is_streamed } = read(body, model.defaults().clone())?;
    messages::adapt(&mut chat, &model);
    let dialect = ResponseDialect::new(Head::new("resp_", &model), ids::new("msg_"), echo, ids::now);
    let streams = Streams::open(model, vec![Prompt::from(chat)], 1, &config).map_err(named)?;
    Ok((streams, dialect, is_streamed))
}

/// The error with the names that its field has in this endpoint.
fn named(error: ApiError) -> ApiError {
    prompt_named(fields::renamed(error, RESPONSE_TABLES), "input")
}
