//! Counts the unfinished streams of an engine against two limits: one for those that run or wait for their first slot,
//! and one for all, most of which may be paused.
//!
//! A paused stream does not wait for the engine, so it must not keep others out: it does not count against the limit of
//! the queue. What the engine keeps for it is host memory (its tokens, the unread ones among them, and its sampler
//! chain), because others take its KV cells as soon as they need them. So the second limit bounds memory, and is larger.
//! It counts all streams, because each of them may be paused later. A paused stream that continues is counted as running
//! whatever the first limit says: it was accepted before.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use super::shared::Shared;
use crate::error::MullamaError;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// How many streams of an engine may be unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    /// Streams that run or wait for their first slot: `n_parallel + max_queue`.
    pub(crate) active: u32,
    /// All streams, so that no more of them are ever paused: `max_paused`. A smaller number than `active` is raised to
    /// that.
    pub(crate) paused: u32,
}

impl AdmissionLimits {
    fn unfinished(self) -> u32 {
        self.paused.max(self.active)
    }
}

/// What happens to a new stream while too many are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It is refused.
    Refuse,
    /// The stream that has been paused longest ends, and the new one is accepted.
    Displace,
}

/// How many streams are unfinished, and how many may be.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Both numbers in one word, so that a stream that changes from one to the other is counted exactly once.
    counts: AtomicU64,
    limits: AdmissionLimits,
    /// Locked after the state of a stream, never before it.
    paused: Mutex<Paused>,
}

/// The paused streams, the longest paused first.
#[derive(Debug, Default)]
struct Paused {
    next: u64,
    streams: BTreeMap<u64, Weak<Shared>>,
}

/// One stream in the lower half of the word, whose upper half counts the paused ones.
const ACTIVE: u64 = 1;
const PAUSED: u64 = 1 << 32;

fn active(counts: u64) -> u32 {
    u32::try_from(counts % PAUSED).unwrap_or(u32::MAX)
}

fn paused(counts: u64) -> u32 {
    u32::try_from(counts / PAUSED).unwrap_or(u32::MAX)
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        Self { counts: AtomicU64::new(0), limits, paused: Mutex::default() }
    }

    fn paused(&self) -> MutexGuard<'_, Paused> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unfinished(&self) -> usize {
        let counts = self.counts.load(Ordering::Acquire);
        active(counts) as usize + paused(counts) as usize
    }

    /// Counts one more stream until the ticket is dropped.
    ///
    /// # Errors
    /// [`MullamaError::Overloaded`] or [`MullamaError::PausedOverloaded`] if a limit is reached.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<AdmissionTicket, MullamaError> {
        let limits = self.limits;
        let one_more = |counts| {
            let fits = active(counts) < limits.active && active(counts) + paused(counts) < limits.unfinished();
            fits.then_some(counts + ACTIVE)
        };
        match self.counts.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(AdmissionTicket { admission: Arc::clone(self), paused: None }),
            Err(counts) if active(counts) >= limits.active => {
                Err(MullamaError::Overloaded { unfinished: active(counts) as usize, limit: limits.active as usize })
            }
            Err(counts) => Err(MullamaError::PausedOverloaded {
                paused: paused(counts) as usize,
                active: active(counts) as usize,
                limit: limits.unfinished() as usize,
            }),
        }
    }

    /// As [`enter`](Self::enter), and where too many streams are paused, `when_full` decides.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(crate) fn enter_or(self: &Arc<Self>, when_full: WhenFull) -> Result<AdmissionTicket, MullamaError> {
        loop {
            let entered = self.enter();
            let is_full = matches!(entered, Err(MullamaError::PausedOverloaded { .. }));
            if !is_full || when_full == WhenFull::Refuse {
                return entered;
            }
            // The lock is released before the stream's own lock is taken.
            let longest = self.paused().streams.pop_first();
            let Some((_, longest)) = longest else { return entered };
            if let Some(stream) = longest.upgrade() {
                stream.displace(MullamaError::Displaced { limit: self.limits.unfinished() as usize });
            }
        }
    }
}

