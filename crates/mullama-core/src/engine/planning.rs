//! Prepares what the scheduler sees: who is ready, what each may begin with, and who waits for whom.

use std::cmp::Reverse;
use std::time::Duration;

use super::Engine;
use super::prefill_budget::PrefillBudget;
use crate::engine::scheduler::{Plan, Pool, Prefill};
use crate::kv::backend::Backend;
use crate::kv::prefix_cache::{MIN_MATCH, PrefixMatch, PrefixSource};

impl Prefill for PrefillBudget {
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
        let idle: Vec<usize> = self.pool.prefixes().pool_seq_ids().collect();
        let pool = Pool {
            slots: self.parts.slots,
            n_seq: limits.n_seq,
            cells: self.pool.cells(),
            idle: &idle,
            rows: limits.rows,
            prefill: &self.prefill_budget,
        };
        self.scheduler.plan(&self.candidates, pool)
    }

    /// What a sequence with a prompt to compute may save by beginning with, or waiting for, what others compute.
    fn look_ahead(&mut self, at: usize) {
        let len = self.sequences[at].tokens().len();
        if self.candidates[at].seq_id.is_none()
            && let Some(beginning) = self.look_up(at)
        {
            let candidate = &mut self.candidates[at];
            candidate.pending = len - beginning.shared;
            candidate.wants = match beginning.source {
                PrefixSource::Sequence { .. } => candidate.pending,
                PrefixSource::Host { tokens, .. } => tokens.max(len),
            };
        }
        if let Some((prefix_source, shared)) = self.prefix_source(at) {
            let candidate = &mut self.candidates[at];
            candidate.waits_for = Some(prefix_source);
            candidate.wants = candidate.wants.min(len - shared.min(len - 1));
            candidate.pending = candidate.pending.min(candidate.wants);
        }
    }

    /// The longest beginning of a sequence that somebody has computed, looked up again only when that may have changed.
    pub(super) fn look_up(&mut self, at: usize) -> Option<PrefixMatch> {
        let epoch = self.pool.epoch();
        match self.sequences[at].beginning {
            Some((seen, beginning)) if seen == epoch => return beginning,
            _ => {}
        }
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let held = self.sequences.iter().filter_map(|other| {
            let shared = reuse.shared(other.computed_tokens(), prompt);
            Some(PrefixMatch { source: PrefixSource::Sequence { seq_id: other.seq_id? }, shared })
        });
        let held = held.filter(|beginning| beginning.shared > 0).max_by_key(|beginning| beginning.shared);
        let shelved = self.pool.prefixes().find(prompt);
        // Among equals the pool's: sharing copies nothing.
        let beginning = shelved.into_iter().chain(held).max_by_key(|beginning| beginning.shared);
        self.sequences[at].beginning = Some((epoch, beginning));
        beginning
    }

    /// Finds who, among those that came before, is about to compute the most of what a new prompt begins with.
    pub(super) fn find_prefix_source(&mut self, at: usize) {
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let earlier = self.sequences[..at].iter().filter(|other| other.prefills());
        let alike = earlier.map(|other| (other.id(), reuse.shared(other.tokens(), prompt)));
        // Among equals the first: it will be done first.
        let prefix_source = alike.filter(|(_, shared)| *shared >= MIN_MATCH).min_by_key(|(_, shared)| Reverse(*shared));
        self.sequences[at].prefix_source = prefix_source;
    }

    /// The sequence to wait for and the tokens that it will share, while it has not computed them yet.
    fn prefix_source(&mut self, at: usize) -> Option<(usize, usize)> {
        let (id, shared) = self.sequences[at].prefix_source?;
        let prefix_source = self.find(id).filter(|&prefix_source| {
            let ahead = &self.sequences[prefix_source];
            self.candidates[prefix_source].ready && ahead.prefills() && ahead.computed < shared
        });
        let had = self.sequences[at].beginning.and_then(|(_, found)| found).map_or(0, |found| found.shared);
        let gain = had.max(self.sequences[at].computed) + MIN_MATCH;
        match prefix_source {
            Some(prefix_source) if self.sequences[at].seq_id.is_none() && shared >= gain => {
                Some((prefix_source, shared))
            }
            _ => {
                let sequence = &mut self.sequences[at];
                (sequence.prefix_source, sequence.beginning) = (None, None);
                None
            }
        }
    }
}
