//! One stream as the engine sees it: its tokens, how many of them are computed, and its pending text.
//!
//! Flow: sample → **detokenize → stop → stream**, for one sequence.

use std::sync::Arc;
use std::time::Duration;

use mullama_ffi::TokenId;

use crate::config::StreamConfig;
use crate::engine::arrivals::Arrival;
use crate::engine::prefix_search::PrefixSearch;
use crate::engine::sample_rows::SampleJob;
use crate::engine::scheduler::{Candidate, RunState};
use crate::error::{self, Deadline, MullamaError, StreamFailure};
use crate::request::ValidRequest;
use crate::stream::token::Token;
use crate::stream::usage::FinishReason;
use crate::stream::{End, Progress, Readiness, StreamId, TokenSender};
use crate::text::detokenizer::Detokenizer;
use crate::text::sampler::{SampledToken, SamplerChain};
use crate::text::stop_matcher::{StopMatcher, Verdict};
use crate::text::vocabulary::Vocabulary;

/// One stream inside the engine.
#[derive(Debug)]
pub(crate) struct Sequence {
    sender: TokenSender,
    config: Arc<StreamConfig>,
    // Each step reads these two of every sequence, so they are here and not only behind the pointer to `config`.
    /// Whether its text must not depend on other streams.
    is_deterministic: bool,
    /// The minimum time between two tokens.
    delay: Option<Duration>,
    called_at: Duration,
    run_state: RunState,
    /// The seq_id whose cells hold the first `computed` tokens.
    seq_id: Option<usize>,
    computed: usize,
    progressed_since_scheduled: bool,
    /// Prompt and completion; empty until the prompt is tokenized.
    tokens: Vec<TokenId>,
    sampler: Option<SamplerChain>,
    /// Maximum number of completion tokens, after which the stream ends with `length`.
    completion_budget: usize,
    progress: Progress,
    items: usize,
    begun_at: Option<Duration>,
    first_at: Option<Duration>,
    last_at: Option<Duration>,
    full_since: Option<Duration>,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    prefix_search: PrefixSearch,
}

/// Whether a sequence continues after a token.
#[derive(Debug)]
pub(crate) enum Outcome {
    Continues,
    Ended,
}

impl Sequence {
    pub(crate) fn new(arrival: Arrival) -> Self {
        let stops = StopMatcher::new(arrival.config.stop_sequences.clone());
        Self {
            sender: arrival.sender,
            is_deterministic: arrival.config.deterministic,
            delay: error::limit(Some(arrival.config.stream_delay_ms)),
            config: arrival.config,
            called_at: arrival.called_at,
            run_state: RunState::Queued,
            seq_id: None,
            computed: 0,
            progressed_since_scheduled: false,
            tokens: Vec::new(),
            sampler: None,
            completion_budget: 0,
            progress: Progress::default(),
            items: 0,
            begun_at: None,
            first_at: None,
            last_at: None,
            full_since: None,
            detokenizer: Detokenizer::default(),
            stops,
            prefix_search: PrefixSearch::default(),
        }
    }

    pub(crate) fn id(&self) -> StreamId {
        self.sender.id()
    }

    /// Takes the tokenized prompt, so that the sequence can get a slot.
    pub(crate) fn set_prompt(&mut self, request: ValidRequest) {
        self.progress.usage.prompt_tokens = request.prompt.len();
        self.completion_budget = request.max_tokens;
        self.tokens = request.prompt;
        self.sampler = Some(request.sampler);
        self.sender.report(&self.progress);
    }

    /// Prompt and completion so far; empty until the prompt is tokenized.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The tokens whose cells the sequence holds.
    pub(crate) fn computed_tokens(&self) -> &[TokenId] {
        &self.tokens[..self.computed]
    }

    /// The scheduling state between two steps.
    pub(crate) fn run_state(&self) -> RunState {
        self.run_state
    }

    /// The seq_id whose cells hold its computed tokens.
    pub(crate) fn seq_id(&self) -> Option<usize> {
        self.seq_id
    }

