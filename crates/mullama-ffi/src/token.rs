//! The number of a token in a vocabulary.

/// A token's number in its vocabulary.
///
/// A plain integer, because tokens are stored and compared by the million; each call that takes one checks its range.
pub type TokenId = i32;
