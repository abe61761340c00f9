//! What the endpoints of completions share: fields that shape the answer and not the text.

use crate::dialect::sampling;
use crate::error::ApiError;
use crate::json::Json;

/// Most answers of one prompt.
const MOST_CHOICES: usize = 128;

/// Fields that shape the answer and not the text.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of requests")]
pub(crate) struct Options {
    /// Answers of each prompt.
    pub(crate) n: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) timings_per_token: bool,
    pub(crate) logprobs: bool,
    pub(crate) return_progress: bool,
}

impl Options {
    /// `logprobs` is read by the endpoint.
    pub(crate) fn read(body: &Json<'_>) -> Result<Self, ApiError> {
        let n = body.get("n")?.map_or(Ok(1), |value| value.integer(1..=MOST_CHOICES))?;
        let stream = body.flag_or("stream", false)?;
        let include_usage = match body.get("stream_options")? {
            Some(options) if !stream => return Err(options.error("needs stream to be true")),
            Some(options) => options.flag_or("include_usage", false)?,
            None => false,
        };
        let return_progress = body.flag_or("return_progress", false)?;
        if return_progress && !stream {
            return Err(ApiError::field("return_progress", "needs stream to be true"));
        }
        Ok(Self {
            n,
            stream,
            include_usage,
            timings_per_token: body.flag_or("timings_per_token", false)?,
            return_progress,
            logprobs: false,
        })
    }
}

/// A number of tokens under one of these names; -1 is as many as fit.
pub(crate) fn max_tokens(body: &Json<'_>, names: &[&str]) -> Result<Option<u32>, ApiError> {
    body.one_of(names)?.map(|number| sampling::max_tokens(&number)).transpose()
}

/// The error of a prompt, with the name that the prompt has in this endpoint.
pub(crate) fn prompt_named(error: ApiError, name: &str) -> ApiError {
    // Messages are what a prompt of another form was made into.
    let is_prompt = error.field.as_deref().is_some_and(|field| {
        field == "prompt" || name != "messages" && (field == "messages" || field.starts_with("messages["))
    });
    let field = if is_prompt { Some(name.to_owned()) } else { error.field };
    ApiError { field, ..error }
}
