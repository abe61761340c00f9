//! The requests of one socket, polled in turn, so that none of them waits for another's credits or slot.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::answers::{self, Id};
use super::credit_waits::CreditWait;
use super::credits::Credits;
use super::request::{self, Generate, Refusal};
use crate::error::ApiError;
use crate::generation::{Ending, Event, Progress, Streams};
use crate::logging::{Access, Outcome};
use crate::state::State;

/// Most requests of one socket that are unfinished.
const MOST_REQUESTS: usize = 64;
/// A turn has no further event once this many bytes wait for the socket.
const PIECE_BYTES: usize = 2048;

type Opening = Pin<Box<dyn Future<Output = Result<Streams, ApiError>> + Send>>;

/// The requests of one socket that have not ended.
pub(super) struct Requests {
    state: State,
    entries: Vec<Entry>,
    /// The entry whose turn is next.
    next: usize,
    /// Whether a request came without an id.
    has_anonymous: bool,
}

struct Entry {
    id: Id,
    credits: Credits,
    phase: Phase,
    is_text: bool,
    progress: Progress,
    line: Line,
}

/// The line of a request in the log, which is written when it is dropped.
struct Line {
    access: Access,
    started: Instant,
    outcome: Outcome,
}

enum Phase {
    Waiting(Box<Generate>),
    Opening(Opening),
    Running(Box<Running>),
    /// It ended while the socket took nothing; this is to be written.
    Ended(Result<Ending, ApiError>),
}

struct Running {
    streams: Streams,
    /// A token that was read before its credit came, so that the end of an answer is seen without a credit.
    early: Option<(Event, CreditWait)>,
}

/// What became of an entry's turn.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    /// It waits for the engine, the client or another request.
    Pending,
    Moved,
    Ended,
}

impl Requests {
    pub(super) fn new(state: State) -> Self {
        Self { state, entries: Vec::new(), next: 0, has_anonymous: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request. Those without an id are answered one after the other, as their frames could not be told apart.
    pub(super) fn add(&mut self, request: Box<Generate>) -> Result<(), Box<Refusal>> {
        let id = request.id.clone();
        if self.entries.len() >= MOST_REQUESTS {
            let message = format!("this connection has {MOST_REQUESTS} unfinished requests, which is the maximum");
            return Err(Refusal::of(id, ApiError::overloaded(message, 1)));
        }
        if id.is_some() && self.entries.iter().any(|entry| entry.id == id) {
            let error = ApiError::field("id", "is already in use by a running request");
            return Err(Refusal::beside(id, error));
        }
        self.has_anonymous |= id.is_none();
        let (credits, is_text) = (request.credits, request.is_text());
        let phase = Phase::Waiting(request);
        self.entries.push(Entry { id, credits, phase, is_text, progress: Progress::default(), line: Line::new() });
        Ok(())
    }

    /// Ends a request, whose slot is free within one step.
    pub(super) fn cancel(&mut self, id: &Id, out: &mut Vec<u8>) -> Result<(), Box<Refusal>> {
        // A request that has ended meanwhile has its own end.
        let Some(index) = self.meant(id)? else { return Ok(()) };
        let mut entry = self.entries.remove(index);
        entry.line.note(&entry.progress);
        answers::cancelled(&entry.id, &entry.progress, out);
        Ok(())
    }

    /// Adds credits to a request.
    pub(super) fn grant(&mut self, id: &Id, tokens: u64) -> Result<(), Box<Refusal>> {
        // Grants may cross the end of their request.
        let Some(index) = self.meant(id)? else { return Ok(()) };
        if self.entries[index].credits.grant(tokens) {
            return Ok(());
        }
        let error = ApiError::invalid("this request does not use credits; send it with \"flow\": \"credits\"");
        let id = self.entries[index].id.clone();
        Err(Refusal::beside(id, ApiError { field: Some("tokens".to_owned()), ..error }))
    }

    /// Ends all requests of a client that has left, except texts whose answers it may still print.
    pub(super) fn keep_texts(&mut self) {
        self.entries.retain(|entry| entry.is_text);
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The request that a message is about. Without an id it is the first of those without, which may have ended
    /// meanwhile. Where all have ids, it is the only one.
    fn meant(&self, id: &Id) -> Result<Option<usize>, Box<Refusal>> {
        match (self.find(id), id, self.entries.len()) {
            (None, None, 1) if !self.has_anonymous => Ok(Some(0)),
            (None, None, 2..) if !self.has_anonymous => {
                let message = format!("is missing, and {} requests are unfinished", self.entries.len());
                Err(Refusal::beside(None, ApiError::field("id", message)))
            }
            (found, ..) => Ok(found),
        }
    }

    fn find(&self, id: &Id) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id == *id)
    }

    /// Gives each request its turn, and writes what comes of it; false if all of them wait.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> bool {
        let (mut has_moved, mut waiting) = (false, 0);
        while waiting < self.entries.len() && out.len() < PIECE_BYTES {
            let index = self.next % self.entries.len();
            self.next = index + 1;
            match self.turn(index, cx, out) {
                Turn::Pending => waiting += 1,
                Turn::Moved => (has_moved, waiting) = (true, 0),
                Turn::Ended => {
                    self.entries.remove(index);
                    self.next = index;
                    (has_moved, waiting) = (true, 0);
                }
            }
        }
        has_moved
    }

