//! A model on this machine.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::Defaults;

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LocalModel {
    /// The canonical name, such as `llama3.2:1b` or `hf.co/user/repo:Q4_K_M`; for a file, its path.
    pub name: String,
    /// The GGUF file; for a model in several files, the first of them.
    #[serde(serialize_with = "path_as_text")]
    pub path: PathBuf,
    /// Whose file it is.
    pub location: Location,
    /// Settings that the model's publisher recommends.
    pub defaults: Defaults,
}

/// Whose file a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// A file that was named by its path.
    File,
    /// mullama's own store.
    Mullama,
    /// The shared cache of Hugging Face.
    HuggingFace,
    /// The store of Ollama; never written to.
    Ollama,
    /// A folder of LM Studio; never written to.
    LmStudio,
}

/// Serializes a path as a text; what is not UTF-8 in it is replaced.
pub(crate) fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Serializes paths as texts.
pub(crate) fn paths_as_texts<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}
