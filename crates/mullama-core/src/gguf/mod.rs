//! Checks a GGUF file before llama.cpp sees it, so that a corrupt one is an error and not a crash.
//!
//! llama.cpp reads model files with assertions, divisions and indices of its own; on a worker thread nothing can catch
//! them. This reader is bounded by the file's length: it allocates nothing that the file has no bytes for, and its
//! work is linear in the header. It knows the structure of the file, and those hyperparameters and shapes that
//! llama.cpp relies on. The data of the tensors is not looked at.

mod arch;
mod error;
mod header;
mod hparams;
mod metadata;
mod partners;
mod reader;
mod shapes;
mod shards;
mod tensors;
mod vocab;

use std::path::Path;

use arch::Arch;
pub use error::GgufError;
use header::Header;

/// What a file that passed says about its model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The GGUF version.
    pub version: u32,
    /// The model architecture, such as `llama`.
    pub architecture: String,
    /// How many tokens the model was trained to look back; `None` for what is no language model.
    pub context_len: Option<u32>,
    /// How wide the embeddings are.
    pub embedding_len: Option<u32>,
    /// How many positions the model has learnt a table of; `None` where it computes them.
    pub positions: Option<u32>,
    /// How many blocks the model has.
    pub blocks: Option<u32>,
    /// How many tokens the vocabulary has; `None` where the file has no vocabulary.
    pub vocab_len: Option<u64>,
    /// How many tensors there are, in all shards.
    pub tensors: usize,
    /// How many bytes the file has, with all its shards.
    pub file_len: u64,
    /// How many files the model is split over; 1 for a whole one.
    pub shards: u16,
}

/// Reads the header of the model at `path`, and of all its shards, and refuses what llama.cpp could not survive.
///
/// What llama.cpp refuses by itself with an error, such as an architecture it does not know, may pass.
///
/// # Errors
///
/// A [`GgufError`] says what is wrong, where, and by how much.
///
/// ```
/// use mullama::gguf::{self, GgufError};
///
/// let directory = gguf::check(std::path::Path::new("."));
/// assert!(matches!(directory, Err(GgufError::NotAFile { .. })));
/// ```
pub fn check(path: &Path) -> Result<Checked, GgufError> {
    let mut header = Header::read(path)?;
    let shards = shards::join(path, &mut header)?;
    let key = "general.architecture";
    let name = header.metadata.text(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })?;
    let arch = Arch::new(name);
    let mut checked = Checked {
        version: header.version,
        architecture: name.to_owned(),
        context_len: None,
        embedding_len: None,
        positions: None,
        blocks: None,
        vocab_len: None,
        tensors: header.tensors.len(),
        file_len: header.file_len,
        shards,
    };
    if arch.is_language_model() {
        let hparams = hparams::check(&header.metadata, &arch)?;
        checked.vocab_len = vocab::check(&header.metadata, name)?;
        shapes::check(&header.tensors, &arch, &hparams, checked.vocab_len)?;
        partners::check(&header.tensors, &arch)?;
        let table = header.tensors.iter().find(|tensor| tensor.name == "position_embd.weight");
        checked.positions = table.map(|table| u32::try_from(table.shape[1]).unwrap_or(u32::MAX));
        checked.context_len = Some(hparams.context_len);
        checked.embedding_len = Some(hparams.embedding_len);
        checked.blocks = Some(hparams.blocks);
    }
    Ok(checked)
}
