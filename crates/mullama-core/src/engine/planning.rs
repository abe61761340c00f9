//! Prepares what the scheduler sees: who is ready, what each may begin with, and who waits for whom.

use std::cmp::Reverse;
use std::time::Duration;

use super::Engine;
use super::backend::Backend;
use super::pace::Pace;
use crate::prefix::{Beginning, LEAST_SHARED, Source};
use crate::scheduler::{Plan, Pool, Prefill};

impl Prefill for Pace {
    fn rows(&self, continuing: usize) -> usize {
        if continuing == 0 { self.alone() } else { self.beside(continuing) }
    }
}

impl<B: Backend> Engine<B> {
    /// Asks every sequence where it stands, and the scheduler what to do about it.
    pub(super) fn plan(&mut self, now: Duration) -> Plan {
        self.candidates.clear();
        self.candidates.extend(self.sequences.iter_mut().map(|sequence| sequence.candidate(now)));
        for at in 0..self.sequences.len() {
            if self.candidates[at].ready && self.sequences[at].prefills() {
                self.look_ahead(at);
            }
        }
        let limits = self.pool.limits();
        let idle: Vec<usize> = self.pool.prefixes().idle_seats().collect();
        let pool = Pool {
            places: self.parts.places,
            seats: limits.seats,
            cells: self.pool.cells(),
            idle: &idle,
            rows: limits.rows,
            prefill: &self.pace,
        };
        self.scheduler.plan(&self.candidates, pool)
    }

    /// What a sequence with a prompt to compute may save by beginning with, or waiting for, what others compute.
    fn look_ahead(&mut self, at: usize) {
        let len = self.sequences[at].tokens().len();
        if self.candidates[at].seat.is_none()
            && let Some(beginning) = self.look_up(at)
        {
            let candidate = &mut self.candidates[at];
            candidate.pending = len - beginning.shared;
            candidate.wants = match beginning.source {
                Source::Seat(_) => candidate.pending,
                Source::Host { tokens, .. } => tokens.max(len),
            };
        }
        if let Some((leader, shared)) = self.leader(at) {
            let candidate = &mut self.candidates[at];
            candidate.follows = Some(leader);
            candidate.wants = candidate.wants.min(len - shared.min(len - 1));
            candidate.pending = candidate.pending.min(candidate.wants);
        }
    }

    /// The longest beginning of a sequence that somebody has computed, looked up again only when that may have changed.
    pub(super) fn look_up(&mut self, at: usize) -> Option<Beginning> {
        let epoch = self.pool.epoch();
        match self.sequences[at].beginning {
            Some((seen, beginning)) if seen == epoch => return beginning,
            _ => {}
        }
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let seated = self.sequences.iter().filter_map(|other| {
            let shared = reuse.shared(other.computed_tokens(), prompt);
            Some(Beginning { source: Source::Seat(other.seat?), shared })
        });
        let seated = seated.filter(|beginning| beginning.shared > 0).max_by_key(|beginning| beginning.shared);
        let shelved = self.pool.prefixes().find(prompt);
        // Among equals the pool's: sharing copies nothing.
        let beginning = shelved.into_iter().chain(seated).max_by_key(|beginning| beginning.shared);
        self.sequences[at].beginning = Some((epoch, beginning));
        beginning
    }

    /// Finds who, among those that came before, is about to compute the most of what a new prompt begins with.
    pub(super) fn find_leader(&mut self, at: usize) {
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let earlier = self.sequences[..at].iter().filter(|other| other.prefills());
        let alike = earlier.map(|other| (other.id(), reuse.shared(other.tokens(), prompt)));
        // Among equals the first: it will be done first.
        let leader = alike.filter(|(_, shared)| *shared >= LEAST_SHARED).min_by_key(|(_, shared)| Reverse(*shared));
        self.sequences[at].leader = leader;
    }

    /// The sequence to wait for and the tokens that it will share, while it has not computed them yet.
    fn leader(&mut self, at: usize) -> Option<(usize, usize)> {
        let (id, shared) = self.sequences[at].leader?;
        let leader = self.find(id).filter(|&leader| {
            let ahead = &self.sequences[leader];
            self.candidates[leader].ready && ahead.prefills() && ahead.computed < shared
        });
        let had = self.sequences[at].beginning.and_then(|(_, found)| found).map_or(0, |found| found.shared);
        let gain = had.max(self.sequences[at].computed) + LEAST_SHARED;
        match leader {
            Some(leader) if self.sequences[at].seat.is_none() && shared >= gain => Some((leader, shared)),
            _ => {
                let sequence = &mut self.sequences[at];
                (sequence.leader, sequence.beginning) = (None, None);
                None
            }
        }
    }
}
