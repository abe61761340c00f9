//! Checks a GGUF file before llama.cpp reads it, so that a corrupt file causes an error and not a crash.
//!
//! llama.cpp asserts on, divides by and indexes with numbers from the file, and a failure on one of its worker threads
//! cannot be caught. This reader checks the structure of the file, and the hyperparameters and shapes that llama.cpp
//! relies on. It allocates no more than the file has bytes for, and its work is linear in the size of the header. It
//! does not read the data of tensors.
//!
//! Several tables here repeat knowledge of llama.cpp; `tools/compare_llama_cpp.py` compares them with its sources.

mod arch;
mod describe;
mod error;
mod header;
mod hparams;
mod metadata;
mod names;
mod partners;
mod reader;
mod shapes;
mod shards;
mod tensors;
mod vocab;

use std::path::{Path, PathBuf};

use arch::Arch;
pub use describe::{Description, MetadataValue, TensorTotal, describe};
pub use error::GgufError;
use header::Header;
pub use names::file_type_name;

/// Facts about the model in a file that passed the check.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The GGUF version.
    pub version: u32,
    /// The model architecture, such as `llama`.
    pub architecture: String,
    /// Context length that the model was trained for, in tokens; `None` if it is not a language model.
    pub context_len: Option<u32>,
    /// Width of the embeddings.
    pub embedding_len: Option<u32>,
    /// Number of positions in the learned position table; `None` if the model computes positions.
    pub positions: Option<u32>,
    /// Number of blocks of the model.
    pub blocks: Option<u32>,
    /// Number of tokens in the vocabulary; `None` if the file has no vocabulary.
    pub vocab_len: Option<u64>,
    /// Number of tensors in all shards.
    pub tensors: usize,
    /// Size of the file in bytes, including all its shards.
    pub file_len: u64,
    /// Number of files that the model is split into; 1 if it is not split.
    pub shards: u16,
}

impl Checked {
    /// The paths of all files of the model that was checked at `path`.
    pub(crate) fn files(&self, path: &Path) -> Vec<PathBuf> {
        if self.shards == 1 {
            return vec![path.to_owned()];
        }
        shards::paths(path, self.shards).unwrap_or_default()
    }
}

/// Reads the header of the model at `path` and of all its shards, and refuses files that would crash llama.cpp.
///
/// Files that llama.cpp itself refuses with an error, such as those with an unknown architecture, may pass.
///
/// # Errors
///
/// A [`GgufError`] states what is wrong, where, and by how much.
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
