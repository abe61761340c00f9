//! Prepares the scheduler's input: which sequences are ready, which computed prefixes their prompts can share, and
//! which prompt waits for another sequence to compute a shared prefix.

use std::cmp::Reverse;
use std::time::Duration;

use super::Engine;
use super::prefill_budget::PrefillBudget;
use crate::engine::prefix_search::PendingPrefix;
use crate::engine::scheduler::{Plan, Pool, Prefill};
use crate::kv::backend::Backend;
use crate::kv::prefix_cache::{MIN_MATCH, PrefixMatch, PrefixSource};

impl Prefill for PrefillBudget {
    fn rows(&self, continuing: usize) -> usize {
        if continuing == 0 { self.alone() } else { self.beside(continuing) }
    }
}

impl<B: Backend> Engine<B> {
    /// Collects the state of every sequence and asks the scheduler for a plan.
    pub(super) fn plan(&mut self, now: Duration) -> Plan {
        self.candidates.clear();
        self.candidates.extend(self.sequences.iter_mut().map(|sequence| sequence.candidate(now)));
        for at in 0..self.sequences.len() {
            if self.candidates[at].ready && self.sequences[at].prefills() {
                self.look_ahead(at);
            }
        }
        let limits = self.pool.limits();
        let cached: Vec<usize> = self.pool.prefixes().pool_seq_ids().collect();
        let pool = Pool {
            slots: self.parts.slots,
            n_seq: limits.n_seq,
            cells: self.pool.cells(),
            cached: &cached,
            rows: limits.rows,
            prefill: &self.prefill_budget,
        };
        self.scheduler.plan(&self.candidates, pool)
    }

    /// Accounts for what a sequence in prefill saves by sharing a computed prefix, or by waiting for one.
    fn look_ahead(&mut self, at: usize) {
        let len = self.sequences[at].tokens().len();
        if self.candidates[at].seq_id.is_none()
            && let Some(prefix) = self.look_up(at)
        {
            let candidate = &mut self.candidates[at];
            candidate.pending = len - prefix.shared;
            candidate.wants = match prefix.source {
                PrefixSource::Sequence { .. } => candidate.pending,
                PrefixSource::Host { tokens, .. } => tokens.max(len),
            };
        }
        if let Some((source, shared)) = self.pending_prefix(at) {
            let candidate = &mut self.candidates[at];
            candidate.waits_for = Some(source);
            candidate.wants = candidate.wants.min(len - shared.min(len - 1));
            candidate.pending = candidate.pending.min(candidate.wants);
        }
    }

    /// The longest computed prefix of a sequence's prompt; searched again only when the available prefixes may have
    /// changed.
    pub(super) fn look_up(&mut self, at: usize) -> Option<PrefixMatch> {
        let epoch = self.pool.epoch();
        if let Some(known) = self.sequences[at].prefix_search().looked_up(epoch) {
            return known.found;
        }
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let of_sequences = self.sequences.iter().filter_map(|other| {
            let source = PrefixSource::Sequence { seq_id: other.seq_id()? };
            Some(PrefixMatch { source, shared: reuse.shared(other.computed_tokens(), prompt) })
        });
        let longest = of_sequences.filter(|prefix| prefix.shared > 0).max_by_key(|prefix| prefix.shared);
        let cached = self.pool.prefixes().find(prompt);
        // Among equally long ones a sequence's is preferred: sharing it copies nothing.
        let found = cached.into_iter().chain(longest).max_by_key(|prefix| prefix.shared);
        self.sequences[at].prefix_search().remember(epoch, found);
        found
    }

    /// Finds which earlier sequence is about to compute the longest prefix of a new prompt.
    pub(super) fn find_prefix_source(&mut self, at: usize) {
        if self.sequences[at].is_deterministic() {
            return;
        }
        let prompt = self.sequences[at].tokens();
        let reuse = self.pool.prefixes().reuse();
        let earlier = self.sequences[..at].iter().filter(|other| other.prefills() && !other.is_deterministic());
        let alike =
            earlier.map(|other| PendingPrefix { stream: other.id(), shared: reuse.shared(other.tokens(), prompt) });
        // Among equally long ones the first is taken: it will be computed first.
        let pending = alike.filter(|prefix| prefix.shared >= MIN_MATCH).min_by_key(|prefix| Reverse(prefix.shared));
        self.sequences[at].prefix_search().wait_for(pending);
    }

    /// The sequence to wait for and the number of tokens to share, as long as they are not computed yet.
    fn pending_prefix(&mut self, at: usize) -> Option<(usize, usize)> {
        let PendingPrefix { stream, shared } = self.sequences[at].prefix_search().pending()?;
        let source = self.find(stream).filter(|&source| {
            let ahead = &self.sequences[source];
            self.candidates[source].ready && ahead.prefills() && ahead.computed() < shared
        });
        let sequence = &mut self.sequences[at];
        let gain = sequence.computed().max(sequence.prefix_search().tokens_found()) + MIN_MATCH;
        if let Some(source) = source.filter(|_| sequence.seq_id().is_none() && shared >= gain) {
            return Some((source, shared));
        }
        sequence.prefix_search().wait_for(None);
        None
    }
}
