//! The streams of one request, polled in turn.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mullama::{FinishReason, MullamaError, Prompt, StreamConfig, StreamFailure, StreamHandle, TokenId, TokenStream};

use super::event::{Ending, Event, Progress};
use super::prefill::Prefill;
use crate::error::ApiError;
use crate::metrics::Recorder;
use crate::models::Loaded;
use crate::stop::Phase;
use crate::telemetry::Generation;

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
    /// Whether the request forbids tokens, so that none may be left.
    has_biases: bool,
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
        check_count(&model, prompts.len(), count)?;
        check_biases(&model, config)?;
        let mut streams = Vec::with_capacity(prompts.len() * count);
        let is_chat = matches!(prompts.first(), Some(Prompt::Chat(_)));
        for prompt in prompts {
            // A prompt is copied for all streams of it but the last.
            for (index, prompt) in std::iter::repeat_n(prompt, count).enumerate() {
                let config = seeded(config, index);
                let stream = model.context().stream_displacing(prompt, config).map_err(|error| model.refused(error))?;
                streams.push(Choice { handle: stream.handle(), stream: Some(stream) });
            }
        }
        let ending = Box::pin(model.stop().clone().reached(Phase::Ending));
        let span = Generation::start(&model, is_chat, [streams.len(), count], config);
        let recorder = Recorder::new(&model, config, streams.len(), span);
        let has_biases = !config.logit_bias.is_empty();
        Ok(Self { choices: streams, next: 0, ending, model, recorder, has_biases })
    }

    pub(crate) fn model(&self) -> &Arc<Loaded> {
        &self.model
    }

    /// Notes the id of the answer, if it has one, and how it is sent.
    pub(super) fn describe(&mut self, id: Option<&str>, is_streamed: bool) {
        self.recorder.span().describe(id, is_streamed);
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

    /// The end of a stream that was cut short, by an error, a cancellation or the end of the server, for a reader that
    /// takes no tokens: those that it has not taken are discarded.
    pub(crate) fn poll_cut_short(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        for choice in 0..self.choices.len() {
            let Choice { stream, handle } = &self.choices[choice];
            let is_cut = |reason| !matches!(reason, FinishReason::Stop | FinishReason::Length);
            if stream.is_none() || !matches!(handle.poll_ended(cx), Poll::Ready(reason) if is_cut(reason)) {
                continue;
            }
            while let Poll::Ready(event) = self.poll_choice(choice, cx) {
                if !matches!(event, Event::Token { .. }) {
                    return Poll::Ready(event);
                }
            }
        }
        if self.ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.fail(MullamaError::Closed { what: "server" }));
        }
        Poll::Pending
    }

    /// Closes the streams that have not ended.
    fn fail(&mut self, error: MullamaError) -> Event {
        self.recorder.failed(error.code());
        for (index, choice) in self.choices.iter_mut().enumerate() {
            if let Some(stream) = choice.stream.take() {
                self.recorder.closed(index, &stream);
                self.model.note_end();
            }
        }
        let error = match error {
            // The penalties have left none of the tokens that the biases allow.
            MullamaError::StreamingError(StreamFailure::Sample(_)) if self.has_biases => {
                no_token_left("together with the penalties, ")
            }
            error => error,
        };
        Event::Failed { error }
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
                let progress = progress.at(&token);
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
    /// The client has left, if streams have not ended.
    fn drop(&mut self) {
        for (index, choice) in self.choices.iter_mut().enumerate() {
            if let Some(stream) = choice.stream.take() {
                self.recorder.left(index, stream, &self.model);
                self.model.note_end();
            }
        }
    }
}

/// Refuses more streams than the engine takes when it has no others: no later try would have room for them.
fn check_count(model: &Loaded, prompts: usize, count: usize) -> Result<(), ApiError> {
    let params = model.context().params();
    let most = params.n_parallel as usize + params.max_queue as usize;
    if prompts.saturating_mul(count) <= most {
        return Ok(());
    }
    let limit = format_args!("but this server computes at most {most} answers of a request (n_parallel + max_queue)");
    if prompts > most {
        return Err(ApiError::field("prompt", format_args!("is a list of {prompts} prompts, {limit}")));
    }
    if prompts == 1 {
        return Err(ApiError::field("n", format_args!("is {count}, {limit}")));
    }
    Err(ApiError::field("n", format_args!("is {count} for each of {prompts} prompts, {limit}")))
}

/// Refuses biases that forbid every token of the vocabulary.
fn check_biases(model: &Loaded, config: &StreamConfig) -> Result<(), ApiError> {
    let model = model.context().model();
    let biases = config.logit_bias.iter().filter(|(_, bias)| *bias == f32::NEG_INFINITY).map(|(token, _)| *token);
    let ends = if config.ignore_eos { model.end_tokens() } else { Vec::new() };
    if config.logit_bias.len() + ends.len() < model.n_vocab() {
        return Ok(());
    }
    let forbidden: HashSet<TokenId> = biases.chain(ends).collect();
    if forbidden.len() < model.n_vocab() {
        return Ok(());
    }
    Err(no_token_left(if config.ignore_eos { "together with ignore_eos, " } else { "" }).into())
}

/// The error of biases that forbid every token.
fn no_token_left(together: &str) -> MullamaError {
    MullamaError::InvalidConfig {
        field: "logit_bias",
        value: format!("a list that {together}forbids every token"),
        range: "one that allows at least one token".to_owned(),
    }
}

/// The config of one of several answers: a seed that is given is that of the first.
fn seeded(config: &StreamConfig, index: usize) -> StreamConfig {
    let mut config = config.clone();
    let offset = u32::try_from(index).unwrap_or_default();
    config.seed = config.seed.map(|seed| seed.wrapping_add(offset) % u32::MAX);
    config
}
