//! What the endpoints of completions share: fields that shape the answer and not the text.

use super::fields::STREAM_OPTIONS;
use crate::dialect::sampling;
use crate::error::ApiError;
use crate::json::{Json, fields};

/// Most answers of one prompt.
const MOST_CHOICES: i64 = 128;

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
        let n = body.get("n")?.map_or(Ok(1), |value| value.integer(1, MOST_CHOICES))?;
        let stream = flag(body, "stream")?;
        let include_usage = match body.get("stream_options")? {
            Some(options) if !stream => return Err(options.error("needs stream to be true")),
            Some(options) => {
                fields::check(STREAM_OPTIONS, &options)?;
                flag(&options, "include_usage")?
            }
            None => false,
        };
        let return_progress = flag(body, "return_progress")?;
        if return_progress && !stream {
            return Err(ApiError::field("return_progress", "needs stream to be true"));
        }
        Ok(Self {
            n: usize::try_from(n).unwrap_or(1),
            stream,
            include_usage,
            timings_per_token: flag(body, "timings_per_token")?,
            return_progress,
            logprobs: false,
        })
    }
}

/// A field that is true or false; false if it is missing.
pub(crate) fn flag(body: &Json<'_>, name: &str) -> Result<bool, ApiError> {
    body.get(name)?.map_or(Ok(false), |value| value.flag())
}

/// A number of tokens under the first of these names that the request has; -1 is as many as fit.
pub(crate) fn max_tokens(body: &Json<'_>, names: &[&str]) -> Result<Option<u32>, ApiError> {
    let mut found = None;
    for name in names {
        if let Some(number) = body.get(name)? {
            let number = sampling::max_tokens(&number)?;
            found = found.or(Some(number));
        }
    }
    Ok(found)
}

/// The error of a prompt, with the name that the prompt has in this endpoint.
pub(crate) fn prompt_named(error: ApiError, name: &str) -> ApiError {
    let is_prompt = error.field.as_deref() == Some("prompt");
    let field = if is_prompt { Some(name.to_owned()) } else { error.field };
    ApiError { field, ..error }
}
