//! Statistics of an engine.

use std::time::Duration;

/// Steps of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// Number of steps.
    pub count: u64,
    /// Total duration.
    pub total: Duration,
    /// Duration of the longest step.
    pub longest: Duration,
}

impl Steps {
    pub(crate) fn add(&mut self, took: Duration) {
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

/// The current state of an engine and its counters since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Streams that wait for their first slot.
    pub queued: usize,
    /// Streams that have a slot.
    pub running: usize,
    /// Streams that are paused: they wait for their readers, for a delay or for cells.
    pub paused: usize,
    /// Number of cells of the KV pool.
    pub cells: usize,
    /// Cells in use.
    pub cells_used: usize,
    /// Cells that more than one stream or cached prefix holds.
    pub cells_shared: usize,
    /// Cells that cached prefixes hold, including those that running streams share.
    pub cells_cached: usize,
    /// Bytes of offloaded KV in host memory.
    pub prefix_bytes: usize,
    /// Streams whose prompts started with a computed prefix.
    pub prefix_hits: u64,
    /// Prompt tokens that did not have to be computed.
    pub tokens_saved: u64,
    /// Copies of KV to host memory: of a cached prefix or preempted stream, or of a part of one.
    pub offloads: u64,
    /// Copies of KV back from host memory, each as much as a new or preempted stream could use.
    pub restores: u64,
    /// Number of times that a stream lost its cells to another.
    pub preemptions: u64,
    /// Completion tokens computed.
    pub tokens_generated: u64,
    /// Number of compute threads of the latest step.
    pub threads: u32,
    /// Steps without prompt tokens.
    pub decode_steps: Steps,
    /// Steps with prompt tokens.
    pub prefill_steps: Steps,
}

impl Stats {
    /// All numbers except those of the steps, under the names of their fields.
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
