//! Remembers beginnings that are computed, so that no prompt computes them again.
//!
//! Two shelves: idle beginnings keep their cells in the pool, a small share of it; beyond that they rest in host memory,
//! oldest out first. The index is a plain scan, token by token: there are at most as many idle beginnings as seats, and
//! two that differ do so early.

use std::collections::VecDeque;

use mullama_ffi::TokenId;

/// Fewer tokens in common than this are computed faster than they are looked after.
pub(crate) const LEAST_SHARED: usize = 4;
/// The share of the pool's cells that idle beginnings may keep: each step scans them.
const IDLE_SHARE: usize = 16;

/// A finished sequence whose cells are still in the pool.
#[derive(Debug)]
struct Idle {
    seat: usize,
    tokens: Vec<TokenId>,
}

/// A sequence whose cells were copied into host memory.
#[derive(Debug)]
struct Rested {
    name: u64,
    tokens: Vec<TokenId>,
    state: Vec<u8>,
}

/// Where a beginning can be had from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cells of this seat.
    Seat(usize),
    /// The copy of this name in host memory, of this many tokens.
    Host { name: u64, tokens: usize },
}

/// A beginning that somebody has computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) source: Source,
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
pub(crate) struct Prefixes {
    /// Longest unused first.
    idle: Vec<Idle>,
    /// Longest unused first.
    rested: VecDeque<Rested>,
    rested_bytes: usize,
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
        let serves = shared >= LEAST_SHARED
            && match self {
                Self::Parts => true,
                Self::Whole => shared == computed.len(),
                Self::Nothing => false,
            };
        if serves { shared } else { 0 }
    }
}

impl Prefixes {
    pub(crate) fn new(limit: usize, reuse: Reuse) -> Self {
        Self { idle: Vec::new(), rested: VecDeque::new(), rested_bytes: 0, limit, reuse, next_name: 0 }
    }

    pub(crate) fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Seats of the idle beginnings, longest unused first.
    pub(crate) fn idle_seats(&self) -> impl Iterator<Item = usize> {
        self.idle.iter().map(|idle| idle.seat)
    }

    /// Cells that idle beginnings hold, one that two of them share counted twice.
    pub(crate) fn idle_cells(&self) -> usize {
        self.idle.iter().map(|idle| idle.tokens.len()).sum()
    }

    /// Bytes of host memory in use.
    pub(crate) fn rested_bytes(&self) -> usize {
        self.rested_bytes
    }

    /// The longest beginning of a prompt that is on a shelf; the pool's before host memory's.
    pub(crate) fn find(&self, prompt: &[TokenId]) -> Option<Beginning> {
        let found = |source, tokens: &[TokenId]| Beginning { source, shared: self.reuse.shared(tokens, prompt) };
        let rested = self.rested.iter().map(|rested| {
            let source = Source::Host { name: rested.name, tokens: rested.tokens.len() };
            found(source, &rested.tokens)
        });
        let idle = self.idle.iter().map(|idle| found(Source::Seat(idle.seat), &idle.tokens));
        rested.chain(idle).filter(|beginning| beginning.shared > 0).max_by_key(|beginning| beginning.shared)
    }

    /// Whether a shelf holds all of this already.
    fn covers(&self, tokens: &[TokenId]) -> bool {
        let whole = |other: &[TokenId]| {
            other.starts_with(tokens) && (self.reuse == Reuse::Parts || other.len() == tokens.len())
        };
        self.idle.iter().any(|idle| whole(&idle.tokens)) || self.rested.iter().any(|rested| whole(&rested.tokens))
    }

    /// Whether a sequence that ends is worth keeping.
    pub(crate) fn wants(&self, tokens: &[TokenId]) -> bool {
        tokens.len() >= LEAST_SHARED && self.reuse != Reuse::Nothing && !self.covers(tokens)
    }

    /// Keeps the cells of a sequence that has ended. Returns seats of shorter beginnings that it makes needless.
    pub(crate) fn keep(&mut self, seat: usize, tokens: Vec<TokenId>) -> Vec<usize> {
        self.forget_covered(&tokens);
        let needless = |idle: &mut Idle| self.reuse == Reuse::Parts && tokens.starts_with(&idle.tokens);
        let dropped = self.idle.extract_if(.., needless).map(|idle| idle.seat).collect();
        self.idle.push(Idle { seat, tokens });
        dropped
    }

    fn forget_covered(&mut self, tokens: &[TokenId]) {
        let parts = self.reuse == Reuse::Parts;
        self.rested.retain(|rested| !(parts && tokens.starts_with(&rested.tokens)));
        self.rested_bytes = self.rested.iter().map(|rested| rested.state.len()).sum();
    }

