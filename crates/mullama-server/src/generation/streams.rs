//! The streams of one request, polled in turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mullama::{FinishReason, MullamaError, Prompt, StreamConfig, StreamHandle, TokenStream};

use super::event::{Ending, Event, Progress};
use super::prefill::Prefill;
use crate::error::ApiError;
use crate::metrics::Recorder;
use crate::models::Loaded;
use crate::stop::Phase;

/// The streams of one request. Dropping them frees their slots within one step.
pub(crate) struct Streams {
    choices: Vec<Choice>,
    /// The choice that is polled first, so that none of them waits for the others.
    next: usize,
    /// Completes when the server ends the streams that still run.
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Keeps the model loaded.
    model: Arc<Loaded>,
    recorder: Recorder,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("choices", &self.choices).field("model", &self.model).finish_non_exhaustive()
    }
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
                let stream = model.context().stream(prompt.clone(), config).map_err(|error| model.refused(error))?;
                streams.push(Choice { handle: stream.handle(), stream: Some(stream) });
            }
        }
        let ending = Box::pin(model.stop().clone().reached(Phase::Ending));
        let recorder = Recorder::new(&model, config, streams.len());
        Ok(Self { choices: streams, next: 0, ending, model, recorder })
    }

    pub(crate) fn model(&self) -> &Arc<Loaded> {
        &self.model
    }

    /// Number of choices.
    pub(crate) fn count(&self) -> usize {
        self.choices.len()
    }

    /// What the first choice has used so far.
    pub(crate) fn progress(&self) -> Progress {
        self.choices.first().map_or_else(Progress::default, |choice| Progress::of(&choice.handle))
    }

    /// How far the prompt of a choice is computed, `elapsed` after the request.
    pub(crate) fn prefill(&self, choice: usize, elapsed: Duration) -> Prefill {
        let handle = &self.choices[choice].handle;
        let usage = handle.usage();
        Prefill { total: usage.prompt_tokens, cached: usage.cached_tokens, computed: handle.prefilled(), elapsed }
    }

    /// The next event of any stream; `None` after the last.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let count = self.choices.len();
        for choice in (self.next..count).chain(0..self.next) {
            if let Poll::Ready(event) = self.poll_choice(choice, cx) {
                self.next = (choice + 1) % count;
                return Poll::Ready(Some(event));
            }
        }
        if self.choices.iter().all(|choice| choice.stream.is_none()) {
            return Poll::Ready(None);
        }
        if self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(self.fail(MullamaError::Closed { what: "server" })));
        }
        Poll::Pending
    }

    /// Closes all streams.
    fn fail(&mut self, error: MullamaError) -> Event {
        self.leave();
        Event::Failed { error }
    }

    /// Leaves the streams that have not ended.
    fn leave(&mut self) {
        for (index, choice) in self.choices.iter_mut().enumerate() {
            if let Some(stream) = choice.stream.take() {
                self.recorder.left(index, stream, &self.model);
                self.model.note_end();
            }
        }
    }

    /// The next event of one stream; pending if it has ended.
    fn poll_choice(&mut self, choice: usize, cx: &mut Context<'_>) -> Poll<Event> {
        let Choice { stream: slot, handle } = &mut self.choices[choice];
        let Some(stream) = slot else { return Poll::Pending };
        let item = match stream.poll_token(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(item) => item,
        };
        match item {
            Some(Ok(token)) => {
                let progress = Progress::of(handle);
                self.recorder.token(choice, &progress);
                Poll::Ready(Event::Token { choice, token, progress })
            }
            None => {
                let ending = Ending {
                    reason: stream.finish_reason().unwrap_or(FinishReason::Cancelled),
                    stop_sequence: stream.stop_sequence(),
                    progress: Progress::of(handle),
                    seed: stream.seed(),
                };
                self.recorder.ended(choice, ending.reason, &ending.progress);
                *slot = None;
                self.model.note_end();
                Poll::Ready(Event::End { choice, ending })
            }
            Some(Err(error)) => {
                let reason = stream.finish_reason().unwrap_or(FinishReason::Error);
                self.recorder.ended(choice, reason, &Progress::of(handle));
                *slot = None;
                self.model.note_end();
                Poll::Ready(self.fail(error))
            }
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The config of one of several answers: a seed that is given is that of the first.
fn seeded(config: &StreamConfig, index: usize) -> StreamConfig {
    let mut config = config.clone();
    let offset = u32::try_from(index).unwrap_or_default();
    config.seed = config.seed.map(|seed| seed.wrapping_add(offset) % u32::MAX);
    config
}
