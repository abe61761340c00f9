//! A model on this machine.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::{Defaults, quant};

/// Most files of a split model whose sizes are added up, as in the check of GGUF files.
const PARTS_MOST: usize = 4096;

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
    /// Size of all its files in bytes.
    pub size: u64,
    /// The alias by which it was asked for; `None` if it was asked for by its own name.
    pub alias: Option<String>,
    /// Settings that the model's publisher recommends.
    pub defaults: Defaults,
}

impl LocalModel {
    /// A model without recommended settings.
    pub(crate) fn new(name: String, path: PathBuf, location: Location) -> Self {
        Self { size: size_of(&path), name, path, location, alias: None, defaults: Defaults::default() }
    }
}

/// Bytes of a model's files, whose first is at `path`. What cannot be read counts as 0.
fn size_of(path: &Path) -> u64 {
    let len = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let name = path.file_name().and_then(OsStr::to_str);
    let Some((group, parts)) = name.and_then(quant::split).filter(|(_, parts)| *parts <= PARTS_MOST) else {
        return len(path);
    };
    let part = |number: usize| path.with_file_name(format!("{group}-{number:05}-of-{parts:05}.gguf"));
    (1..=parts).map(|number| len(&part(number))).sum()
}

/// A file or folder that cannot be read, although it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unreadable {
    /// The file or folder.
    #[serde(serialize_with = "path_as_text")]
    pub path: PathBuf,
    /// Why, such as `Permission denied (os error 13)`.
    pub reason: String,
}

impl Unreadable {
    pub(crate) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot be read: {}", self.path.display(), self.reason)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_split_model_is_that_of_all_its_parts() {
        let folder = tempfile::tempdir().unwrap();
        for (name, len) in [("m-00001-of-00003.gguf", 5), ("m-00002-of-00003.gguf", 70), ("m-00003-of-00003.gguf", 900)]
        {
            fs::write(folder.path().join(name), vec![0; len]).unwrap();
        }
        assert_eq!(size_of(&folder.path().join("m-00001-of-00003.gguf")), 975);
        fs::write(folder.path().join("m.gguf"), "1234").unwrap();
        assert_eq!(size_of(&folder.path().join("m.gguf")), 4);
        assert_eq!(size_of(&folder.path().join("missing.gguf")), 0);
    }
}