/// One counted stream; dropping it reduces the count.
#[derive(Debug)]
pub(crate) struct AdmissionTicket {
    admission: Arc<Admission>,
    /// The number of the stream among the paused ones, if it counts as paused.
    paused: Option<u64>,
}

impl AdmissionTicket {
    /// Counts the stream as paused from now on.
    pub(super) fn pause(&mut self, stream: Weak<Shared>) {
        if self.paused.is_some() {
            return;
        }
        let mut paused = self.admission.paused();
        let number = paused.next;
        paused.next += 1;
        paused.streams.insert(number, stream);
        drop(paused);
        self.paused = Some(number);
        // Neither half can overflow: the word as a whole changes by the difference.
        self.admission.counts.fetch_add(PAUSED - ACTIVE, Ordering::AcqRel);
    }

    /// Counts the stream as one that runs.
    pub(super) fn resume(&mut self) {
        if let Some(number) = self.paused.take() {
            self.admission.paused().streams.remove(&number);
            self.admission.counts.fetch_sub(PAUSED - ACTIVE, Ordering::AcqRel);
        }
    }
}

impl Drop for AdmissionTicket {
    fn drop(&mut self) {
        self.resume();
        self.admission.counts.fetch_sub(ACTIVE, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(active: u32, paused: u32) -> Arc<Admission> {
        Arc::new(Admission::new(AdmissionLimits { active, paused }))
    }

    fn paused(admission: &Arc<Admission>) -> AdmissionTicket {
        let mut ticket = admission.enter().expect("it is accepted");
        ticket.pause(Weak::new());
        ticket.pause(Weak::new());
        ticket
    }

    #[test]
    fn paused_streams_leave_the_queue_to_others_up_to_a_limit_for_all() {
        let admission = admission(2, 4);
        let mut stalled: Vec<_> = (0..4).map(|_| paused(&admission)).collect();
        let refused = admission.enter().expect_err("four are paused");
        assert!(matches!(refused, MullamaError::PausedOverloaded { paused: 4, active: 0, limit: 4 }), "{refused}");
        stalled.truncate(2);
        let queued = [admission.enter(), admission.enter()].map(Result::unwrap);
        let refused = admission.enter().expect_err("two are active");
        assert!(matches!(refused, MullamaError::Overloaded { unfinished: 2, limit: 2 }), "{refused}");
        assert_eq!(admission.unfinished(), 4);
        drop((stalled, queued));
        assert_eq!((admission.unfinished(), admission.paused().streams.len()), (0, 0));
    }

    #[test]
    fn no_more_streams_are_ever_paused_than_the_limit_says_even_if_all_are() {
        for (active, limit, most) in [(3, 5, 5), (1, 1, 1), (3, 1, 3), (72, 1024, 1024)] {
            let admission = admission(active, limit);
            let mut accepted: Vec<AdmissionTicket> = Vec::new();
            let pause = |tickets: &mut [AdmissionTicket]| {
                for ticket in tickets {
                    ticket.pause(Weak::new());
                }
            };
            // The queue is full before the first of them is paused, again and again.
            while let Ok(ticket) = admission.enter() {
                accepted.push(ticket);
                if admission.unfinished().is_multiple_of(active as usize) {
                    pause(&mut accepted);
                }
            }
            pause(&mut accepted);
            assert_eq!(admission.paused().streams.len(), most, "{active} active, limit {limit}");
        }
    }

    #[test]
    fn a_paused_stream_may_always_continue() {
        let admission = admission(1, 1);
        let mut first = paused(&admission);
        drop(admission.enter().expect_err("one is paused"));
        first.resume();
        drop(admission.enter().expect_err("one runs"));
        first.pause(Weak::new());
        drop(first);
        assert_eq!(admission.unfinished(), 0);
    }
}
