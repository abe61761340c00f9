//! The tokens of one decode: each token, its position and sequence, and whether its logits are needed.

use crate::error::Error;
use crate::sys;
use crate::token::TokenId;

/// Tokens to decode together. It has a fixed capacity, and is cleared and refilled for each step.
#[derive(Debug, Clone)]
pub struct Batch {
    capacity: usize,
    tokens: Vec<TokenId>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    wanted: Vec<i8>,
    outputs: usize,
}

impl Batch {
    /// Creates an empty batch for at most `capacity` tokens; nothing is allocated afterwards.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            tokens: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
            sequences: Vec::with_capacity(capacity),
            wanted: Vec::with_capacity(capacity),
            outputs: 0,
        }
    }

    /// Adds a token and returns its row, which is the argument of [`Context::logits`](crate::Context::logits) after the
    /// decode if `output` is set. Ranges are checked by the decode, which knows the model.
    ///
    /// # Errors
    ///
    /// [`Error::BatchFull`].
    pub fn push(&mut self, token: TokenId, position: i32, seq: i32, output: bool) -> Result<usize, Error> {
        let row = self.tokens.len();
        if row == self.capacity {
            return Err(Error::BatchFull { capacity: self.capacity });
        }
        self.tokens.push(token);
        self.positions.push(position);
        self.sequences.push(seq);
        self.wanted.push(i8::from(output));
        self.outputs += usize::from(output);
        Ok(row)
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wanted.clear();
        self.outputs = 0;
    }

    /// Number of tokens in the batch.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the batch has no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Number of rows whose logits are needed.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Maximum number of tokens.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Token, position and sequence of each row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (TokenId, i32, i32)> + '_ {
        let positions = self.positions.iter().zip(&self.sequences);
        self.tokens.iter().zip(positions).map(|(&token, (&position, &seq))| (token, position, seq))
    }

    /// One flag per row: whether its logits are needed.
    pub(crate) fn wanted(&self) -> &[i8] {
        &self.wanted
    }

    /// The batch as a C struct, which is valid as long as this batch is neither changed nor dropped.
    pub(crate) fn raw(&self) -> sys::Batch {
        sys::Batch {
            n_tokens: i32::try_from(self.tokens.len()).unwrap_or(i32::MAX),
            tokens: self.tokens.as_ptr(),
            positions: self.positions.as_ptr(),
            sequences: self.sequences.as_ptr(),
            outputs: self.wanted.as_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_refuses_one_token_more_than_its_capacity() {
        let mut batch = Batch::new(2);
        assert_eq!(batch.push(1, 0, 0, false).expect("room"), 0);
        assert_eq!(batch.push(2, 1, 0, true).expect("room"), 1);
        let error = batch.push(3, 2, 0, true).expect_err("full");
        assert!(matches!(error, Error::BatchFull { capacity: 2 }));
        assert_eq!((batch.len(), batch.outputs()), (2, 1));
        batch.clear();
        assert_eq!((batch.is_empty(), batch.outputs()), (true, 0));
    }
}
