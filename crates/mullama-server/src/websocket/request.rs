//! What a client's messages ask for.

use std::sync::Arc;

use mullama::{Message as ChatMessage, Prompt, StreamConfig};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::Id;
use super::credits::Credits;
use crate::dialect::{messages, prompts, sampling};
use crate::error::ApiError;
use crate::generation::Streams;
use crate::json::fields::Handling::{Only, OnlyYet, Read, Sets};
use crate::json::fields::{self, Field, field};
use crate::json::{Json, parse, parsed_bytes, sized};
use crate::models::Loaded;
use crate::state::State;

/// Most characters of an id.
const ID_CHARS: usize = 128;

/// The fields of a request.
const FIELDS: &[Field] = &[
    field("type", Read),
    field("id", Read),
    field("model", Read),
    field("prompt", Read),
    field("messages", Read),
    field("flow", Only(&["\"credits\"", "\"socket\""])),
    field("credits", Read),
    field("max_tokens", Read),
    field("stream", Only(&["true"])),
    field("n", Only(&["1"])),
    field("tools", OnlyYet(&["[]"])),
    field("stop", Read),
    field("seed", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("presence_penalty", Sets("presence_penalty")),
    field("logit_bias", Sets("logit_bias")),
    field("logprobs", Sets("logprobs")),
    field("timings_per_token", Only(&["false"])),
];
const TABLES: &[&[Field]] = &[FIELDS, sampling::EXTENSIONS];
/// The fields of a message that cancels a request.
const CANCEL: &[Field] = &[field("type", Read), field("id", Read)];
/// The fields of a message that grants credits.
const GRANT: &[Field] = &[field("type", Read), field("id", Read), field("tokens", Read)];

/// Why a message was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The request that the message belongs to.
    pub(super) id: Id,
    pub(super) error: ApiError,
    /// The request of this id runs on.
    pub(super) request_continues: bool,
}

impl Refusal {
    /// The refusal of a message, and of the request that it is.
    pub(super) fn of(id: Id, error: ApiError) -> Box<Self> {
        Box::new(Self { id, error, request_continues: false })
    }

    /// The refusal of a message about a request that runs on.
    pub(super) fn beside(id: Id, error: ApiError) -> Box<Self> {
        Box::new(Self { id, error, request_continues: true })
    }
}

/// A message of a client.
#[derive(Debug)]
pub(super) enum Message {
    Generate(Box<Generate>),
    Cancel(Id),
    Grant(Id, u64),
}

/// A request for an answer.
#[derive(Debug)]
pub(super) struct Generate {
    pub(super) id: Id,
    pub(super) credits: Credits,
    input: Input,
    /// Keeps the memory of the message counted until its streams are open.
    _held: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Input {
    /// A text that does not begin as a JSON object.
    Text(String),
    /// An object, and the bytes of its text.
    Fields(Value, usize),
}

/// Reads a text message. `take` takes room for this many bytes of memory.
pub(super) fn read(
    text: String,
    take: impl FnOnce(usize) -> Option<OwnedSemaphorePermit>,
) -> Result<Message, Box<Refusal>> {
    let is_object = is_meant_as_object(&text);
    let bytes = if is_object { parsed_bytes(text.as_bytes()) } else { text.len() };
    let Some(held) = take(bytes) else {
        return Err(Refusal::of(if is_object { id_alone(&text) } else { None }, no_room()));
    };
    if !is_object {
        let (credits, input) = (Credits::Unlimited, Input::Text(text));
        return Ok(Message::Generate(Box::new(Generate { id: None, credits, input, _held: held })));
    }
    let body = parse("the message", text.as_bytes()).map_err(|error| {
        let way_out = "a prompt that begins like an object must be sent as the field prompt of an object";
        let message = format!("{}; {way_out}", error.message);
        Refusal::of(None, ApiError { message, ..error })
    })?;
    let id = id_of(&Json::new(&body, "")).map_err(|error| Refusal::of(None, error))?;
    read_object((body, text.len()), id.clone(), held).map_err(|error| Refusal::of(id, error))
}

/// Whether a text begins as only JSON objects do: with a brace, and a name in quotes or the other brace.
fn is_meant_as_object(text: &str) -> bool {
    let inside = text.trim_start().strip_prefix('{').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(['"', '}']))
}

/// The id of a message for which there is no room; other fields are not kept.
fn id_alone(text: &str) -> Id {
    #[derive(serde::Deserialize)]
    struct Named {
        id: Option<Value>,
    }
    let body = serde_json::json!({"id": serde_json::from_str::<Named>(text).ok()?.id?});
    id_of(&Json::new(&body, "")).ok().flatten()
}

