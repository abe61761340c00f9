//! Remembers computed prefixes, so that no prompt computes them again.
//!
//! A cached prefix is left behind by a finished or preempted sequence. Its KV stays in the pool until other sequences
//! need the cells. A copy of it, or of its first tokens, may be in host memory, in parts that were written one after
//! another. A prefix that leaves the pool is reduced to its copy. The index is a plain scan, token by token: the pool
//! has at most as many prefixes as seq_ids, and different prefixes usually differ early.

use std::ops::Range;

use mullama_ffi::TokenId;

use crate::kv::costs::float;

/// Minimum number of shared tokens: fewer are computed faster than they are managed.
pub(crate) const MIN_MATCH: usize = 4;

/// A copy in host memory of the KV of some tokens, starting where the previous part ends.
#[derive(Debug)]
struct Part {
    end: usize,
    state: Vec<u8>,
}

/// Computed tokens whose KV is in the pool, in host memory or in both.
#[derive(Debug)]
struct CachedPrefix {
    name: u64,
    tokens: Vec<TokenId>,
    /// The seq_id whose cells hold all the tokens.
    seq_id: Option<usize>,
    /// The copy, starting at the first token. Outside the pool it covers all tokens.
    copy: Vec<Part>,
    /// The cost of its idle cells since its last use, in seconds.
    idle_cost: f64,
    /// Whether host memory had no space for more of the copy.
    refused: bool,
}

/// Where the KV of a prefix can be taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefixSource {
    /// The cells of this seq_id.
    Sequence { seq_id: usize },
    /// The copy of this name in host memory, of which this many tokens are restored.
    Host { name: u64, tokens: usize },
}

/// Computed tokens at the start of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrefixMatch {
    pub(crate) source: PrefixSource,
    /// Number of tokens that the prompt does not need to compute.
    pub(crate) shared: usize,
}

/// Which parts of a sequence's KV another sequence can take over.
#[cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Any number of its first tokens.
    Parts,
    /// Only all of it: a recurrent state is the state after the last token.
    Whole,
    /// Nothing: the KV depends on more than the tokens.
    Nothing,
}

/// All prefixes that no unfinished sequence holds.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    /// The least recently used first.
    prefixes: Vec<CachedPrefix>,
    host_bytes: usize,
    /// Maximum bytes of host memory.
    limit: usize,
    reuse: Reuse,
    next_name: u64,
}

/// The length of the common prefix of two sequences.
pub(crate) fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Reuse {
    /// How many tokens of `computed` a prompt can reuse: at most all but its last one, whose logits are needed.
    pub(crate) fn shared(self, computed: &[TokenId], prompt: &[TokenId]) -> usize {
        let shared = common(computed, prompt).min(prompt.len().saturating_sub(1));
        let serves = shared >= MIN_MATCH
            && match self {
                Self::Parts => true,
                Self::Whole => shared == computed.len(),
                Self::Nothing => false,
            };
        if serves { shared } else { 0 }
    }
}

impl CachedPrefix {
    /// Number of its tokens that have a copy in host memory.
    fn copied(&self) -> usize {
        self.copy.last().map_or(0, |part| part.end)
    }

    fn source(&self, shared: usize) -> PrefixSource {
        if let Some(seq_id) = self.seq_id {
            PrefixSource::Sequence { seq_id }
        } else {
            let tokens = self.copy.iter().map(|part| part.end).find(|&end| end >= shared);
            PrefixSource::Host { name: self.name, tokens: tokens.unwrap_or(shared) }
        }
    }
}

