//! `/v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Prompt, StreamConfig};

use super::completion_frames::CompletionDialect;
use super::document::Head;
use super::fields::COMPLETION_TABLES;
use super::options::{Options, flag, max_tokens, prompt_named};
use crate::dialect::{prompts, sampling};
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Most answers of all prompts of a request.
const MOST_STREAMS: usize = 128;

/// Continues prompts, streamed or whole.
pub(crate) async fn completions(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    fields::apply(COMPLETION_TABLES, &body, &mut config)?;
    read_config(&body, &mut config)?;
    let options = Options { logprobs: config.logprobs.is_some(), ..Options::read(&body)? };
    check_best_of(&body, options.n)?;
    let prompt = body.require("prompt")?;
    let prompts = prompts::read_prompts(&prompt)?;
    if prompts.len() * options.n > MOST_STREAMS {
        let message = format_args!(
            "has {} prompts of {} answers each; the limit is {MOST_STREAMS} answers",
            prompts.len(),
            options.n
        );
        return Err(prompt.error(message));
    }
    let echoed = read_echo(&body, &prompts, &config, &model)?;
    let dialect = CompletionDialect::new(Head::new("cmpl-", &model), options, prompts.len(), echoed);
    let named = |error| prompt_named(fields::renamed(error, COMPLETION_TABLES), "prompt");
    let streams = Streams::open(model, prompts, options.n, &config).map_err(named)?;
    respond(streams, dialect, options.stream, state.keep_alive()).await.map_err(named)
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
            _ => u32::try_from(number.integer(0, 20)?).ok(),
        };
    }
    config.validate().map_err(|error| fields::renamed(error.into(), COMPLETION_TABLES))
}

/// `best_of` generates more answers than it returns; without that it says how many there are.
fn check_best_of(body: &Json<'_>, n: usize) -> Result<(), ApiError> {
    let Some(best_of) = body.get("best_of")? else { return Ok(()) };
    if usize::try_from(best_of.integer(1, i64::from(u32::MAX))?) == Ok(n) {
        return Ok(());
    }
    Err(best_of.error(format_args!("must be n, which is {n}: answers are not generated to be left out")))
}

/// The texts of the prompts, if the answers are to begin with them.
fn read_echo(
    body: &Json<'_>,
    prompts: &[Prompt],
    config: &StreamConfig,
    model: &Arc<Loaded>,
) -> Result<Vec<String>, ApiError> {
    if !flag(body, "echo")? {
        return Ok(Vec::new());
    }
    if config.logprobs.is_some() {
        let message = "is not supported together with logprobs: those of the prompt are not computed";
        return Err(ApiError::field("echo", message));
    }
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