    /// Goes on with what writes nothing, while the socket takes nothing: requests for models keep their order and their
    /// limits, and waits for credits end in time.
    pub(super) fn poll_unwritten(&mut self, cx: &mut Context<'_>) {
        for entry in &mut self.entries {
            let ended = match &mut entry.phase {
                Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => continue,
                    Poll::Ready(Ok(streams)) => {
                        entry.phase = Phase::Running(Box::new(Running { streams, early: None }));
                        continue;
                    }
                    Poll::Ready(Err(error)) => Err(error),
                },
                Phase::Running(running) if !entry.credits.has_one() => match running.poll_wait(cx) {
                    Poll::Pending => continue,
                    Poll::Ready(ended) => ended,
                },
                Phase::Waiting(_) | Phase::Running(_) | Phase::Ended(_) => continue,
            };
            entry.phase = Phase::Ended(ended);
        }
    }

    fn turn(&mut self, index: usize, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let may_start = self.entries[index].id.is_some() || self.find(&None) == Some(index);
        let entry = &mut self.entries[index];
        match &mut entry.phase {
            Phase::Waiting(_) if !may_start => Turn::Pending,
            Phase::Waiting(_) => {
                let opening: Opening = Box::pin(std::future::pending());
                if let Phase::Waiting(request) = std::mem::replace(&mut entry.phase, Phase::Opening(opening)) {
                    entry.phase = Phase::Opening(Box::pin(request::open(self.state.clone(), request)));
                }
                Turn::Moved
            }
            Phase::Opening(opening) => match opening.as_mut().poll(cx) {
                Poll::Pending => Turn::Pending,
                Poll::Ready(Ok(streams)) => {
                    entry.phase = Phase::Running(Box::new(Running { streams, early: None }));
                    Turn::Moved
                }
                Poll::Ready(Err(error)) => {
                    entry.line.end(&entry.id, &Err(error), out);
                    Turn::Ended
                }
            },
            Phase::Running(_) => entry.run(&self.state, cx, out),
            Phase::Ended(ended) => {
                entry.line.end(&entry.id, ended, out);
                Turn::Ended
            }
        }
    }
}

impl Line {
    fn new() -> Self {
        let access = Access { method: "WS", path: "/ws".to_owned(), status: 200, request_id: None };
        let outcome = Outcome { took: Duration::ZERO, tokens: 0, has_ended: false, error: None };
        Self { access, started: Instant::now(), outcome }
    }

    /// Writes the last frame of an answer.
    fn end(&mut self, id: &Id, ended: &Result<Ending, ApiError>, out: &mut Vec<u8>) {
        match ended {
            Ok(ending) => self.note(&ending.progress),
            Err(error) => {
                self.access.status = error.status.as_u16();
                self.outcome = Outcome { has_ended: true, error: Some(error.code), ..self.outcome };
            }
        }
        answers::ended(id, ended, out);
    }

    fn note(&mut self, progress: &Progress) {
        self.outcome = Outcome { tokens: progress.usage.completion_tokens as u64, has_ended: true, ..self.outcome };
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.access.log(Outcome { took: self.started.elapsed(), ..self.outcome });
    }
}

impl Running {
    /// The end of a stream whose token waits for a credit: it was cut short, or the wait has taken too long.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ending, ApiError>> {
        let Some((_, wait)) = &mut self.early else { return Poll::Pending };
        match (self.streams.poll_cut_short(cx), wait.poll_over(cx)) {
            (Poll::Ready(Event::End { ending, .. }), _) => Poll::Ready(Ok(ending)),
            (Poll::Ready(Event::Failed { error }), _) => Poll::Ready(Err(self.streams.model().refused(error))),
            (_, Poll::Ready(error)) => Poll::Ready(Err(error)),
            // A stream that was cut short has no further tokens.
            (Poll::Pending | Poll::Ready(Event::Token { .. }), Poll::Pending) => Poll::Pending,
        }
    }
}

impl Entry {
    /// Writes the next event of a stream that is open, as far as its credits allow.
    fn run(&mut self, state: &State, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Turn {
        let Phase::Running(running) = &mut self.phase else { return Turn::Pending };
        if running.early.is_some() && !self.credits.has_one() {
            let Poll::Ready(ended) = running.poll_wait(cx) else { return Turn::Pending };
            self.line.end(&self.id, &ended, out);
            return Turn::Ended;
        }
        let Running { streams, early } = &mut **running;
        let event = match early.take().map(|(event, _)| event) {
            Some(event) => event,
            None => match streams.poll_event(cx) {
                Poll::Pending => return Turn::Pending,
                Poll::Ready(None) => return Turn::Ended,
                Poll::Ready(Some(event)) => event,
            },
        };
        match event {
            Event::Token { .. } if !self.credits.has_one() => {
                *early = Some((event, state.credit_waits().begin(state.config().write_timeout)));
                Turn::Moved
            }
            Event::Token { token, progress, .. } => {
                self.credits.spend();
                self.progress = progress;
                self.line.outcome.tokens = progress.usage.completion_tokens as u64;
                answers::token(&self.id, &token, out);
                Turn::Moved
            }
            Event::End { ending, .. } => {
                self.line.end(&self.id, &Ok(ending), out);
                Turn::Ended
            }
            Event::Failed { error } => {
                self.line.end(&self.id, &Err(streams.model().refused(error)), out);
                Turn::Ended
            }
        }
    }
}
