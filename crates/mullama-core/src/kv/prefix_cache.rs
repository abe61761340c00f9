//! Remembers beginnings that are computed, so that no prompt computes them again.
//!
//! Two shelves: in_pool beginnings keep their cells in the pool, a small share of it; beyond that they rest in host memory,
//! oldest out first. The index is a plain scan, token by token: there are at most as many in_pool beginnings as seats, and
//! two that differ do so early.

use std::collections::VecDeque;

use mullama_ffi::TokenId;

/// Fewer tokens in common than this are computed faster than they are looked after.
pub(crate) const MIN_MATCH: usize = 4;
/// The share of the pool's cells that in_pool beginnings may keep: each step scans them.
const POOL_SHARE: usize = 16;

/// A finished sequence whose cells are still in the pool.
#[derive(Debug)]
struct CachedPrefix {
    seq_id: usize,
    tokens: Vec<TokenId>,
}

/// A sequence whose cells were copied into host memory.
#[derive(Debug)]
struct OffloadedPrefix {
    name: u64,
    tokens: Vec<TokenId>,
    state: Vec<u8>,
}

/// Where a beginning can be had from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefixLocation {
    /// The cells of this seat.
    SeqId(usize),
    /// The copy of this name in host memory, of this many tokens.
    Host { name: u64, tokens: usize },
}

/// A beginning that somebody has computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PrefixMatch {
    pub(crate) source: PrefixLocation,
    /// How many of its tokens serve.
    pub(crate) shared: usize,
}

/// What parts of a sequence's cells another one can take over.
#[cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Any beginning.
    Parts,
    /// Only all of it: the state is that after the last token.
    Whole,
    /// Nothing: the cells depend on more than the tokens.
    Nothing,
}

/// All beginnings that no running sequence holds.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    /// Longest unused first.
    in_pool: Vec<CachedPrefix>,
    /// Longest unused first.
    offloaded: VecDeque<OffloadedPrefix>,
    offloaded_bytes: usize,
    /// Most bytes of host memory.
    limit: usize,
    reuse: Reuse,
    next_name: u64,
}

