//! The number of a token in a vocabulary.

use crate::error::Error;

/// A token's number in its vocabulary.
///
/// Plain, because tokens are stored and compared by the million; each call that takes one checks its range.
pub type TokenId = i32;

/// The id, if a vocabulary of `n_vocab` tokens has it.
pub(crate) fn check_token(token: TokenId, n_vocab: usize) -> Result<TokenId, Error> {
    match usize::try_from(token) {
        Ok(index) if index < n_vocab => Ok(token),
        _ => Err(Error::TokenOutOfRange { token, n_vocab }),
    }
}
