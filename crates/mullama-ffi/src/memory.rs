//! The sequences in a context's KV pool: truncating, sharing, shifting and measuring them.

use crate::context::Context;
use crate::error::{Error, check};
use crate::sys;

/// The value for a range without an end.
const OPEN_END: i32 = -1;

impl Context {
    /// The index of a sequence, if the context has it.
    pub(crate) fn check_seq(&self, seq: i32) -> Result<usize, Error> {
        let n_seq_max = self.facts.n_seq_max;
        match usize::try_from(seq) {
            Ok(index) if index < n_seq_max as usize => Ok(index),
            _ => Err(Error::SequenceOutOfRange { seq, n_seq_max }),
        }
    }

    /// Removes the positions from `from` to below `to` from a sequence; `None` means its end. Returns whether that was
    /// possible: part of a sequence cannot be removed from a model with a recurrent state. Removing a whole sequence
    /// always works.
    ///
    /// # Errors
    ///
    /// [`Error::SequenceOutOfRange`], [`Error::PositionOutOfRange`], [`Error::Poisoned`], or an error from C++.
    pub fn seq_rm(&mut self, seq: i32, from: i32, to: Option<i32>) -> Result<bool, Error> {
        let span = self.span(seq, from, to)?;
        self.seq_op("llama_memory_seq_rm", sys::ML_SEQ_REMOVE, &span, 0).map(|removed| removed != 0)
    }

    /// Adds the positions from `from` to below `to` of sequence `src` to `dst` as well. They share their cells; nothing
    /// is computed or copied.
    ///
    /// # Errors
    ///
    /// As [`seq_rm`](Self::seq_rm).
    pub fn seq_cp(&mut self, src: i32, dst: i32, from: i32, to: Option<i32>) -> Result<(), Error> {
        let span = self.span(src, from, to)?;
        self.check_seq(dst)?;
        self.seq_op("llama_memory_seq_cp", sys::ML_SEQ_COPY, &span, dst).map(drop)
    }

    /// Adds `delta` to the positions from `from` to below `to` of a sequence; the next decode applies the change.
    ///
    /// # Errors
    ///
    /// [`Error::CannotShift`] for a model whose positions cannot be shifted; otherwise as [`seq_rm`](Self::seq_rm).
    pub fn seq_add(&mut self, seq: i32, from: i32, to: Option<i32>, delta: i32) -> Result<(), Error> {
        let span = self.span(seq, from, to)?;
        if !self.can_shift() {
            return Err(Error::CannotShift);
        }
        self.seq_op("llama_memory_seq_add", sys::ML_SEQ_SHIFT, &span, delta).map(drop)
    }

    /// Removes every other sequence from the pool.
    ///
    /// # Errors
    ///
    /// As [`seq_rm`](Self::seq_rm).
    pub fn seq_keep(&mut self, seq: i32) -> Result<(), Error> {
        let span = self.span(seq, 0, None)?;
        self.seq_op("llama_memory_seq_keep", sys::ML_SEQ_KEEP, &span, 0).map(drop)
    }

    /// The smallest position of a sequence; `None` if it is empty.
    ///
    /// # Errors
    ///
    /// As [`seq_rm`](Self::seq_rm).
    pub fn seq_pos_min(&self, seq: i32) -> Result<Option<i32>, Error> {
        let span = self.span(seq, 0, None)?;
        self.seq_op("llama_memory_seq_pos_min", sys::ML_SEQ_MIN, &span, 0).map(some_position)
    }

    /// The largest position of a sequence; `None` if it is empty.
    ///
    /// # Errors
    ///
    /// As [`seq_rm`](Self::seq_rm).
    pub fn seq_pos_max(&self, seq: i32) -> Result<Option<i32>, Error> {
        let span = self.span(seq, 0, None)?;
        self.seq_op("llama_memory_seq_pos_max", sys::ML_SEQ_MAX, &span, 0).map(some_position)
    }

    /// Removes all sequences from the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or an error from C++.
    pub fn clear(&mut self) -> Result<(), Error> {
        let span = self.span(0, 0, None)?;
        self.seq_op("llama_memory_clear", sys::ML_SEQ_CLEAR, &span, 0).map(drop)
    }

    /// Whether positions can be shifted.
    pub fn can_shift(&self) -> bool {
        self.facts.can_shift
    }

    fn span(&self, seq: i32, from: i32, to: Option<i32>) -> Result<sys::Span, Error> {
        self.check_seq(seq)?;
        if from < 0 {
            return Err(Error::PositionOutOfRange { position: from });
        }
        match to {
            Some(to) if to < from => Err(Error::PositionOutOfRange { position: to }),
            _ => Ok(sys::Span { seq, from, to: to.unwrap_or(OPEN_END) }),
        }
    }

    fn seq_op(&self, call: &'static str, op: i32, span: &sys::Span, argument: i32) -> Result<i32, Error> {
        self.usable()?;
        let mut result = 0;
        // SAFETY: the context is alive, and the span's sequence and positions were checked. Operations that change the
        // pool are reached through `&mut self` alone.
        let status = unsafe { sys::mullama_seq(self.raw(), op, span, argument, &raw mut result) };
        self.poisoned_by(check(call, status))?;
        Ok(result)
    }
}

fn some_position(position: i32) -> Option<i32> {
    (position >= 0).then_some(position)
}
