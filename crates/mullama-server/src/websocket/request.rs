//! What a client's messages ask for.

use mullama::{Message as ChatMessage, Prompt};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::answers::Id;
use super::credits::Credits;
use crate::dialect::{messages, prompts, sampling};
use crate::error::ApiError;
use crate::generation::Streams;
use crate::json::Json;
use crate::json::fields::Handling::{Only, Read, Sets};
use crate::json::fields::{self, Field, field};
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

/// Why a message was refused, and the request that it belongs to.
pub(super) type Refusal = Box<(Id, ApiError)>;

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
    /// Keeps the bytes of a large message counted until its streams are open.
    pub(super) held: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Input {
    /// A text that is not a JSON object.
    Text(String),
    Fields(Value),
}

/// Reads a text message.
pub(super) fn read(text: String) -> Result<Message, Refusal> {
    let body = if text.trim_start().starts_with('{') { serde_json::from_str::<Value>(&text).ok() } else { None };
    let Some(body) = body.filter(Value::is_object) else {
        return Ok(Message::Generate(Box::new(Generate::of_text(text))));
    };
    let id = id_of(&Json::new(&body, "")).map_err(|error| Box::new((None, error)))?;
    read_object(body, id.clone()).map_err(|error| Box::new((id, error)))
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

fn read_object(body: Value, id: Id) -> Result<Message, ApiError> {
    let json = Json::new(&body, "");
    let kind = json.get("type")?.map_or(Ok("generate"), |kind| kind.text())?;
    match kind {
        "generate" => {
            let credits = credits(&json)?;
            Ok(Message::Generate(Box::new(Generate { id, credits, input: Input::Fields(body), held: None })))
        }
        "cancel" => only(&json, &["type", "id"]).map(|()| Message::Cancel(id)),
        "grant" => {
            only(&json, &["type", "id", "tokens"])?;
            let tokens = json.require("tokens")?.integer(1, i64::MAX)?;
            Ok(Message::Grant(id, u64::try_from(tokens).unwrap_or_default()))
        }
        _ => Err(ApiError::field("type", "must be \"generate\", \"cancel\" or \"grant\"")),
    }
}

/// The credits that a request starts with.
fn credits(body: &Json<'_>) -> Result<Credits, ApiError> {
    let flow = body.get("flow")?.map(|flow| flow.text()).transpose()?;
    match body.get("credits")? {
        Some(credits) if flow == Some("socket") => Err(credits.error("needs flow to be \"credits\"")),
        Some(credits) => Ok(Credits::Left(u64::try_from(credits.integer(0, i64::MAX)?).unwrap_or_default())),
        None if flow == Some("credits") => Ok(Credits::Left(0)),
        None => Ok(Credits::Unlimited),
    }
}

fn only(body: &Json<'_>, known: &[&str]) -> Result<(), ApiError> {
    let unknown = body.object()?.keys().find(|name| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| {
        let name: String = name.chars().take(64).collect();
        Err(ApiError::field(name, "is not a field of this message"))
    })
}

impl Generate {
    fn of_text(text: String) -> Self {
        Self { id: None, credits: Credits::Unlimited, input: Input::Text(text), held: None }
    }

    /// Whether it is a text of a client that may send nothing more and still wait for its answer.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.input, Input::Text(_))
    }
}

/// Opens the stream of a request, whose model is loaded if it is not in memory.
pub(super) async fn open(state: State, request: Box<Generate>) -> Result<Streams, ApiError> {
    let Generate { input, held, .. } = *request;
    let _held = held;
    match input {
        Input::Text(text) => {
            let model = state.model(None).await?;
            let prompt = prompt_of_text(&model, &text);
            let config = model.defaults().clone();
            Streams::open(model, vec![prompt], 1, &config)
        }
        Input::Fields(body) => open_fields(&state, &Json::new(&body, "")).await,
    }
}

async fn open_fields(state: &State, body: &Json<'_>) -> Result<Streams, ApiError> {
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    fields::apply(TABLES, body, &mut config)?;
    sampling::read_common(body, &mut config)?;
    if let Some(number) = body.get("max_tokens")? {
        config.max_tokens = sampling::max_tokens(&number)?;
    }
    config.validate().map_err(|error| fields::renamed(error.into(), TABLES))?;
    let prompt = match (body.get("prompt")?, body.get("messages")?) {
        (Some(prompt), None) => prompts::read_prompt(&prompt)?,
        (None, Some(list)) => Prompt::from(messages::read_chat(&list, &model)?),
        (Some(_), Some(list)) => return Err(list.error("cannot be given together with prompt")),
        (None, None) => return Err(ApiError::field("prompt", "or messages is required")),
    };
    Streams::open(model, vec![prompt], 1, &config)
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