    /// Number of tokens that are computed.
    pub(crate) fn computed(&self) -> usize {
        self.computed
    }

    /// Gives up its cells, so that it must recompute its tokens; returns the seq_id that it had.
    pub(crate) fn give_up_cells(&mut self) -> Option<usize> {
        self.computed = 0;
        self.prefix_search.forget();
        self.seq_id.take()
    }

    /// What the sequence knows about computed prefixes of its prompt.
    pub(crate) fn prefix_search(&mut self) -> &mut PrefixSearch {
        &mut self.prefix_search
    }

    /// How many more rows it may need in the shared pool: the rest of its prompt, and of its completion budget.
    pub(crate) fn upcoming_rows(&self) -> usize {
        if self.is_deterministic() {
            return 0;
        }
        let completed = self.tokens.len() - self.progress.usage.prompt_tokens.min(self.tokens.len());
        self.tokens.len() - self.computed + self.completion_budget.saturating_sub(completed)
    }

    /// Whether its prompt is not computed yet.
    pub(crate) fn prefills(&self) -> bool {
        self.tokens.len() - self.computed > 1
    }

    /// Starts with tokens that are already computed; returns how many prompt tokens that saves, 0 after the first
    /// token.
    pub(crate) fn reuse_prefix(&mut self, shared: usize) -> usize {
        self.computed = shared;
        if self.first_at.is_some() {
            return 0;
        }
        let prompt = shared.min(self.progress.usage.prompt_tokens);
        self.progress.usage.cached_tokens = prompt;
        prompt
    }

    /// Whether its completion budget is zero, so that nothing is generated.
    pub(crate) fn generates_nothing(&self) -> bool {
        self.sampler.is_some() && self.completion_budget == 0
    }

    /// Whether its text must not depend on other streams.
    pub(crate) fn is_deterministic(&self) -> bool {
        self.is_deterministic
    }

    /// The priority; higher ones go first.
    pub(crate) fn priority(&self) -> i32 {
        self.config.priority
    }

