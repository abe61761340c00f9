//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Chat, FinishReason, Prompt, StreamConfig};
use serde::Serialize;
use serde_json::Value;

use super::ErrorDocument;
use super::fields::CHAT_TABLES;
use super::logprobs::LogprobsBody;
use super::usage::{TimingsBody, UsageBody};
use crate::dialect::{messages, sampling};
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Event, Frames, Progress, Streams, respond};
use crate::ids;
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// What computes the answers.
const FINGERPRINT: &str = concat!("mullama-", env!("CARGO_PKG_VERSION"));
/// Most answers of one request.
const MOST_CHOICES: i64 = 128;

/// Answers a chat, streamed or whole.
pub(crate) async fn chat_completions(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    fields::apply(CHAT_TABLES, &body, &mut config)?;
    let options = Options::read(&body)?;
    read_config(&body, &mut config)?;
    config.validate().map_err(|error| fields::renamed(error.into(), CHAT_TABLES))?;
    let chat = read_chat(&body, &model)?;
    let (count, is_streamed) = (options.n, options.stream);
    let dialect = ChatDialect::new(Arc::clone(&model), options);
    let streams = Streams::open(model, vec![Prompt::from(chat)], count, &config)?;
    respond(streams, dialect, is_streamed, state.keep_alive()).await
}

/// The fields that shape the answer and not the text.
#[derive(Debug, Clone, Copy)]
struct Options {
    n: usize,
    stream: bool,
    include_usage: bool,
    timings_per_token: bool,
    logprobs: bool,
}

impl Options {
    fn read(body: &Json<'_>) -> Result<Self, ApiError> {
        let flag = |name| body.get(name)?.map_or(Ok(false), |value: Json<'_>| value.flag());
        let n = body.get("n")?.map_or(Ok(1), |value| value.integer(1, MOST_CHOICES))?;
        let include_usage = match body.get("stream_options")? {
            Some(options) => options.get("include_usage")?.map_or(Ok(false), |value| value.flag())?,
            None => false,
        };
        Ok(Self {
            n: usize::try_from(n).unwrap_or(1),
            stream: flag("stream")?,
            include_usage,
            timings_per_token: flag("timings_per_token")?,
            logprobs: flag("logprobs")?,
        })
    }
}

fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    sampling::read_common(body, config)?;
    for name in ["max_tokens", "max_completion_tokens"] {
        if let Some(number) = body.get(name)? {
            config.max_tokens = sampling::max_tokens(&number)?;
        }
    }
    let wanted = body.get("logprobs")?.map_or(Ok(false), |value| value.flag())?;
    match (wanted, body.get("top_logprobs")?) {
        (true, Some(number)) => config.logprobs = u32::try_from(number.integer(0, 20)?).ok(),
        (true, None) => config.logprobs = Some(0),
        (false, Some(number)) => return Err(number.error("needs logprobs to be true")),
        (false, None) => {}
    }
    Ok(())
}

fn read_chat(body: &Json<'_>, model: &Loaded) -> Result<Chat, ApiError> {
    let mut chat = messages::read_chat(&body.require("messages")?, model)?;
    if let Some(flag) = body.get("add_generation_prompt")? {
        chat.add_generation_prompt = flag.flag()?;
    }
    if let Some(arguments) = body.get("chat_template_kwargs")? {
        chat.chat_template_kwargs = arguments.object()?.clone();
    }
    if let Some(effort) = body.get("reasoning_effort")? {
        chat = chat.template_argument("reasoning_effort", effort.text()?);
    }
    Ok(chat)
}

/// Writes chunks or a document of one chat completion.
#[derive(Debug)]
pub(crate) struct ChatDialect {
    id: String,
    created: u64,
    model: Arc<Loaded>,
    options: Options,
    /// The counts of each choice, for the last chunk.
    progress: Vec<Progress>,
}

#[derive(Debug, Serialize)]
struct Document<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: C,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsBody>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<LogprobsBody>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Choice {
    index: usize,
    message: AnswerMessage,
    logprobs: Option<LogprobsBody>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct AnswerMessage {
    role: &'static str,
    content: String,
    refusal: Option<()>,
    annotations: [(); 0],
}

/// The reason as OpenAI names it.
pub(crate) const fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

impl ChatDialect {
    fn new(model: Arc<Loaded>, options: Options) -> Self {
        let progress = vec![Progress::default(); options.n];
        Self { id: ids::new("chatcmpl-"), created: ids::now(), model, options, progress }
    }

    fn document<C>(&self, object: &'static str, choices: C) -> Document<'_, C> {
        // With usage asked for, every chunk but the last has it as null.
        let usage = (self.options.stream && self.options.include_usage).then_some(None);
        let model = self.model.name();
        Document {
            id: &self.id,
            object,
            created: self.created,
            model,
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
            timings: None,
        }
    }

    fn chunk(&self, choice: ChunkChoice<'_>, timings: Option<TimingsBody>, frames: &mut Frames) {
        frames.event(&Document { timings, ..self.document("chat.completion.chunk", [choice]) });
    }
}

impl Dialect for ChatDialect {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn start(&mut self, frames: &mut Frames) {
        for index in 0..self.options.n {
            let delta = Delta { role: Some("assistant"), content: Some("") };
            self.chunk(ChunkChoice { index, delta, logprobs: None, finish_reason: None }, None, frames);
        }
    }

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        match event {
            Event::Token { choice, token, progress } => {
                if token.text.is_empty() && !self.options.logprobs {
                    return;
                }
                let logprobs = self.options.logprobs.then(|| LogprobsBody::of([token], &self.model));
                let timings = self.options.timings_per_token.then(|| TimingsBody::of(progress));
                let delta = Delta { role: None, content: Some(&token.text) };
                let choice = ChunkChoice { index: *choice, delta, logprobs, finish_reason: None };
                self.chunk(choice, timings, frames);
            }
            Event::End { choice, ending } => {
                self.progress[*choice] = ending.progress;
                let finish_reason = Some(finish_reason(ending.reason));
                let choice = ChunkChoice { index: *choice, delta: Delta::default(), logprobs: None, finish_reason };
                self.chunk(choice, Some(TimingsBody::of(&ending.progress)), frames);
            }
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, frames: &mut Frames) {
        if self.options.include_usage {
            let usage = Some(Some(UsageBody::of(self.progress.iter().map(|progress| progress.usage))));
            let no_choice: [ChunkChoice<'_>; 0] = [];
            frames.event(&Document { usage, ..self.document("chat.completion.chunk", no_choice) });
        }
        frames.word("[DONE]");
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.event(&ErrorDocument::of(error));
        frames.word("[DONE]");
    }

    fn keep_alive(&self, frames: &mut Frames) {
        frames.comment("keep-alive");
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let choice = |(index, answer): (usize, &Answer)| Choice {
            index,
            message: AnswerMessage { role: "assistant", content: answer.text.clone(), refusal: None, annotations: [] },
            logprobs: self.options.logprobs.then(|| LogprobsBody::of(&answer.tokens, &self.model)),
            finish_reason: finish_reason(answer.ending.reason),
        };
        let choices: Vec<Choice> = answers.iter().enumerate().map(choice).collect();
        let usage = UsageBody::of(answers.iter().map(|answer| answer.ending.progress.usage));
        let timings = answers.first().map(|answer| TimingsBody::of(&answer.ending.progress));
        let document = Document { usage: Some(Some(usage)), timings, ..self.document("chat.completion", choices) };
        serde_json::to_value(document).unwrap_or_default()
    }
}