    /// The beginning that should leave the pool, if idle ones hold more than their share of `capacity` cells.
    pub(crate) fn surplus(&self, capacity: usize) -> Option<usize> {
        (self.idle_cells() > capacity / IDLE_SHARE).then(|| self.idle.first().map(|idle| idle.seat)).flatten()
    }

    /// A beginning in the pool was used: it goes last.
    pub(crate) fn used(&mut self, source: Source) {
        match source {
            Source::Seat(seat) => {
                if let Some(at) = self.idle.iter().position(|idle| idle.seat == seat) {
                    let idle = self.idle.remove(at);
                    self.idle.push(idle);
                }
            }
            Source::Host { name, .. } => {
                if let Some(at) = self.rested.iter().position(|rested| rested.name == name) {
                    let rested = self.rested.remove(at);
                    self.rested.extend(rested);
                }
            }
        }
    }

    /// Takes an idle beginning off the pool's shelf: its tokens.
    pub(crate) fn release(&mut self, seat: usize) -> Option<Vec<TokenId>> {
        let at = self.idle.iter().position(|idle| idle.seat == seat)?;
        Some(self.idle.remove(at).tokens)
    }

    /// Most bytes of host memory.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether host memory may be used at all.
    pub(crate) fn can_rest(&self) -> bool {
        self.limit > 0
    }

    /// Puts a copy into host memory; the oldest go where it needs their room.
    pub(crate) fn rest(&mut self, tokens: Vec<TokenId>, state: Vec<u8>) {
        if state.len() > self.limit || self.covers(&tokens) {
            return;
        }
        self.forget_covered(&tokens);
        self.rested_bytes += state.len();
        self.rested.push_back(Rested { name: self.next_name, tokens, state });
        self.next_name += 1;
        while self.rested_bytes > self.limit {
            let Some(oldest) = self.rested.pop_front() else { return };
            self.rested_bytes -= oldest.state.len();
        }
    }

    /// The copy of this name.
    pub(crate) fn state(&self, name: u64) -> Option<&[u8]> {
        self.rested.iter().find(|rested| rested.name == name).map(|rested| rested.state.as_slice())
    }

    /// Forgets what was in the pool; host memory keeps its copies.
    pub(crate) fn lose_pool(&mut self) {
        self.idle.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> Prefixes {
        Prefixes::new(100, Reuse::Parts)
    }

    fn tokens(n: i32) -> Vec<TokenId> {
        (0..n).collect()
    }

    #[test]
    fn the_longest_beginning_is_found_and_leaves_one_token_to_compute() {
        let mut prefixes = shelf();
        prefixes.keep(1, tokens(6));
        prefixes.rest([tokens(9), vec![77]].concat(), vec![0; 10]);
        assert_eq!(
            prefixes.find(&tokens(20)).map(|b| (b.shared, matches!(b.source, Source::Host { .. }))),
            Some((9, true))
        );
        assert_eq!(prefixes.find(&tokens(6)).map(|b| b.shared), Some(5));
        assert_eq!(prefixes.find(&[5, 6, 7, 8, 9]), None);
    }

    #[test]
    fn a_state_is_reused_whole_or_not_at_all() {
        let mut prefixes = Prefixes::new(100, Reuse::Whole);
        prefixes.keep(1, tokens(6));
        assert_eq!(prefixes.find(&tokens(6)), None);
        assert_eq!(prefixes.find(&tokens(7)).map(|b| b.shared), Some(6));
        assert_eq!(prefixes.find(&[0, 1, 2, 3, 4, 9, 9]), None);
    }

    #[test]
    fn host_memory_never_exceeds_its_limit_and_the_oldest_go_first() {
        let mut prefixes = shelf();
        for n in 0..5 {
            prefixes.rest(vec![n; 8], vec![0; 40]);
            assert!(prefixes.rested_bytes() <= 100);
        }
        assert_eq!(prefixes.find(&[3; 9]).map(|b| b.shared), Some(8));
        assert_eq!(prefixes.find(&[0; 9]), None);
        prefixes.rest(vec![9; 8], vec![0; 101]);
        assert_eq!(prefixes.find(&[9; 9]), None);
    }

    #[test]
    fn a_longer_beginning_replaces_a_shorter_one() {
        let mut prefixes = shelf();
        assert_eq!(prefixes.keep(1, tokens(6)), [0; 0]);
        assert_eq!(prefixes.keep(2, tokens(8)), [1]);
        assert!(!prefixes.wants(&tokens(7)));
    }

    #[test]
    fn idle_beginnings_keep_a_small_share_of_the_pool() {
        let mut prefixes = shelf();
        prefixes.keep(1, vec![1; 40]);
        assert_eq!(prefixes.surplus(1024), None);
        prefixes.keep(2, vec![2; 40]);
        assert_eq!(prefixes.surplus(1024), Some(1));
    }
}
