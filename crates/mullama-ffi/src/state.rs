//! The state of one sequence as bytes in host memory, for offloading and restoring.

use crate::context::Context;
use crate::error::{Error, check};
use crate::{log, sys};

impl Context {
    /// Number of bytes that the state of a sequence takes now.
    ///
    /// # Errors
    ///
    /// [`Error::SequenceOutOfRange`], [`Error::Poisoned`], or an error from C++.
    pub fn state_seq_size(&mut self, seq: i32) -> Result<usize, Error> {
        self.usable()?;
        self.check_seq(seq)?;
        let mut size = 0;
        // SAFETY: the context is alive and has the sequence.
        let status = unsafe { sys::mullama_state_size(self.raw(), seq, &raw mut size) };
        self.poisoned_by(check("llama_state_seq_get_size", status))?;
        Ok(size)
    }

    /// Saves the state of a sequence. The bytes are only valid for this model, these options and this build of
    /// llama.cpp.
    ///
    /// # Errors
    ///
    /// [`Error::StateRefused`]; otherwise as [`state_seq_size`](Self::state_seq_size).
    pub fn state_seq_get(&mut self, seq: i32) -> Result<Vec<u8>, Error> {
        let size = self.state_seq_size(seq)?;
        let mut bytes: Vec<u8> = Vec::new();
        if bytes.try_reserve_exact(size).is_err() {
            return Err(Error::StateRefused { bytes: size, said: vec!["out of memory".to_owned()] });
        }
        log::forget_said();
        let mut written = 0;
        // SAFETY: the context is alive and has the sequence, and llama.cpp writes at most the capacity.
        let status = unsafe { sys::mullama_state_get(self.raw(), seq, bytes.as_mut_ptr(), size, &raw mut written) };
        self.poisoned_by(check("llama_state_seq_get_data", status))?;
        if written == 0 || written > size {
            return Err(Error::StateRefused { bytes: size, said: log::take_said() });
        }
        // SAFETY: llama.cpp wrote that many bytes.
        unsafe { bytes.set_len(written) };
        Ok(bytes)
    }

    /// Replaces the contents of a sequence with a state that [`state_seq_get`](Self::state_seq_get) returned.
    ///
    /// llama.cpp trusts the bytes, so pass none from other sources.
    ///
    /// # Errors
    ///
    /// [`Error::StateRefused`], with the sequence empty, if llama.cpp refused them, for example because cells are
    /// lacking; otherwise as [`state_seq_size`](Self::state_seq_size).
    pub fn state_seq_set(&mut self, seq: i32, bytes: &[u8]) -> Result<(), Error> {
        self.usable()?;
        self.check_seq(seq)?;
        log::forget_said();
        let mut read = 0;
        // SAFETY: the context is alive and has the sequence; the bytes are passed with their length.
        let status = unsafe { sys::mullama_state_set(self.raw(), seq, bytes.as_ptr(), bytes.len(), &raw mut read) };
        self.poisoned_by(check("llama_state_seq_set_data", status))?;
        if read == 0 {
            let refused = Error::StateRefused { bytes: bytes.len(), said: log::take_said() };
            self.seq_rm(seq, 0, None)?;
            return Err(refused);
        }
        Ok(())
    }
}
