//! `/v1/responses`: text, streamed and whole. Nothing is stored.

mod frames;
mod object;
mod request;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::Prompt;

pub(crate) use self::frames::ResponseDialect;
pub(crate) use self::object::Echo;
use super::document::Head;
use super::fields::RESPONSE_TABLES;
use super::options::{flag, prompt_named};
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::ids;
use crate::json::{Json, fields};
use crate::state::State;

/// Answers a conversation, streamed or whole.
pub(crate) async fn responses(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    fields::apply(RESPONSE_TABLES, &body, &mut config)?;
    request::read_config(&body, &mut config)?;
    let chat = request::read_chat(&body, &model)?;
    let is_streamed = flag(&body, "stream")?;
    let echo = Echo::read(&body, &config)?;
    let dialect = ResponseDialect::new(Head::new("resp_", &model), ids::new("msg_"), echo, ids::now);
    let named = |error| prompt_named(fields::renamed(error, RESPONSE_TABLES), "input");
    let streams = Streams::open(model, vec![Prompt::from(chat)], 1, &config).map_err(named)?;
    respond(streams, dialect, is_streamed, state.keep_alive()).await.map_err(named)
}
