//! Where requests are taken: checked, counted, and sent to the engine.

use std::sync::{Arc, Mutex, PoisonError};

use super::Parts;
use super::arrivals::{Arrival, prepare};
use super::inbox::Inbox;
use crate::clock::Clock;
use crate::config::StreamConfig;
use crate::error::{MullamaError, StreamFailure};
use crate::in_flight::InFlightGuard;
use crate::request::Prompt;
use crate::stats::Stats;
use crate::stream::admission::{Admission, AdmissionTicket};
use crate::stream::{self, EngineInbox, Identity, StreamHandle, TokenStream};
use crate::text::vocabulary::Vocabulary;

/// Prompts that may still be tokenized for streams that are gone, before a new one is refused.
const ABANDONED_PROMPTS: usize = 64;

/// The callers' side of an engine.
#[derive(Debug)]
pub(crate) struct EngineClient {
    inbox: Arc<Inbox>,
    admission: Arc<Admission>,
    /// Prompts on threads of their own. Who leaves gives its place in `admission` back at once, but a tokenizer goes on.
    tokenizing: Arc<Admission>,
    clock: Arc<dyn Clock>,
    vocabulary: Arc<dyn Vocabulary>,
    context_len: usize,
    stats: Arc<Mutex<Stats>>,
}

impl EngineClient {
    /// The desk of the engine that is made of `parts`.
    pub(crate) fn new(parts: &Parts, max_unfinished: usize) -> Self {
        Self {
            inbox: Arc::clone(&parts.inbox),
            admission: Arc::new(Admission::new(max_unfinished)),
            tokenizing: Arc::new(Admission::new(max_unfinished + ABANDONED_PROMPTS)),
            clock: Arc::clone(&parts.clock),
            vocabulary: Arc::clone(&parts.vocabulary),
            context_len: parts.context_len,
            stats: Arc::clone(&parts.stats),
        }
    }

    /// Opens a stream. Never waits: the prompt is tokenized and checked on a thread of its own.
    pub(crate) fn submit(&self, prompt: Prompt, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        config.validate()?;
        config.validate_tokens(self.vocabulary.n_tokens())?;
        let seed = config.seed.unwrap_or_else(any_seed);
        // DRY looks through the whole vocabulary for its sequence breakers.
        let quick = matches!(prompt, Prompt::Tokens(_) | Prompt::Refused(_)) && config.dry_multiplier <= 0.0;
        let ticket = if quick { None } else { Some(self.tokenizing.enter()?) };
        let identity = Identity {
            id: self.inbox.next_id(),
            seed,
            engine: Arc::clone(&self.inbox) as Arc<dyn EngineInbox>,
            ticket: self.admission.enter()?,
        };
        let (sender, stream) = stream::open(identity, config.buffer_size);
        let config = Arc::new(config);
        let arrival = Arrival { sender, config: Arc::clone(&config), called_at: self.clock.now() };
        self.inbox.submit(arrival).map_err(|_| MullamaError::Closed { what: "engine" })?;
        self.prepare(stream.handle(), prompt, config, ticket);
        Ok(stream)
    }

    /// Has the prompt turned into tokens, and word sent to the engine: on a thread of its own if that is `ticket`.
    fn prepare(
        &self,
        stream: StreamHandle,
        prompt: Prompt,
        config: Arc<StreamConfig>,
        ticket: Option<AdmissionTicket>,
    ) {
        let (id, seed, context_len) = (stream.id(), stream.seed(), self.context_len);
        let (inbox, vocabulary) = (Arc::clone(&self.inbox), Arc::clone(&self.vocabulary));
        let quick = ticket.is_none();
        let working = (!quick).then(InFlightGuard::begin);
        let work = move || {
            let _working = working;
            if stream.is_leaving() {
                return;
            }
            let prepared = prepare(prompt, &config, seed, context_len, vocabulary.as_ref());
            // Before the stream can end, so that whoever calls after its end finds the place.
            drop(ticket);
            inbox.prepared(id, prepared);
        };
        if quick {
            return work();
        }
        if let Err(error) = mullama_ffi::spawn_tokenizer_thread("mullama-prompt", work) {
            let refused = MullamaError::StreamingError(StreamFailure::Thread(Arc::new(error)));
            self.inbox.prepared(id, Err(refused));
        }
    }

    /// Streams that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.admission.unfinished()
    }

    /// Most tokens of one sequence.
    pub(crate) fn context_len(&self) -> usize {
        self.context_len
    }

    /// What the engine did up to its newest step.
    pub(crate) fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inbox.is_closed()
    }

    /// Takes no more requests, and has the engine end.
    pub(crate) fn close(&self) {
        self.inbox.close();
    }
}

/// A seed that nobody chose. `u32::MAX` is left out: llama.cpp reads it as "pick any".
fn any_seed() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    let bits = RandomState::new().hash_one(std::thread::current().id());
    u32::try_from(bits % u64::from(u32::MAX)).expect("a remainder of a division by u32::MAX")
}