fn no_room() -> ApiError {
    let message =
        "this connection's unfinished requests and other requests take all memory that they may; try again later";
    ApiError::overloaded(message, 1)
}

fn id_of(body: &Json<'_>) -> Result<Id, ApiError> {
    let Some(id) = body.get("id")? else { return Ok(None) };
    let is_short = match id.value() {
        Value::String(text) => text.chars().count() <= ID_CHARS,
        Value::Number(_) => true,
        _ => return Err(id.must_be("a string or a number")),
    };
    if is_short {
        return Ok(Some(id.value().clone()));
    }
    Err(id.error(format_args!("must have at most {ID_CHARS} characters")))
}

fn read_object(body: (Value, usize), id: Id, held: OwnedSemaphorePermit) -> Result<Message, ApiError> {
    let json = Json::new(&body.0, "");
    let kind = json.get("type")?.map_or(Ok("generate"), |kind| kind.text())?;
    match kind {
        "generate" => {
            let credits = credits(&json)?;
            Ok(Message::Generate(Box::new(Generate { id, credits, input: Input::Fields(body.0, body.1), _held: held })))
        }
        "cancel" => fields::check(CANCEL, &json).map(|()| Message::Cancel(id)),
        "grant" => {
            fields::check(GRANT, &json)?;
            let tokens = json.require("tokens")?.integer(1..=u64::MAX)?;
            Ok(Message::Grant(id, tokens))
        }
        _ => Err(ApiError::field("type", "must be \"generate\", \"cancel\" or \"grant\"")),
    }
}

/// The credits that a request starts with.
fn credits(body: &Json<'_>) -> Result<Credits, ApiError> {
    let flow = body.get("flow")?.map(|flow| flow.text()).transpose()?;
    match body.get("credits")? {
        Some(credits) if flow == Some("socket") => Err(credits.error("needs flow to be \"credits\"")),
        Some(credits) => Ok(Credits::Left(credits.integer(0..=u64::MAX)?)),
        None if flow == Some("credits") => Ok(Credits::Left(0)),
        None => Ok(Credits::Unlimited),
    }
}

impl Generate {
    /// Whether it is a text of a client that may send nothing more and still wait for its answer.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.input, Input::Text(_))
    }
}

/// Opens the stream of a request, whose model is loaded if it is not in memory.
pub(super) async fn open(state: State, request: Box<Generate>) -> Result<Streams, ApiError> {
    let Generate { input, _held, .. } = *request;
    match input {
        Input::Text(text) => {
            let model = state.model(None).await?;
            let prompt = prompt_of_text(&model, &text);
            let config = model.defaults().clone();
            Streams::open(model, vec![prompt], 1, &config)
        }
        Input::Fields(body, bytes) => {
            let name = Json::new(&body, "").get("model")?.map(|name| name.text()).transpose()?;
            let model = state.model(name).await?;
            let reading = Arc::clone(&model);
            let (prompt, config) = sized(bytes, move || read_fields(&Json::new(&body, ""), &reading)).await?;
            Streams::open(model, vec![prompt], 1, &config)
        }
    }
}

fn read_fields(body: &Json<'_>, model: &Loaded) -> Result<(Prompt, StreamConfig), ApiError> {
    let mut config = model.defaults().clone();
    fields::apply(TABLES, body, &mut config)?;
    sampling::read_common(body, &mut config)?;
    if let Some(number) = body.get("max_tokens")? {
        config.max_tokens = sampling::max_tokens(&number)?;
    }
    config.validate().map_err(|error| fields::renamed(error.into(), TABLES))?;
    let prompt = match (body.get("prompt")?, body.get("messages")?) {
        (Some(prompt), None) => prompts::read_prompt(&prompt)?,
        (None, Some(list)) => Prompt::from(messages::read_chat(&list, model)?),
        (Some(_), Some(list)) => return Err(list.error("cannot be given together with prompt")),
        (None, None) => return Err(ApiError::field("prompt", "or messages is required")),
    };
    Ok((prompt, config))
}

/// A text is a message of the user if the model has a chat template; else the model continues it.
fn prompt_of_text(model: &Loaded, text: &str) -> Prompt {
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if model.chat_template().is_some() {
        let chat = messages::with_system(vec![ChatMessage::user(text)], model);
        return Prompt::from(chat);
    }
    Prompt::from(text)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
