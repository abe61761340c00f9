//! `/completion`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::Response;
use mullama::{Model, Prompt, StreamConfig, TokenId};

use super::frames::{CompletionDialect, Facts};
use super::options::{Options, read_config};
use super::prompt::{Unread, read_prompts, tokenized};
use crate::dialect::blocking::blocking;
use crate::error::ApiError;
use crate::generation::{KeepAlive, Streams, respond};
use crate::json::Json;
use crate::state::State;

/// Continues prompts, streamed or whole.
pub(super) async fn completion(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?.checked(state.defaults(), read).await?;
    let model = state.model(body.json().text_of("model")?).await?;
    let defaults = model.defaults().clone();
    let (mut config, options, prompts) = body.read(move |body| read(body, defaults)).await?;
    add_biases(&mut config, &options.biased_texts, model.context().model()).await?;
    let prompts = tokenized(prompts, model.context().model()).await?;
    let (prompts, texts) = with_texts(prompts, Arc::clone(model.context().model())).await?;
    let (count, count_name, is_streamed) = (options.count, options.count_name, options.is_streamed);
    let keep_alive = options.ping.map_or_else(|| state.keep_alive(), KeepAlive);
    let vocabulary = Arc::clone(model.context().model());
    let facts = Facts {
        model: model.name().to_owned(),
        prompts: texts,
        config: config.clone(),
        context_len: model.context().context_len()?,
        bytes_of: Box::new(move |token| vocabulary.detokenize(&[token]).unwrap_or_default()),
    };
    let dialect = CompletionDialect::new(facts, options);
    let streams = Streams::open(model, prompts, count, &config).map_err(|error| error.renamed("n", count_name))?;
    respond(streams, dialect, is_streamed, keep_alive).await
}

/// What a request asks for: its settings and its prompts.
fn read(body: &Json<'_>, mut config: StreamConfig) -> Result<(StreamConfig, Options, Vec<Unread>), ApiError> {
    read_config(body, &mut config)?;
    Ok((config, Options::read(body)?, read_prompts(&body.require("prompt")?)?))
}

/// Adds the biases of texts, which are those of each of their tokens.
async fn add_biases(config: &mut StreamConfig, texts: &[(String, f32)], model: &Arc<Model>) -> Result<(), ApiError> {
    let bytes = texts.iter().map(|(text, _)| text.len()).sum::<usize>();
    if bytes == 0 {
        return Ok(());
    }
    let (texts, model) = (texts.to_vec(), Arc::clone(model));
    let tokenized = move |go_on: &mut dyn FnMut() -> bool| {
        let mut biases = Vec::new();
        for (text, bias) in texts {
            // A text is plain: no control token is read from it.
            let Some(tokens) = model.tokenize_while(&text, false, false, &mut *go_on)? else { return Ok(None) };
            biases.extend(tokens.into_iter().map(|token| (token, bias)));
        }
        Ok(Some(biases))
    };
    config.logit_bias.extend(blocking(bytes, tokenized).await?);
    config.validate().map_err(ApiError::from)
}

/// The prompts, and the text of each. Many tokens take their time, so their text is not found on a connection's thread.
async fn with_texts(prompts: Vec<Prompt>, model: Arc<Model>) -> Result<(Vec<Prompt>, Vec<String>), ApiError> {
    let tokens_of = |prompt: &Prompt| if let Prompt::Tokens(tokens) = prompt { tokens.len() } else { 0 };
    let tokens: usize = prompts.iter().map(tokens_of).sum();
    let read = move || {
        let texts = prompts.iter().map(|prompt| text_of(prompt, &model)).collect();
        (prompts, texts)
    };
    if tokens == 0 {
        return Ok(read());
    }
    blocking(tokens * size_of::<TokenId>(), move |_| Ok(Some(read()))).await
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
