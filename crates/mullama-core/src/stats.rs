//! Numbers about what an engine is doing and has done.

use std::time::Duration;

/// Steps of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// How many.
    pub count: u64,
    /// How long they took together.
    pub total: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

impl Steps {
    pub(crate) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

/// What an engine is doing, and has done since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that wait for their first slot.
    pub queued: usize,
    /// Streams that have a slot.
    pub running: usize,
    /// Streams that wait for their readers, for a delay or for cells.
    pub paused: usize,
    /// Cells of the KV pool.
    pub cells: usize,
    /// Cells that hold the KV of a token.
    pub cells_used: usize,
    /// Cells that more than one stream or cached prefix holds.
    pub cells_shared: usize,
    /// Cells that cached prefixes hold, those that running streams share included.
    pub cells_cached: usize,
    /// Bytes of cached prefixes in host memory.
    pub prefix_bytes: usize,
    /// Streams whose prompts started with tokens that were computed before.
    pub prefix_hits: u64,
    /// Tokens of prompts that were not computed again.
    pub tokens_saved: u64,
    /// Copies of KV to host memory: of a cached prefix or preempted stream, or of a part of one.
    pub offloads: u64,
    /// Copies of KV back from host memory: of as much as a new or preempted stream could use.
    pub restores: u64,
    /// Times that a stream lost its cells to another.
    pub preemptions: u64,
    /// Tokens computed after prompts.
    pub tokens_generated: u64,
    /// Threads that the newest step ran with.
    pub threads: u32,
    /// Steps of running streams alone.
    pub decode_steps: Steps,
    /// Steps with prompts in them.
    pub prefill_steps: Steps,
}

impl Stats {
    /// All numbers but those of the steps, by the names of their fields.
    pub fn counts(&self) -> [(&'static str, u64); 15] {
        [
            ("queued", self.queued as u64),
            ("running", self.running as u64),
            ("paused", self.paused as u64),
            ("cells", self.cells as u64),
            ("cells_used", self.cells_used as u64),
            ("cells_shared", self.cells_shared as u64),
            ("cells_cached", self.cells_cached as u64),
            ("prefix_bytes", self.prefix_bytes as u64),
            ("prefix_hits", self.prefix_hits),
            ("tokens_saved", self.tokens_saved),
            ("offloads", self.offloads),
            ("restores", self.restores),
            ("preemptions", self.preemptions),
            ("tokens_generated", self.tokens_generated),
            ("threads", u64::from(self.threads)),
        ]
    }
}