/// How many tokens two sequences have in common at their beginnings.
pub(crate) fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Reuse {
    /// How much of `computed` serves a prompt: all but its last token at most, whose logits are wanted.
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

impl PrefixCache {
    pub(crate) fn new(limit: usize, reuse: Reuse) -> Self {
        Self { in_pool: Vec::new(), offloaded: VecDeque::new(), offloaded_bytes: 0, limit, reuse, next_name: 0 }
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Seats of the in_pool beginnings, longest unused first.
    pub(crate) fn pool_seq_ids(&self) -> impl Iterator<Item = usize> {
        self.in_pool.iter().map(|in_pool| in_pool.seq_id)
    }

    /// Cells that in_pool beginnings hold, one that two of them share counted twice.
    pub(crate) fn pool_cells(&self) -> usize {
        self.in_pool.iter().map(|in_pool| in_pool.tokens.len()).sum()
    }

    /// Bytes of host memory in use.
    pub(crate) fn offloaded_bytes(&self) -> usize {
        self.offloaded_bytes
    }

    /// The longest beginning of a prompt that is on a shelf; the pool's before host memory's.
    pub(crate) fn find(&self, prompt: &[TokenId]) -> Option<PrefixMatch> {
        let found = |source, tokens: &[TokenId]| PrefixMatch { source, shared: self.reuse.shared(tokens, prompt) };
        let offloaded = self.offloaded.iter().map(|offloaded| {
            let source = PrefixLocation::Host { name: offloaded.name, tokens: offloaded.tokens.len() };
            found(source, &offloaded.tokens)
        });
        let in_pool = self.in_pool.iter().map(|in_pool| found(PrefixLocation::SeqId(in_pool.seq_id), &in_pool.tokens));
        offloaded.chain(in_pool).filter(|beginning| beginning.shared > 0).max_by_key(|beginning| beginning.shared)
    }

    /// Whether a shelf holds all of this already.
    fn covers(&self, tokens: &[TokenId]) -> bool {
        let whole = |other: &[TokenId]| {
            other.starts_with(tokens) && (self.reuse == Reuse::Parts || other.len() == tokens.len())
        };
        self.in_pool.iter().any(|in_pool| whole(&in_pool.tokens))
            || self.offloaded.iter().any(|offloaded| whole(&offloaded.tokens))
    }

    /// Whether a sequence that ends is worth keeping.
    pub(crate) fn is_worth_keeping(&self, tokens: &[TokenId]) -> bool {
        tokens.len() >= MIN_MATCH && self.reuse != Reuse::Nothing && !self.covers(tokens)
    }

    /// Keeps the cells of a sequence that has ended. Returns seats of shorter beginnings that it makes needless.
    pub(crate) fn insert(&mut self, seq_id: usize, tokens: Vec<TokenId>) -> Vec<usize> {
        self.forget_covered(&tokens);
        let needless = |in_pool: &mut CachedPrefix| self.reuse == Reuse::Parts && tokens.starts_with(&in_pool.tokens);
        let dropped = self.in_pool.extract_if(.., needless).map(|in_pool| in_pool.seq_id).collect();
        self.in_pool.push(CachedPrefix { seq_id, tokens });
        dropped
    }

    fn forget_covered(&mut self, tokens: &[TokenId]) {
        let parts = self.reuse == Reuse::Parts;
        self.offloaded.retain(|offloaded| !(parts && tokens.starts_with(&offloaded.tokens)));
        self.offloaded_bytes = self.offloaded.iter().map(|offloaded| offloaded.state.len()).sum();
    }

    /// The beginning that should leave the pool, if in_pool ones hold more than their share of `capacity` cells.
    pub(crate) fn surplus(&self, capacity: usize) -> Option<usize> {
        (self.pool_cells() > capacity / POOL_SHARE)
            .then(|| self.in_pool.first().map(|in_pool| in_pool.seq_id))
            .flatten()
    }

    /// A beginning in the pool was used: it goes last.
    pub(crate) fn used(&mut self, source: PrefixLocation) {
        match source {
            PrefixLocation::SeqId(seq_id) => {
                if let Some(at) = self.in_pool.iter().position(|in_pool| in_pool.seq_id == seq_id) {
                    let in_pool = self.in_pool.remove(at);
                    self.in_pool.push(in_pool);
                }
            }
            PrefixLocation::Host { name, .. } => {
                if let Some(at) = self.offloaded.iter().position(|offloaded| offloaded.name == name) {
                    let offloaded = self.offloaded.remove(at);
                    self.offloaded.extend(offloaded);
                }
            }
        }
    }

    /// Takes an in_pool beginning off the pool's shelf: its tokens.
    pub(crate) fn remove_from_pool(&mut self, seq_id: usize) -> Option<Vec<TokenId>> {
        let at = self.in_pool.iter().position(|in_pool| in_pool.seq_id == seq_id)?;
        Some(self.in_pool.remove(at).tokens)
    }

    /// Most bytes of host memory.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether host memory may be used at all.
    pub(crate) fn can_offload(&self) -> bool {
        self.limit > 0
    }

    /// Puts a copy into host memory; the oldest go where it needs their room.
    pub(crate) fn offload(&mut self, tokens: Vec<TokenId>, state: Vec<u8>) {
        if state.len() > self.limit || self.covers(&tokens) {
            return;
        }
        self.forget_covered(&tokens);
        self.offloaded_bytes += state.len();
        self.offloaded.push_back(OffloadedPrefix { name: self.next_name, tokens, state });
        self.next_name += 1;
        while self.offloaded_bytes > self.limit {
            let Some(oldest) = self.offloaded.pop_front() else { return };
            self.offloaded_bytes -= oldest.state.len();
        }
    }

    /// The copy of this name.
    pub(crate) fn state(&self, name: u64) -> Option<&[u8]> {
        self.offloaded.iter().find(|offloaded| offloaded.name == name).map(|offloaded| offloaded.state.as_slice())
    }

    /// Forgets what was in the pool; host memory keeps its copies.
    pub(crate) fn lose_pool(&mut self) {
        self.in_pool.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> PrefixCache {
        PrefixCache::new(100, Reuse::Parts)
    }

    fn tokens(n: i32) -> Vec<TokenId> {
        (0..n).collect()
    }

    #[test]
    fn the_longest_beginning_is_found_and_leaves_one_token_to_compute() {
        let mut prefixes = shelf();
        prefixes.insert(1, tokens(6));
        prefixes.offload([tokens(9), vec![77]].concat(), vec![0; 10]);
        assert_eq!(
            prefixes.find(&tokens(20)).map(|b| (b.shared, matches!(b.source, PrefixLocation::Host { .. }))),
            Some((9, true))
        );
        assert_eq!(prefixes.find(&tokens(6)).map(|b| b.shared), Some(5));
        assert_eq!(prefixes.find(&[5, 6, 7, 8, 9]), None);
    }

    #[test]
    fn a_state_is_reused_whole_or_not_at_all() {
        let mut prefixes = PrefixCache::new(100, Reuse::Whole);
        prefixes.insert(1, tokens(6));
        assert_eq!(prefixes.find(&tokens(6)), None);
        assert_eq!(prefixes.find(&tokens(7)).map(|b| b.shared), Some(6));
        assert_eq!(prefixes.find(&[0, 1, 2, 3, 4, 9, 9]), None);
    }

    #[test]
    fn host_memory_never_exceeds_its_limit_and_the_oldest_go_first() {
        let mut prefixes = shelf();
        for n in 0..5 {
            prefixes.offload(vec![n; 8], vec![0; 40]);
            assert!(prefixes.offloaded_bytes() <= 100);
        }
        assert_eq!(prefixes.find(&[3; 9]).map(|b| b.shared), Some(8));
        assert_eq!(prefixes.find(&[0; 9]), None);
        prefixes.offload(vec![9; 8], vec![0; 101]);
        assert_eq!(prefixes.find(&[9; 9]), None);
    }

    #[test]
    fn a_longer_beginning_replaces_a_shorter_one() {
        let mut prefixes = shelf();
        assert_eq!(prefixes.insert(1, tokens(6)), [0; 0]);
        assert_eq!(prefixes.insert(2, tokens(8)), [1]);
        assert!(!prefixes.is_worth_keeping(&tokens(7)));
    }

    #[test]
    fn idle_beginnings_keep_a_small_share_of_the_pool() {
        let mut prefixes = shelf();
        prefixes.insert(1, vec![1; 40]);
        assert_eq!(prefixes.surplus(1024), None);
        prefixes.insert(2, vec![2; 40]);
        assert_eq!(prefixes.surplus(1024), Some(1));
    }
}
