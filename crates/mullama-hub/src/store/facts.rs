//! An index of what the headers of models say, so that a list need not read them again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

use mullama::gguf;
use serde::{Deserialize, Serialize};

use super::Store;
use super::files::{self, read_small};
use crate::Unreadable;
use crate::download::without_path;

/// Most bytes of the index.
const INDEX_LEN_MOST: u64 = 8 << 20;
/// Most models in the index.
const MODELS_MOST: usize = 10_000;
/// The index of another version is not read.
const VERSION: u32 = 1;

/// What the header of a model says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// The model architecture.
    pub(crate) architecture: Option<String>,
    /// Number of weights.
    pub(crate) parameters: u64,
    /// The name of the quantization.
    pub(crate) quantization: Option<String>,
    /// The context length that the model was trained for, in tokens.
    pub(crate) context_len: Option<u32>,
    /// Size of all its files in bytes.
    pub(crate) len: u64,
}

/// An entry: facts, and the file that they belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    file_len: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    facts: Facts,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    version: u32,
    models: BTreeMap<String, Entry>,
}

/// The index while it is used.
pub(crate) struct Index {
    models: BTreeMap<String, Entry>,
    is_changed: bool,
}

impl Index {
    /// Reads the index of a store; one that is missing or damaged is empty.
    pub(crate) fn read(store: &Store) -> Self {
        let bytes = read_small(&store.root().join("facts.json"), INDEX_LEN_MOST).unwrap_or_default();
        let document = serde_json::from_slice::<Document>(&bytes).unwrap_or_default();
        let models = if document.version == VERSION { document.models } else { BTreeMap::new() };
        Self { models, is_changed: false }
    }

    /// The facts of the model at `path`.
    ///
    /// # Errors
    ///
    /// Why its header cannot be read.
    pub(crate) fn facts(&mut self, path: &Path) -> Result<Facts, Unreadable> {
        // A path that is no text is read each time.
        let key = path.to_str();
        let found = std::fs::metadata(path).map_err(|error| Unreadable::new(path, error))?;
        let (file_len, modified) = (found.len(), modified(&found));
        if let Some(entry) = key.and_then(|key| self.models.get(key))
            && (entry.file_len, entry.modified) == (file_len, modified)
        {
            return Ok(entry.facts.clone());
        }
        let facts = describe(path)?;
        if let Some(key) = key {
            self.models.insert(key.to_owned(), Entry { file_len, modified, facts: facts.clone() });
            self.is_changed = true;
        }
        Ok(facts)
    }

    /// Writes the index if it changed, without models that are gone. It only saves time, so a store that cannot be
    /// written to is no error; of two processes at once, one wins.
    pub(crate) fn save(mut self, store: &Store) {
        if !self.is_changed {
            return;
        }
        self.models.retain(|path, _| Path::new(path).exists());
        while self.models.len() > MODELS_MOST {
            self.models.pop_first();
        }
        let document = Document { version: VERSION, models: self.models };
        if let (Ok(folder), Ok(bytes)) = (files::make_folders::<&str>(store.root(), &[]), serde_json::to_vec(&document))
        {
            let _ = files::write(&folder, "facts.json", &bytes);
        }
    }
}

fn modified(found: &Metadata) -> u64 {
    let modified = found.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    modified.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn describe(path: &Path) -> Result<Facts, Unreadable> {
    let invalid = |error: gguf::GgufError| Unreadable::new(path, without_path(&error, path));
    let description = gguf::describe(path).map_err(invalid)?;
    Ok(Facts {
        architecture: description.text("general.architecture").map(|text| text.chars().take(64).collect()),
        parameters: description.parameters(),
        quantization: description.quantization().map(str::to_owned),
        context_len: description.count("context_length"),
        len: description.file_len,
    })
}
