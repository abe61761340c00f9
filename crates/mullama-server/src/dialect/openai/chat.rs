//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Chat, Prompt, StreamConfig};

use super::chat_frames::ChatDialect;
use super::document::Head;
use super::fields::CHAT_TABLES;
use super::options::{Options, flag, max_tokens, prompt_named};
use crate::dialect::{messages, sampling};
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Answers a chat, streamed or whole.
pub(crate) async fn chat_completions(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    fields::apply(CHAT_TABLES, &body, &mut config)?;
    let options = Options { logprobs: read_config(&body, &mut config)?, ..Options::read(&body)? };
    let chat = read_chat(&body, &model)?;
    let dialect = ChatDialect::new(Head::new("chatcmpl-", &model), options);
    let named = |error| prompt_named(fields::renamed(error, CHAT_TABLES), "messages");
    let streams = Streams::open(model, vec![Prompt::from(chat)], options.n, &config).map_err(named)?;
    respond(streams, dialect, options.stream, state.keep_alive()).await.map_err(named)
}

/// Reads what the tables do not set; returns whether log-probabilities are wanted.
fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<bool, ApiError> {
    sampling::read_common(body, config)?;
    if let Some(number) = max_tokens(body, &["max_completion_tokens", "max_tokens"])? {
        config.max_tokens = number;
    }
    let logprobs = flag(body, "logprobs")?;
    match (logprobs, body.get("top_logprobs")?) {
        (true, Some(number)) => config.logprobs = u32::try_from(number.integer(0, 20)?).ok(),
        (true, None) => config.logprobs = Some(0),
        // Some clients send 0 where they want none.
        (false, Some(number)) if number.integer(0, 20)? > 0 => {
            return Err(number.error("needs logprobs to be true"));
        }
        (false, _) => {}
    }
    config.validate().map_err(|error| fields::renamed(error.into(), CHAT_TABLES))?;
    Ok(logprobs)
}

fn read_chat(body: &Json<'_>, model: &Arc<Loaded>) -> Result<Chat, ApiError> {
    let mut chat = messages::read_chat(&body.require("messages")?, model)?;
    if let Some(flag) = body.get("add_generation_prompt")? {
        chat.add_generation_prompt = flag.flag()?;
    }
    if let Some(arguments) = body.get("chat_template_kwargs")? {
        chat.chat_template_kwargs.clone_from(arguments.object()?);
    }
    if let Some(effort) = body.get("reasoning_effort")? {
        chat = chat.template_argument("reasoning_effort", effort.text()?);
    }
    Ok(chat)
}