impl PrefixCache {
    pub(crate) fn new(limit: usize, reuse: Reuse) -> Self {
        Self { prefixes: Vec::new(), host_bytes: 0, limit, reuse, next_name: 0 }
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// The seq_ids of the prefixes in the pool, the least recently used first.
    pub(crate) fn pool_seq_ids(&self) -> impl Iterator<Item = usize> {
        self.prefixes.iter().filter_map(|prefix| prefix.seq_id)
    }

    /// Number of cells that prefixes in the pool hold; a cell that two of them share counts twice.
    pub(crate) fn pool_cells(&self) -> usize {
        self.prefixes.iter().filter(|prefix| prefix.seq_id.is_some()).map(|prefix| prefix.tokens.len()).sum()
    }

    /// Bytes of host memory in use.
    pub(crate) fn host_bytes(&self) -> usize {
        self.host_bytes
    }

    /// The longest cached prefix of a prompt; among equally long ones the pool's, which is shared without a copy.
    pub(crate) fn find(&self, prompt: &[TokenId]) -> Option<PrefixMatch> {
        let found = |prefix: &CachedPrefix| {
            let shared = self.reuse.shared(&prefix.tokens, prompt);
            PrefixMatch { source: prefix.source(shared), shared }
        };
        let longest = |found: &PrefixMatch| (found.shared, matches!(found.source, PrefixSource::Sequence { .. }));
        self.prefixes.iter().map(found).filter(|found| found.shared > 0).max_by_key(longest)
    }

    /// Whether all of these tokens are cached already.
    fn covers(&self, tokens: &[TokenId]) -> bool {
        let whole = |other: &CachedPrefix| {
            other.tokens.starts_with(tokens) && (self.reuse == Reuse::Parts || other.tokens.len() == tokens.len())
        };
        self.prefixes.iter().any(|prefix| prefix.seq_id.is_some() && whole(prefix))
    }

    /// Whether the cells of a sequence that ends are worth keeping.
    pub(crate) fn is_worth_keeping(&self, tokens: &[TokenId]) -> bool {
        tokens.len() >= MIN_MATCH && self.reuse != Reuse::Nothing && !self.covers(tokens)
    }

    /// Keeps the cells of a sequence that has ended, along with copies of its tokens. Returns the seq_ids of
    /// shorter prefixes that it makes redundant.
    pub(crate) fn insert(&mut self, seq_id: usize, tokens: Vec<TokenId>) -> Vec<usize> {
        let needless = |prefix: &CachedPrefix| match self.reuse {
            Reuse::Parts => tokens.starts_with(&prefix.tokens),
            Reuse::Whole | Reuse::Nothing => tokens == prefix.tokens,
        };
        let replaced: Vec<CachedPrefix> = self.prefixes.extract_if(.., |prefix| needless(prefix)).collect();
        let seq_ids = replaced.iter().filter_map(|prefix| prefix.seq_id).collect();
        let copy = replaced.into_iter().max_by_key(CachedPrefix::copied).map_or(Vec::new(), |prefix| prefix.copy);
        self.next_name += 1;
        let name = self.next_name;
        let seq_id = Some(seq_id);
        self.prefixes.push(CachedPrefix { name, tokens, seq_id, copy, idle_cost: 0.0, refused: false });
        self.count_host_bytes();
        seq_ids
    }

    /// Recounts the bytes after copies were removed, which may allow copies that were refused.
    fn count_host_bytes(&mut self) {
        let bytes = self.prefixes.iter().flat_map(|prefix| &prefix.copy).map(|part| part.state.len()).sum();
        if bytes < std::mem::replace(&mut self.host_bytes, bytes) {
            self.prefixes.iter_mut().for_each(|prefix| prefix.refused = false);
        }
    }

    /// Records that a prefix was used: it becomes the most recently used one, and its accumulated cost is cleared.
    pub(crate) fn used(&mut self, source: PrefixSource) {
        let is_source = |prefix: &CachedPrefix| match source {
            PrefixSource::Sequence { seq_id } => prefix.seq_id == Some(seq_id),
            PrefixSource::Host { name, .. } => prefix.name == name,
        };
        if let Some(at) = self.prefixes.iter().position(is_source) {
            let mut prefix = self.prefixes.remove(at);
            prefix.idle_cost = 0.0;
            self.prefixes.push(prefix);
        }
    }

    /// Charges every idle prefix in the pool this much for each of its cells.
    pub(crate) fn charge(&mut self, cell: f64) {
        for prefix in self.prefixes.iter_mut().filter(|prefix| prefix.seq_id.is_some()) {
            prefix.idle_cost += cell * float(prefix.tokens.len());
        }
    }

    /// The least recently used prefix in the pool for which `is_dear` holds, given its seq_id, its number of tokens and
    /// the cost of its idle cells; only prefixes that host memory can take are considered.
    pub(crate) fn costly(&self, is_dear: impl Fn(usize, usize, f64) -> bool) -> Option<usize> {
        let candidates = self.prefixes.iter().filter(|prefix| self.limit > 0 && !prefix.refused);
        candidates
            .filter_map(|prefix| Some((prefix.seq_id?, prefix)))
            .find_map(|(seq_id, prefix)| is_dear(seq_id, prefix.tokens.len(), prefix.idle_cost).then_some(seq_id))
    }

    /// The least recently used prefix in the pool of which more can be copied.
    pub(crate) fn next_to_copy(&self) -> Option<usize> {
        let copyable = |prefix: &&CachedPrefix| prefix.seq_id.is_some() && !prefix.refused && !self.is_safe(prefix);
        self.prefixes.iter().find(copyable)?.seq_id.filter(|_| self.limit > 0)
    }

    /// Whether host memory has all of it, as its own copy or in that of a longer prefix.
    fn is_safe(&self, prefix: &CachedPrefix) -> bool {
        let covers = |other: &CachedPrefix| {
            let copied = &other.tokens[..other.copied()];
            copied.starts_with(&prefix.tokens) && (self.reuse == Reuse::Parts || copied.len() == prefix.tokens.len())
        };
        self.prefixes.iter().any(covers)
    }

    /// Whether host memory has all of a prefix in the pool.
    pub(crate) fn is_copied(&self, seq_id: usize) -> bool {
        self.prefixes.iter().any(|prefix| prefix.seq_id == Some(seq_id) && self.is_safe(prefix))
    }

    fn in_pool(&mut self, seq_id: usize) -> Option<&mut CachedPrefix> {
        self.prefixes.iter_mut().find(|prefix| prefix.seq_id == Some(seq_id))
    }

    /// Which tokens of a prefix in the pool to copy next, at most this many. A state that is only usable whole is
    /// copied whole.
    pub(crate) fn next_part(&self, seq_id: usize, most: usize) -> Option<Range<usize>> {
        let prefix = self.prefixes.iter().find(|prefix| prefix.seq_id == Some(seq_id))?;
        if self.limit == 0 || prefix.refused || self.is_safe(prefix) {
            return None;
        }
        let (from, len) = (prefix.copied(), prefix.tokens.len());
        let end = if self.reuse == Reuse::Whole { len } else { len.min(from.saturating_add(most)) };
        (end > from && end - from <= most).then_some(from..end)
    }

    /// Bytes of host memory available for a copy: all but those of other copies of prefixes in the pool.
    pub(crate) fn room_for_copies(&self) -> usize {
        let in_pool = self.prefixes.iter().filter(|prefix| prefix.seq_id.is_some());
        let kept: usize = in_pool.flat_map(|prefix| &prefix.copy).map(|part| part.state.len()).sum();
        self.limit.saturating_sub(kept)
    }

    /// Stores a part of a copy in host memory, within [`room_for_copies`](Self::room_for_copies): prefixes outside the
    /// pool lose their last parts for it, the least recently used first.
    pub(crate) fn add_part(&mut self, seq_id: usize, end: usize, state: Vec<u8>) {
        while self.host_bytes + state.len() > self.limit && self.drop_oldest_part() {}
        let bytes = state.len();
        if let Some(prefix) = self.in_pool(seq_id) {
            prefix.copy.push(Part { end, state });
            self.host_bytes += bytes;
        }
    }

    /// Changes the maximum bytes of host memory, and removes the copies beyond it; returns whether it changed.
    pub(crate) fn set_limit(&mut self, limit: usize) -> bool {
        let before = std::mem::replace(&mut self.limit, limit);
        while self.host_bytes > limit && self.drop_oldest_part() {}
        while self.host_bytes > limit
            && let Some(prefix) = self.prefixes.iter_mut().find(|prefix| !prefix.copy.is_empty())
        {
            // The pool holds it as well.
            prefix.copy.clear();
            self.count_host_bytes();
        }
        if limit > before {
            self.prefixes.iter_mut().for_each(|prefix| prefix.refused = false);
        }
        limit != before
    }

    /// Records that host memory has no space for more of a prefix until other copies are removed.
    pub(crate) fn refuse(&mut self, seq_id: usize) {
        if let Some(prefix) = self.in_pool(seq_id) {
            prefix.refused = true;
        }
    }

    /// Removes the last part of the least recently used prefix that is only in host memory.
    fn drop_oldest_part(&mut self) -> bool {
        let Some(at) = self.prefixes.iter().position(|prefix| prefix.seq_id.is_none()) else { return false };
        let prefix = &mut self.prefixes[at];
        self.host_bytes -= prefix.copy.pop().map_or(0, |part| part.state.len());
        let left = prefix.copied();
        prefix.tokens.truncate(left);
        if left < MIN_MATCH {
            self.prefixes.remove(at);
            self.count_host_bytes();
        }
        true
    }

    /// Removes a prefix from the pool; the part that has a copy in host memory is kept. Returns whether the pool held
    /// it.
    pub(crate) fn leave_pool(&mut self, seq_id: usize) -> bool {
        let Some(prefix) = self.in_pool(seq_id) else { return false };
        prefix.seq_id = None;
        self.drop_uncopied();
        true
    }

    /// Forgets all cells after the context was lost; copies in host memory are kept.
    pub(crate) fn lose_pool(&mut self) {
        self.prefixes.iter_mut().for_each(|prefix| prefix.seq_id = None);
        self.drop_uncopied();
    }

    /// Truncates prefixes outside the pool to their copies, and drops those that are now redundant.
    fn drop_uncopied(&mut self) {
        for prefix in self.prefixes.iter_mut().filter(|prefix| prefix.seq_id.is_none()) {
            let copied = prefix.copied();
            prefix.tokens.truncate(copied);
        }
        self.prefixes.retain(|prefix| prefix.tokens.len() >= MIN_MATCH);
        self.count_host_bytes();
    }

    /// The parts of a copy that hold the first `tokens` tokens: the end and the state of each.
    pub(crate) fn parts(&self, name: u64, tokens: usize) -> impl Iterator<Item = (usize, &[u8])> {
        let prefix = self.prefixes.iter().find(|prefix| prefix.name == name);
        let parts = prefix.map_or(&[][..], |prefix| prefix.copy.as_slice());
        parts.iter().filter(move |part| part.end <= tokens).map(|part| (part.end, part.state.as_slice()))
    }
}

#[cfg(test)]
mod tests;
