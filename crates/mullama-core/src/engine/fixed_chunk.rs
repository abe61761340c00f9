//! Chooses how many tokens of a prompt one decode call computes where that number must never depend on the clock.
//!
//! llama.cpp's kernels use another order of summation for another number of rows, so the last bits of the logits depend
//! on where a prompt is split. The chunk size is therefore chosen once per engine, from the size of the model and the
//! number of threads.

/// Multiplications by a weight that one thread does per second. With `Q8_0` and AVX-512, 64 rows of 494 million weights
/// on two threads reach 40 to 47 billion. On slower machines steps take longer, but the bits stay the same.
const WEIGHTS_PER_SECOND: u64 = 45_000_000_000;
/// Target duration of a chunk of a stream that runs alone, in milliseconds.
const ALONE_MS: u64 = 250;
/// Maximum duration of such a chunk where flash attention works in tiles, so that a whole tile is used.
const TILE_MS: u64 = 500;
/// Target duration of a chunk of a deterministic stream, in milliseconds: other streams may be running beside it.
const BESIDE_MS: u64 = 20;
/// Minimum number of rows that is worth a step.
const LEAST: usize = 8;
/// Number of rows from which ggml's flash attention on the CPU works in tiles, and the rows of one tile
/// (`GGML_FA_TILE_Q`).
const TILE: usize = 64;

/// Chunk sizes of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FixedChunks {
    /// Tokens per step of a stream that runs alone.
    pub(crate) alone: usize,
    /// Tokens per step of a deterministic stream.
    pub(crate) deterministic: usize,
}

/// The facts that the sizes are chosen from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// Weights that the CPU multiplies per token; 0 if they are all on GPUs.
    pub(crate) cpu_weights: u64,
    /// Number of threads that compute a prompt.
    pub(crate) threads: u32,
    /// Whether attention is fused and the KV cache has a format that the tiles can read.
    pub(crate) tiles: bool,
    /// Maximum number of tokens of one pass through the graph.
    pub(crate) most: usize,
}

impl FixedChunks {
    /// The sizes for this machine.
    pub(crate) fn of(machine: Machine) -> Self {
        let most = machine.most.max(1);
        let bounded = |rows: usize| rows.max(LEAST).min(most);
        let alone = machine.rows_within(ALONE_MS);
        let alone = match alone {
            TILE.. => alone - alone % TILE,
            _ if machine.tiles && most >= TILE && machine.rows_within(TILE_MS) >= TILE => TILE,
            _ => alone - alone % LEAST,
        };
        // A larger chunk would save little: beyond this size each weight is already read once for many rows.
        let deterministic = machine.rows_within(BESIDE_MS).min(TILE);
        Self { alone: bounded(alone), deterministic: bounded(deterministic - deterministic % LEAST) }
    }
}

impl Machine {
    /// Number of rows that are computed in this time, if only weights count.
    fn rows_within(self, milliseconds: u64) -> usize {
        let products = WEIGHTS_PER_SECOND / 1000 * milliseconds * u64::from(self.threads);
        let rows = products.checked_div(self.cpu_weights);
        rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(self.most).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cpu_weights: 494_000_000, threads: 2, tiles: true, most: 512 };

    #[test]
    fn a_chunk_is_a_whole_tile_if_that_takes_at_most_half_a_second() {
        assert_eq!(FixedChunks::of(MACHINE), FixedChunks { alone: 64, deterministic: 8 });
        assert_eq!(FixedChunks::of(Machine { tiles: false, ..MACHINE }).alone, 40);
        assert_eq!(FixedChunks::of(Machine { cpu_weights: 1_000_000_000, ..MACHINE }).alone, 16);
    }

    #[test]
    fn chunks_of_small_models_and_of_gpus_fill_one_pass() {
        for cpu_weights in [0, 2_000_000] {
            let chunks = FixedChunks::of(Machine { cpu_weights, ..MACHINE });
            assert_eq!(chunks, FixedChunks { alone: 512, deterministic: 64 });
        }
    }

    #[test]
    fn a_chunk_has_at_least_eight_tokens_and_never_more_than_fit_one_pass() {
        let large = Machine { cpu_weights: 70_000_000_000, ..MACHINE };
        assert_eq!(FixedChunks::of(large), FixedChunks { alone: 8, deterministic: 8 });
        assert_eq!(FixedChunks::of(Machine { most: 5, ..large }), FixedChunks { alone: 5, deterministic: 5 });
        assert_eq!(FixedChunks::of(Machine { most: 48, ..MACHINE }).alone, 40);
    }

    #[test]
    fn more_threads_make_larger_chunks() {
        let sizes = [1, 2, 4, 8, 16].map(|threads| FixedChunks::of(Machine { threads, ..MACHINE }).alone);
        assert_eq!(sizes, [16, 64, 64, 128, 320]);
    }
}
