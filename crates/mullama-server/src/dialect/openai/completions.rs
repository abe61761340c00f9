//! `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Prompt, StreamConfig};

use super::answer;
use super::completion_frames::CompletionDialect;
use super::document::Head;
use super::fields::COMPLETION_TABLES;
use super::options::{Options, max_tokens, prompt_named};
use crate::dialect::prompts;
use crate::dialect::sampling::{self, MOST_LOGPROBS};
use crate::error::ApiError;
use crate::generation::Streams;
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Most answers of all prompts of a request.
const MOST_STREAMS: usize = 128;

/// Continues prompts, streamed or whole.
pub(crate) async fn completions(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    answer(&state, request, read, open, named).await
}

/// What a request asks for.
struct Asked {
    config: StreamConfig,
    options: Options,
    prompts: Vec<Prompt>,
    /// Whether the answers begin with their prompts.
    is_echoed: bool,
}

fn read(body: &Json<'_>, mut config: StreamConfig) -> Result<Asked, ApiError> {
    fields::apply(COMPLETION_TABLES, body, &mut config)?;
    read_config(body, &mut config)?;
    let options = Options { logprobs: config.logprobs.is_some(), ..Options::read(body)? };
    check_best_of(body, options.n)?;
    let prompt = body.require("prompt")?;
    let prompts = prompts::read_prompts(&prompt)?;
    if prompts.len() * options.n > MOST_STREAMS {
        let message = format_args!(
            "has {} prompts of {} answers each, but a request may have at most {MOST_STREAMS} answers",
            prompts.len(),
            options.n
        );
        return Err(prompt.error(message));
    }
    let is_echoed = read_echo(body, &config)?;
    Ok(Asked { config, options, prompts, is_echoed })
}

/// Opens the streams of a request.
fn open(body: &Json<'_>, model: Arc<Loaded>) -> Result<(Streams, CompletionDialect, bool), ApiError> {
    let Asked { config, options, prompts, is_echoed } = read(body, model.defaults().clone())?;
    let echoed = if is_echoed { texts_of(&prompts, &model)? } else { Vec::new() };
    let dialect = CompletionDialect::new(Head::new("cmpl-", &model), options, prompts.len(), echoed);
    let streams = Streams::open(model, prompts, options.n, &config).map_err(named)?;
    Ok((streams, dialect, options.stream))
}

/// The error with the names that its field has in this endpoint.
fn named(error: ApiError) -> ApiError {
    prompt_named(fields::renamed(error, COMPLETION_TABLES), "prompt")
}

fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    sampling::read_common(body, config)?;
    if let Some(number) = max_tokens(body, &["max_tokens"])? {
        config.max_tokens = number;
    }
    if let Some(number) = body.get("logprobs")? {
        // A client that speaks the newer dialect may say false.
        config.logprobs = match number.value().as_bool() {
            Some(false) => None,
            _ => Some(number.integer(0..=MOST_LOGPROBS)?),
        };
    }
    config.validate().map_err(|error| fields::renamed(error.into(), COMPLETION_TABLES))
}

/// `best_of` generates more answers than it returns; without that it says how many there are.
fn check_best_of(body: &Json<'_>, n: usize) -> Result<(), ApiError> {
    let Some(best_of) = body.get("best_of")? else { return Ok(()) };
    if best_of.integer(1..=usize::MAX)? == n {
        return Ok(());
    }
    Err(best_of
        .error(format_args!("must be equal to n, which is {n}: the server returns every answer that it generates")))
}

/// Whether the answers are to begin with their prompts.
fn read_echo(body: &Json<'_>, config: &StreamConfig) -> Result<bool, ApiError> {
    let is_echoed = body.flag_or("echo", false)?;
    if is_echoed && config.logprobs.is_some() {
        let message = "is not supported together with logprobs: the log-probabilities of prompts are not computed";
        return Err(ApiError::field("echo", message));
    }
    Ok(is_echoed)
}

/// The texts of the prompts.
fn texts_of(prompts: &[Prompt], model: &Loaded) -> Result<Vec<String>, ApiError> {
    let text = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => Ok(text.clone()),
        Prompt::Tokens(tokens) => {
            let bytes = model.context().model().detokenize(tokens).map_err(|error| model.refused(error))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Ok(String::new()),
    };
    prompts.iter().map(text).collect()
}
