//! Samples the rows of one step, on several threads if that is faster.
//!
//! Flow: decode → **sample** → detokenize. Each stream's own sampler chain sees only that stream's row, so the tokens
//! are the same on any number of threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use mullama_ffi::Error;

use super::recovery::decode_failed;
use crate::error::{MullamaError, StreamFailure};
use crate::text::sampler::{SampledToken, SamplerChain};

/// Number of logits per additional thread. Reading them takes several times as long as starting a thread (about 50 µs).
const LOGITS_PER_THREAD: usize = 1 << 20;

/// One row to sample from, or the error that replaced its logits, and the sampler chain of its stream.
#[derive(Debug)]
pub(crate) struct SampleJob<'a> {
    pub(crate) logits: Result<&'a [f32], Error>,
    pub(crate) sampler: &'a mut SamplerChain,
}

impl SampleJob<'_> {
    /// Samples the row.
    pub(crate) fn run(self) -> Result<SampledToken, MullamaError> {
        let logits = self.logits.map_err(|error| decode_failed(&Arc::new(error)))?;
        let failed = |error| MullamaError::StreamingError(StreamFailure::Sample(Arc::new(error)));
        self.sampler.pick(logits).map_err(failed)
    }
}

/// The number of threads to sample so many rows on, including the calling one: 1 to `most`.
pub(crate) fn sampling_threads(rows: usize, n_vocab: usize, most: usize) -> usize {
    (rows.saturating_mul(n_vocab) / LOGITS_PER_THREAD).clamp(1, most.clamp(1, rows.max(1)))
}

/// Samples every row on this many threads, one of which is the calling one. The results are in the order of the jobs.
///
/// Each thread takes one row at a time, so a thread without a core delays the others by at most one row. If the system
/// refuses to start a thread, the other threads do its work.
pub(crate) fn sample_rows(jobs: Vec<SampleJob<'_>>, threads: usize) -> Vec<Result<SampledToken, MullamaError>> {
    if threads <= 1 {
        return jobs.into_iter().map(SampleJob::run).collect();
    }
    let mut results: Vec<Option<Result<SampledToken, MullamaError>>> = jobs.iter().map(|_| None).collect();
    let queue = Mutex::new(jobs.into_iter().zip(results.iter_mut()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some((job, result)) = next() {
            *result = Some(job.run());
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let helper = thread::Builder::new().name("mullama-sample".to_owned()).spawn_scoped(scope, work);
            if helper.is_err() {
                break;
            }
        }
        work();
    });
    results.into_iter().map(|result| result.expect("the queue is empty, so every job is done")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_threads_are_used_only_where_that_is_faster() {
        let cases = [
            // One stream, or small vocabularies: only the calling thread is used.
            ((1, 152_000, 16), 1),
            ((8, 32_000, 16), 1),
            ((64, 4_096, 16), 1),
            ((64, 152_000, 1), 1),
            ((64, 152_000, 2), 2),
            ((64, 152_000, 16), 9),
            ((16, 152_000, 16), 2),
            ((0, 152_000, 2), 1),
            ((3, usize::MAX, 16), 3),
        ];
        for ((rows, n_vocab, most), threads) in cases {
            assert_eq!(sampling_threads(rows, n_vocab, most), threads, "{rows} rows of {n_vocab}, at most {most}");
        }
    }
}
