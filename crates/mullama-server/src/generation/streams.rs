//! The streams of one request, polled in turn.

use std::sync::Arc;
use std::task::{Context, Poll};

use mullama::{Context as Engine, FinishReason, Prompt, StreamConfig, StreamHandle, TokenStream};

use super::event::{Ending, Event, Progress};
use crate::error::ApiError;
use crate::models::Loaded;

/// The streams of one request. Dropping them frees their slots within one step.
#[derive(Debug)]
pub(crate) struct Streams {
    streams: Vec<Choice>,
    /// The choice that is polled first, so that none of them waits for the others.
    next: usize,
    /// Keeps the model loaded.
    model: Arc<Loaded>,
}

#[derive(Debug)]
struct Choice {
    /// `None` once it has ended.
    stream: Option<TokenStream>,
    handle: StreamHandle,
}

impl Streams {
    /// Opens `count` streams of one prompt. Their seeds follow each other if the config names one.
    pub(crate) fn open(
        model: Arc<Loaded>,
        prompts: Vec<Prompt>,
        count: usize,
        config: &StreamConfig,
    ) -> Result<Self, ApiError> {
        let mut streams = Vec::with_capacity(prompts.len() * count);
        for prompt in prompts {
            for index in 0..count {
                let config = seeded(config, index);
                let stream = open_one(model.context(), prompt.clone(), config).map_err(|error| model.refused(error))?;
                streams.push(Choice { handle: stream.handle(), stream: Some(stream) });
            }
        }
        Ok(Self { streams, next: 0, model })
    }

    pub(crate) fn model(&self) -> &Arc<Loaded> {
        &self.model
    }

    /// Number of choices.
    pub(crate) fn count(&self) -> usize {
        self.streams.len()
    }

    /// The next event of any stream; `None` after the last.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let count = self.streams.len();
        for choice in (self.next..count).chain(0..self.next) {
            if let Poll::Ready(event) = self.poll_choice(choice, cx) {
                self.next = (choice + 1) % count;
                return Poll::Ready(Some(event));
            }
        }
        if self.streams.iter().all(|choice| choice.stream.is_none()) { Poll::Ready(None) } else { Poll::Pending }
    }

    /// The next event of one stream; pending if it has ended.
    fn poll_choice(&mut self, choice: usize, cx: &mut Context<'_>) -> Poll<Event> {
        let Choice { stream: slot, handle } = &mut self.streams[choice];
        let Some(stream) = slot else { return Poll::Pending };
        let item = match stream.poll_token(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(item) => item,
        };
        match item {
            Some(Ok(token)) => Poll::Ready(Event::Token { choice, token, progress: Progress::of(handle) }),
            None => {
                let ending = Ending {
                    reason: stream.finish_reason().unwrap_or(FinishReason::Cancelled),
                    stop_sequence: stream.stop_sequence(),
                    progress: Progress::of(handle),
                    seed: stream.seed(),
                };
                *slot = None;
                Poll::Ready(Event::End { choice, ending })
            }
            Some(Err(error)) => {
                for choice in &mut self.streams {
                    choice.stream = None;
                }
                Poll::Ready(Event::Failed { error })
            }
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.model.note_end();
    }
}

/// The config of one of several answers: a seed that is given is that of the first.
fn seeded(config: &StreamConfig, index: usize) -> StreamConfig {
    let mut config = config.clone();
    let offset = u32::try_from(index).unwrap_or_default();
    config.seed = config.seed.map(|seed| seed.wrapping_add(offset) % u32::MAX);
    config
}

fn open_one(engine: &Engine, prompt: Prompt, config: StreamConfig) -> Result<TokenStream, mullama::MullamaError> {
    engine.stream(prompt, config)
}
