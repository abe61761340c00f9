//! Decodes a batch: checks everything that llama.cpp would assert, computes, and gives access to the logits.

use std::{ptr, slice};

use crate::batch::Batch;
use crate::context::Context;
use crate::error::{Error, check};
use crate::{log, sys};

impl Context {
    /// Computes the batch: its tokens are added to the KV pool, and the logits of the rows that requested them can be
    /// read.
    ///
    /// Blocks until it is computed or the abort flag ends it. After [`Error::Aborted`] and [`Error::DecodeFailed`] a
    /// part of the batch may be in the pool; [`seq_pos_max`](Self::seq_pos_max) reports how much. After other errors
    /// that do not [poison](Error::poisons) the context, the pool is unchanged.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyBatch`], [`Error::BatchTooLarge`], [`Error::TooManyOutputs`], [`Error::TokenOutOfRange`],
    /// [`Error::SequenceOutOfRange`], [`Error::PositionOutOfRange`] and [`Error::PositionGap`] before anything is
    /// computed; then [`Error::NoKvSlot`], [`Error::Aborted`], [`Error::InvalidBatch`], [`Error::DecodeFailed`], or an
    /// error from C++.
    pub fn decode(&mut self, batch: &Batch) -> Result<(), Error> {
        self.usable()?;
        self.check_batch(batch)?;
        self.outputs.clear();
        #[cfg(feature = "test-support")]
        if let Some(failure) = self.fail_next.take() {
            return self.poisoned_by(failure.happen());
        }
        log::forget_said();
        self.parts.pools.begin_decode(batch.len());
        log::hold();
        let raw_batch = batch.raw();
        let mut result = 0;
        // SAFETY: the batch outlives the call, and everything in it is in range.
        let status = unsafe { sys::mullama_decode(self.raw(), &raw const raw_batch, &raw mut result) };
        let done = check("llama_decode", status).and_then(|()| outcome(result));
        log::release(matches!(done, Err(Error::Aborted)));
        self.parts.pools.end_decode(batch.len());
        if done.is_ok() {
            // A graph was computed with the current pools.
            self.parts.replaced.clear();
        }
        self.poisoned_by(done)?;
        self.outputs.extend_from_slice(batch.wanted());
        Ok(())
    }

    fn check_batch(&mut self, batch: &Batch) -> Result<(), Error> {
        let tokens = batch.len();
        if tokens == 0 {
            return Err(Error::EmptyBatch);
        }
        if tokens > self.facts.n_batch as usize {
            return Err(Error::BatchTooLarge { tokens, n_batch: self.facts.n_batch });
        }
        if batch.outputs() > self.n_outputs_max as usize {
            return Err(Error::TooManyOutputs { outputs: batch.outputs(), max: self.n_outputs_max });
        }
        self.expected.fill(None);
        for (token, position, seq) in batch.rows() {
            if usize::try_from(token).map_or(true, |index| index >= self.n_vocab) {
                return Err(Error::TokenOutOfRange { token, n_vocab: self.n_vocab });
            }
            self.check_position(seq, position)?;
        }
        Ok(())
    }

    /// Positions must continue where the sequence ends in the pool; an empty sequence may start at any position.
    fn check_position(&mut self, seq: i32, position: i32) -> Result<(), Error> {
        let index = self.check_seq(seq)?;
        if position < 0 || position == i32::MAX {
            return Err(Error::PositionOutOfRange { position });
        }
        let expected = match self.expected[index] {
            Some(expected) => expected,
            None => self.seq_pos_max(seq)?.map_or(position, |last| last.saturating_add(1)),
        };
        if position != expected {
            return Err(Error::PositionGap { seq, position, expected });
        }
        self.expected[index] = Some(position + 1);
        Ok(())
    }

    /// The logits of one row of the last decode, one per token of the vocabulary. Nothing is copied.
    ///
    /// # Errors
    ///
    /// [`Error::NoLogits`] if the row was not pushed with `output`, or the last decode failed.
    pub fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.usable()?;
        let index = i32::try_from(row).map_err(|_| Error::NoLogits { row })?;
        if self.outputs.get(row).is_none_or(|&wanted| wanted == 0) {
            return Err(Error::NoLogits { row });
        }
        let mut logits = ptr::null();
        // SAFETY: the row has logits.
        let status = unsafe { sys::mullama_logits(self.raw(), index, &raw mut logits) };
        self.poisoned_by(check("llama_get_logits_ith", status))?;
        if logits.is_null() {
            return Err(Error::NoLogits { row });
        }
        // SAFETY: llama.cpp points at a row of `n_vocab` floats that stays until the next decode, which needs `&mut
        // self`.
        Ok(unsafe { slice::from_raw_parts(logits, self.n_vocab) })
    }
}

/// Converts a return code of `llama_decode`.
pub(crate) fn outcome(result: i32) -> Result<(), Error> {
    match result {
        0 => Ok(()),
        1 => Err(Error::NoKvSlot),
        2 => Err(Error::Aborted),
        -1 => Err(Error::InvalidBatch { said: log::take_said() }),
        status => Err(Error::DecodeFailed { status, said: log::take_said() }),
    }
}
