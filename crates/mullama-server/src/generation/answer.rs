//! Whole answers, for requests that are not streamed.

use std::future::poll_fn;

use mullama::{MullamaError, Token};

use super::event::{Ending, Event};
use super::streams::Streams;

/// A stream that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) ending: Ending,
}

/// Reads all streams of a request to their ends. Dropping the future drops the streams.
pub(crate) async fn collect(mut streams: Streams, count: usize) -> Result<Vec<Answer>, MullamaError> {
    let mut parts: Vec<(String, Vec<Token>, Option<Ending>)> = Vec::new();
    parts.resize_with(count, Default::default);
    while let Some(event) = poll_fn(|cx| streams.poll_event(cx)).await {
        match event {
            Event::Token { choice, token, .. } => {
                parts[choice].0.push_str(&token.text);
                parts[choice].1.push(token);
            }
            Event::End { choice, ending } => parts[choice].2 = Some(ending),
            Event::Failed { error } => return Err(error),
        }
    }
    let answers = parts.into_iter().filter_map(|(text, tokens, ending)| Some(Answer { text, tokens, ending: ending? }));
    Ok(answers.collect())
}