    /// Number of prompt tokens.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.progress.usage.prompt_tokens
    }

    /// Whether a token can be computed for it now; reserves capacity for that token.
    pub(crate) fn is_ready(&mut self, now: Duration) -> bool {
        self.sampler.is_some() && self.has_capacity(now) && self.due_at().is_none_or(|due| due <= now)
    }

    /// The scheduler's view of the sequence; reserves capacity for a token. Deterministic streams are never ready here.
    pub(crate) fn candidate(&mut self, now: Duration) -> Candidate {
        let ready = !self.is_deterministic() && self.is_ready(now);
        Candidate {
            priority: self.config.priority,
            arrival: self.id(),
            run_state: self.run_state,
            ready,
            pending: self.tokens.len() - self.computed,
            wants: self.tokens.len() - self.computed,
            seq_id: self.seq_id,
            progressed_since_scheduled: self.progressed_since_scheduled,
            waits_for: None,
        }
    }

    fn has_capacity(&mut self, now: Duration) -> bool {
        match self.sender.readiness() {
            Readiness::Ready => {
                self.stop_waiting(now);
                true
            }
            Readiness::Full => {
                self.full_since.get_or_insert(now);
                false
            }
            Readiness::Gone => false,
        }
    }

    fn stop_waiting(&mut self, now: Duration) {
        if let Some(since) = self.full_since.take() {
            self.progress.timings.reader_wait += now.saturating_sub(since);
        }
    }

    /// The earliest time for the next token, if a delay between tokens is configured.
    fn due_at(&self) -> Option<Duration> {
        Some(self.last_at? + self.delay?)
    }

    /// When the engine must look at this sequence again without any message.
    pub(crate) fn next_moment(&self, now: Duration) -> Option<Duration> {
        let deadline = self.deadlines().map(|(at, ..)| at).min();
        let due = self.due_at().filter(|&due| due > now);
        deadline.into_iter().chain(due).min()
    }

    /// Deadlines that still apply: the time, the kind and the length.
    fn deadlines(&self) -> impl Iterator<Item = (Duration, Deadline, u64)> {
        let config = &self.config;
        let queue = config.queue_timeout_ms.filter(|_| self.begun_at.is_none());
        let first = config.ttft_timeout_ms.filter(|_| self.first_at.is_none());
        let all = [(queue, Deadline::Queue), (first, Deadline::FirstToken), (config.timeout_ms, Deadline::Total)];
        let called_at = self.called_at;
        all.into_iter().filter_map(move |(ms, deadline)| {
            let limit = error::limit(ms)?;
            Some((called_at.checked_add(limit)?, deadline, ms?))
        })
    }

    /// The deadline that has passed, if there is one.
    pub(crate) fn expired(&self, now: Duration) -> Option<MullamaError> {
        let (_, deadline, limit_ms) = self.deadlines().filter(|(at, ..)| *at <= now).min_by_key(|(at, ..)| *at)?;
        let completion_tokens = self.progress.usage.completion_tokens;
        Some(MullamaError::StreamTimeout { deadline, limit_ms, completion_tokens })
    }

    /// Gives the sequence a slot, unless it has one.
    pub(crate) fn take_slot(&mut self, now: Duration) {
        if self.run_state == RunState::Running {
            return;
        }
        self.run_state = RunState::Running;
        self.progressed_since_scheduled = false;
        self.sender.set_paused(false);
        self.begin(now);
    }

    /// Takes the slot away in this step.
    pub(crate) fn pause(&mut self, since: u64) {
        self.run_state = RunState::Paused { since };
        if let Some(sampler) = &mut self.sampler {
            sampler.trim();
        }
        self.sender.set_paused(true);
    }

    /// Assigns cells to the sequence.
    pub(crate) fn assign_seq_id(&mut self, seq_id: usize) {
        self.seq_id = Some(seq_id);
    }

    /// Records that the next `rows` tokens were computed.
    pub(crate) fn count_computed(&mut self, rows: usize) {
        self.computed += rows;
        if self.first_at.is_none() {
            self.progress.prefilled = self.computed.min(self.progress.usage.prompt_tokens);
            self.sender.report(&self.progress);
        }
    }

    /// Removes the sequence from the queue for its first step.
    fn begin(&mut self, now: Duration) {
        if self.begun_at.is_some() {
            return;
        }
        self.begun_at = Some(now);
        self.progress.timings.queue = now.saturating_sub(self.called_at);
        self.sender.admit();
    }

    /// The next `rows` tokens to compute, with their positions; `true` for the last token of all, whose logits are
    /// needed.
    pub(crate) fn rows(&self, rows: usize) -> impl Iterator<Item = (TokenId, usize, bool)> {
        let last = self.tokens.len() - 1;
        (self.computed..self.computed + rows).map(move |position| (self.tokens[position], position, position == last))
    }

    /// Lends the sampler chain for sampling; [`return_sampler`](Self::return_sampler) returns it.
    pub(crate) fn take_sampler(&mut self) -> SamplerChain {
        self.sampler.take().expect("only a sequence with a sampler gets a slot")
    }

    /// Takes back the sampler chain of [`take_sampler`](Self::take_sampler).
    pub(crate) fn return_sampler(&mut self, sampler: SamplerChain) {
        self.sampler = Some(sampler);
    }

    /// Samples the next token from the logits of the last one. Uses nothing but this sequence.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> Result<SampledToken, MullamaError> {
        let sampler = self.sampler.as_mut().expect("only a sequence with a sampler gets a slot");
        SampleJob { logits: Ok(logits), sampler }.run()
    }

    /// Processes the sampled token: detokenize, stop, send.
    pub(crate) fn advance(&mut self, sampled: SampledToken, words: &VocabularyView<'_>, now: Duration) -> Outcome {
        self.mark(now);
        let ends = words.end_tokens.binary_search(&sampled.token).is_ok();
        if ends || sampled.is_stop {
            self.finish(FinishReason::Stop, now);
            return Outcome::Ended;
        }
        self.tokens.push(sampled.token);
        self.deliver(sampled, words.vocabulary, now)
    }

    fn mark(&mut self, now: Duration) {
        self.progressed_since_scheduled = true;
        self.progress.usage.completion_tokens += 1;
        let timings = &mut self.progress.timings;
        let first_at = *self.first_at.get_or_insert_with(|| {
            timings.prefill = now.saturating_sub(self.begun_at.unwrap_or(now));
            timings.first_token = now.saturating_sub(self.called_at);
            now
        });
        timings.decode = now.saturating_sub(first_at);
        self.last_at = Some(now);
    }

    /// Sends the sampled token with the text that is now certain; ends the stream if the token completes it.
    fn deliver(&mut self, sampled: SampledToken, vocabulary: &dyn Vocabulary, now: Duration) -> Outcome {
        let mut bytes = Vec::new();
        if let Err(error) = vocabulary.piece(sampled.token, &mut bytes) {
            self.fail(MullamaError::StreamingError(StreamFailure::Sample(Arc::new(error))), now);
            return Outcome::Ended;
        }
        let mut text = String::new();
        self.detokenizer.push(&bytes, &mut text);
        let (text, end) = match self.stops.push(text) {
            Verdict::Stopped { text, stop } => (text, Some(self.stopped_by(stop))),
            Verdict::Go(text) if self.progress.usage.completion_tokens < self.completion_budget => (text, None),
            Verdict::Go(text) => {
                let (rest, stop) = self.flush();
                let reason = stop.map_or(FinishReason::Length, |stop| self.stopped_by(stop));
                (text + &rest, Some(reason))
            }
        };
        let token = Token {
            text,
            id: Some(sampled.token),
            bytes,
            index: self.items,
            logprob: sampled.logprob,
            top_logprobs: sampled.top_logprobs,
        };
        self.items += 1;
        match end {
            None => {
                self.sender.send(token, &self.progress);
                Outcome::Continues
            }
            Some(reason) => {
                self.sender.finish(End::Finished(reason), Some(token), &self.progress);
                Outcome::Ended
            }
        }
    }

    fn stopped_by(&mut self, stop: usize) -> FinishReason {
        self.progress.stop_sequence = Some(self.stops.sequence(stop).to_owned());
        FinishReason::Stop
    }

    /// The text that was held back, now that no token follows, and the stop sequence that it completed, if any.
    fn flush(&mut self) -> (String, Option<usize>) {
        let mut split = String::new();
        self.detokenizer.finish(&mut split);
        let text = match self.stops.push(split) {
            Verdict::Stopped { text, stop } => return (text, Some(stop)),
            Verdict::Go(text) => text,
        };
        match self.stops.finish() {
            Verdict::Stopped { text: rest, stop } => (text + &rest, Some(stop)),
            Verdict::Go(rest) => (text + &rest, None),
        }
    }

    /// Ends the stream without a further token.
    pub(crate) fn finish(&mut self, reason: FinishReason, now: Duration) {
        let (text, stop) = self.flush();
        if let Some(stop) = stop.filter(|_| reason == FinishReason::Stop) {
            self.stopped_by(stop);
        }
        self.end(End::Finished(reason), text, now);
    }

    /// Ends the stream with an error, after everything that was produced.
    pub(crate) fn fail(&mut self, error: MullamaError, now: Duration) {
        let (text, _) = self.flush();
        self.end(End::Failed(error), text, now);
    }

    fn end(&mut self, end: End, text: String, now: Duration) {
        self.stop_waiting(now);
        let remainder = (!text.is_empty()).then(|| Token {
            text,
            id: None,
            bytes: Vec::new(),
            index: self.items,
            logprob: None,
            top_logprobs: Vec::new(),
        });
        self.sender.finish(end, remainder, &self.progress);
    }
}

/// A vocabulary with its end tokens, sorted, so that the hot path does not query the vocabulary.
#[derive(Debug)]
pub(crate) struct VocabularyView<'a> {
    pub(crate) vocabulary: &'a dyn Vocabulary,
    pub(crate) end_tokens: &'a [TokenId],
}
