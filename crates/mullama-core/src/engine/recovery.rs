//! What happens when a decode fails: the streams with rows in it fail or are computed again, and no others.

use std::sync::Arc;

use mullama_ffi::Error;

use super::{Engine, RowGrant};
use crate::engine::scheduler::Plan;
use crate::error::{MullamaError, StreamFailure};
use crate::kv::backend::Backend;

impl<B: Backend> Engine<B> {
    pub(super) fn recover(&mut self, plan: &Plan, grants: &[RowGrant], error: Error) {
        self.refusals += usize::from(matches!(error, Error::NoKvSlot));
        match error {
            Error::NoKvSlot if self.make_room(plan, grants) => {}
            Error::NoKvSlot => {
                let rows = self.rows.len();
                self.fail_all(grants, &MullamaError::StreamingError(StreamFailure::NoCells { rows }));
            }
            // All streams of the step have left, or the engine is closing. What an aborted step computed is not used
            // again.
            Error::Aborted => grants.iter().for_each(|share| self.evict(share.at)),
            error => {
                let lost = error.poisons();
                tracing::error!(target: "mullama", %error, lost, "decode failed");
                self.fail_all(grants, &decode_failed(&Arc::new(error)));
                if lost {
                    self.rebuild_context();
                }
            }
        }
    }

    /// Frees cells after llama.cpp found none for a step. The plan counts cells exactly, so the cause is fragmentation
    /// or a special cache, and a step with fewer sequences may fit. `false` after too many attempts: no stream waits
    /// forever.
    fn make_room(&mut self, plan: &Plan, grants: &[RowGrant]) -> bool {
        match grants {
            _ if self.refusals > 2 * self.parts.slots => false,
            [_, .., last] => {
                self.evict(last.at);
                true
            }
            _ => self.free_unused_cells(plan),
        }
    }

    /// Frees the cells that are least needed: those of a cached prefix, otherwise those of the longest paused stream.
    fn free_unused_cells(&mut self, plan: &Plan) -> bool {
        let cached = self.pool.prefixes().pool_seq_ids().next();
        if let Some(seq_id) = cached {
            self.pool.drop_cached(seq_id);
            return true;
        }
        let holds = |at: &usize| self.sequences[*at].seq_id().is_some() && !plan.running.contains(at);
        let victim = (0..self.sequences.len()).filter(holds).min_by_key(|&at| self.sequences[at].run_state().since());
        victim.map(|at| self.preempt(at)).is_some()
    }

    fn fail_all(&mut self, grants: &[RowGrant], error: &MullamaError) {
        let now = self.parts.clock.now();
        let mut failed: Vec<usize> = grants.iter().map(|share| share.at).collect();
        failed.sort_unstable();
        for at in failed.into_iter().rev() {
            // Other streams must not share what a failed step computed.
            self.evict(at);
            self.end(at, |sequence| sequence.fail(error.clone(), now));
        }
    }

    /// All cells are gone with the context. Streams without rows in the failed step recompute their tokens.
    fn rebuild_context(&mut self) {
        for sequence in &mut self.sequences {
            sequence.give_up_cells();
        }
        self.pool.reset();
        self.broken = true;
        self.revive();
    }

    /// Rebuilds a lost context. While that fails, all streams fail.
    pub(super) fn revive(&mut self) {
        if !self.broken {
            return;
        }
        match self.pool.rebuild() {
            Ok(()) => {
                self.broken = false;
                self.stats.threads = self.parts.threads;
            }
            Err(error) => {
                tracing::error!(target: "mullama", %error, "the context could not be rebuilt");
                let (error, now) = (decode_failed(&Arc::new(error)), self.parts.clock.now());
                while !self.sequences.is_empty() {
                    self.end(0, |sequence| sequence.fail(error.clone(), now));
                }
            }
        }
    }
}

pub(super) fn decode_failed(error: &Arc<Error>) -> MullamaError {
    MullamaError::StreamingError(StreamFailure::Decode(Arc::clone(error)))
}
