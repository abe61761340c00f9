//! The facts of an error as named values, for frontends that show them as exception attributes or as JSON.

use std::error::Error;
use std::path::Path;

use super::{MullamaError, PromptFailure};

/// The value of one fact of an error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fact<'a> {
    /// A text.
    Text(String),
    /// Several texts.
    Texts(&'a [String]),
    /// A count, a position or a number of milliseconds.
    Number(i64),
    /// A yes-or-no fact.
    Flag(bool),
    /// A path of a file.
    Path(&'a Path),
    /// The fact does not apply to this error.
    None,
}

impl From<usize> for Fact<'_> {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Option<usize>> for Fact<'_> {
    fn from(number: Option<usize>) -> Self {
        number.map_or(Self::None, Self::from)
    }
}

impl From<&str> for Fact<'_> {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl MullamaError {
    /// The message of the error, including those messages of its sources that it does not repeat itself.
    pub fn message(&self) -> String {
        message(self)
    }

    /// The facts, under names that are the same in every language.
    ///
    /// ```
    /// use mullama::{Fact, MullamaError};
    ///
    /// let error = MullamaError::Overloaded { unfinished: 72, limit: 72 };
    /// assert_eq!(error.facts(), [("unfinished", Fact::Number(72)), ("limit", Fact::Number(72))]);
    /// ```
    pub fn facts(&self) -> Vec<(&'static str, Fact<'_>)> {
        match self {
            Self::ModelNotFound { path } => {
                vec![("path", Fact::Path(path)), ("name", Fact::None), ("tried", Fact::None)]
            }
            Self::UnknownModel { name, tried, .. } => {
                vec![("path", Fact::None), ("name", name.as_str().into()), ("tried", Fact::Texts(tried))]
            }
            Self::Download { name, failure } => vec![
                ("name", name.as_str().into()),
                ("reason", failure.reason().into()),
                ("url", failure.url().map_or(Fact::None, Fact::from)),
                ("status", failure.status().map(usize::from).into()),
            ],
            Self::ModelLoad { path, source } => {
                vec![("path", Fact::Path(path)), ("reason", Fact::Text(message(source)))]
            }
            Self::InvalidConfig { field, value, range } => {
                vec![("field", (*field).into()), ("value", value.as_str().into()), ("range", range.as_str().into())]
            }
            Self::InvalidPrompt(failure) => {
                let token = match failure {
                    PromptFailure::UnknownToken { token, .. } => Fact::Number((*token).into()),
                    _ => Fact::None,
                };
                let position = failure.position().into();
                vec![("reason", Fact::Text(message(failure))), ("token", token), ("position", position)]
            }
            Self::ChatTemplate(failure) => {
                vec![("reason", Fact::Text(message(failure))), ("line", failure.line().into())]
            }
            Self::ContextOverflow { prompt_tokens, is_lower_bound, context_len } => vec![
                ("prompt_tokens", (*prompt_tokens).into()),
                ("is_lower_bound", Fact::Flag(*is_lower_bound)),
                ("context_len", (*context_len).into()),
            ],
            Self::Overloaded { unfinished, limit } => {
                vec![("unfinished", (*unfinished).into()), ("limit", (*limit).into())]
            }
            Self::PausedOverloaded { paused, active, limit } => {
                vec![("unfinished", (paused + active).into()), ("limit", (*limit).into())]
            }
            Self::Displaced { limit } => vec![("unfinished", (*limit).into()), ("limit", (*limit).into())],
            // Here the limit is on bytes of prompts, not on streams.
            Self::PromptsOverloaded { limit_bytes, .. } => {
                vec![("unfinished", Fact::None), ("limit", (*limit_bytes).into())]
            }
            Self::StreamTimeout { deadline, limit_ms, completion_tokens } => vec![
                ("deadline", Fact::Text(deadline.to_string())),
                ("limit_ms", Fact::Number(i64::try_from(*limit_ms).unwrap_or(i64::MAX))),
                ("completion_tokens", (*completion_tokens).into()),
            ],
            Self::StreamingError(failure) => vec![("reason", Fact::Text(message(failure)))],
            Self::Closed { what } => vec![("what", (*what).into())],
        }
    }
}

/// The message of an error, including those messages of its sources that it does not repeat itself.
fn message(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}
