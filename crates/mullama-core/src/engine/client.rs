//! The callers' side of an engine: requests are checked, counted, and sent to the engine's inbox.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Parts;
use super::arrivals::{Answer, Arrival, Interest, PromptJob};
use super::inbox::Inbox;
use super::tokenizer_pool::{Lane, Reservation, TokenizerPool};
use crate::clock::Clock;
use crate::config::StreamConfig;
use crate::error::MullamaError;
use crate::in_flight::InFlightGuard;
use crate::request::{Prompt, Request};
use crate::stats::Stats;
use crate::stream::admission::{Admission, AdmissionLimits, WhenFull};
use crate::stream::{self, EngineInbox, Identity, StreamHandle, TokenStream};
use crate::text::vocabulary::{IsWanted, Vocabulary};

/// The callers' side of an engine.
#[derive(Debug)]
pub(crate) struct EngineClient {
    inbox: Arc<Inbox>,
    admission: Arc<Admission>,
    pool: Arc<TokenizerPool>,
    clock: Arc<dyn Clock>,
    vocabulary: Arc<dyn Vocabulary>,
    /// Maximum number of bytes of text that a token can stand for, if that is known.
    longest_piece: Option<usize>,
    context_len: usize,
    stats: Arc<Mutex<Stats>>,
}

impl EngineClient {
    /// Creates the client of the engine that is made of `parts`. `pool` tokenizes its prompts.
    pub(crate) fn new(parts: &Parts, limits: AdmissionLimits, pool: Arc<TokenizerPool>) -> Self {
        Self {
            inbox: Arc::clone(&parts.inbox),
            admission: Arc::new(Admission::new(limits)),
            pool,
            clock: Arc::clone(&parts.clock),
            vocabulary: Arc::clone(&parts.vocabulary),
            longest_piece: parts.vocabulary.longest_piece(),
            context_len: parts.context_len,
            stats: Arc::clone(&parts.stats),
        }
    }

    /// Opens a stream. Never waits: the prompt is tokenized and checked on another thread.
    pub(crate) fn submit(
        &self,
        prompt: Prompt,
        config: StreamConfig,
        when_full: WhenFull,
    ) -> Result<TokenStream, MullamaError> {
        let request = Request::new(prompt, config, self.vocabulary.as_ref(), self.context_len)?;
        let refused = request.check_length(self.longest_piece).err();
        let waits = refused.is_none() && !request.is_quick();
        let reservation = if waits { Some(self.pool.reserve(request.prompt_bytes())?) } else { None };
        let identity = Identity {
            id: self.inbox.next_id(),
            seed: request.seed,
            engine: Arc::clone(&self.inbox) as Arc<dyn EngineInbox>,
            ticket: self.admission.enter_or(when_full)?,
        };
        let (sender, stream) = stream::open(identity, request.config.buffer_size);
        let called_at = self.clock.now();
        let arrival = Arrival { sender, config: Arc::clone(&request.config), called_at };
        self.inbox.submit(arrival).map_err(|_| MullamaError::Closed { what: "engine" })?;
        let answer = Answer::new(&self.inbox, stream.handle().id());
        match (refused, reservation) {
            (Some(error), _) => answer.give(Err(error)),
            (None, Some(reservation)) => {
                let interest = self.interest(stream.handle(), request.deadline(called_at));
                self.tokenize(request, interest, reservation, answer);
            }
            (None, None) => {
                let is_wanted: IsWanted = Arc::new(|| true);
                match request.validate(self.vocabulary.as_ref(), &is_wanted).transpose() {
                    Some(validated) => answer.give(validated),
                    None => answer.withhold(),
                }
            }
        }
        Ok(stream)
    }

    fn interest(&self, stream: StreamHandle, deadline: Option<Duration>) -> Interest {
        let (inbox, clock) = (Arc::clone(&self.inbox), Arc::clone(&self.clock));
        Interest { stream, inbox, clock, deadline }
    }

    /// Queues the prompt for a tokenizer thread.
    fn tokenize(&self, request: Request, interest: Interest, reservation: Reservation, answer: Answer) {
        let lane = if request.has_own_template() { Lane::Long } else { Lane::for_prompt(request.prompt_bytes()) };
        let (vocabulary, in_flight) = (Arc::clone(&self.vocabulary), InFlightGuard::begin());
        let job = PromptJob { request, vocabulary, interest, reservation, in_flight, answer };
        self.pool.submit(lane, Box::new(job));
    }

    /// Number of streams that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.admission.unfinished()
    }

    /// Maximum number of tokens of one sequence.
    pub(crate) fn context_len(&self) -> usize {
        self.context_len
    }

    /// Statistics of the engine as of its latest step.
    pub(crate) fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Closes the inbox, so that the engine takes no more requests and ends.
    pub(crate) fn close(&self) {
        self.inbox.close();
    }
}
