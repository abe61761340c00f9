//! Lists the models on this machine.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use mullama::MullamaError;
use serde::Serialize;

use crate::store::facts::Index;
use crate::store::lm_studio;
use crate::store::ollama::Layout;
use crate::store::repo_files::LocalRepo;
use crate::{Hub, Location, ModelName};

/// Most models that are listed.
const LISTED_MOST: usize = 10_000;

/// A model in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listed {
    /// The name that finds it.
    pub name: String,
    /// Size of all its files in bytes.
    pub size: u64,
    /// The quantization, such as `Q4_K_M`.
    pub quantization: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// The context length that it was trained for, in tokens.
    pub context_length: Option<u32>,
    /// The model architecture, such as `llama`.
    pub architecture: Option<String>,
    /// Whose file it is.
    pub location: Location,
    /// When mullama used it last, in seconds since 1970.
    pub last_used: Option<u64>,
    /// The GGUF file; for a model in several files, the first of them.
    #[serde(serialize_with = "crate::local::path_as_text")]
    pub path: PathBuf,
    /// Other names for it.
    pub aliases: Vec<String>,
}

/// A model before its file was looked at.
type Entry = (String, PathBuf, Location);

/// See [`Hub::list`].
pub(crate) fn list(hub: &Hub) -> Vec<Listed> {
    let mut aliases = BTreeMap::<String, Vec<String>>::new();
    for (alias, target) in hub.store().aliases() {
        aliases.entry(target.to_string()).or_default().push(alias.to_string());
    }
    let entries = entries(hub, &aliases);
    let store = hub.store();
    let mut index = Index::read(&store);
    let mut listed = Vec::with_capacity(entries.len());
    for (name, path, location) in entries {
        // A header that cannot be read belongs to no model that could be used.
        let Some(facts) = index.facts(&path) else {
            continue;
        };
        listed.push(Listed {
            size: facts.len,
            quantization: facts.quantization,
            parameters: facts.parameters,
            context_length: facts.context_len,
            architecture: facts.architecture,
            location,
            last_used: store.last_used(&path),
            aliases: aliases.get(&name).cloned().unwrap_or_default(),
            name,
            path,
        });
    }
    index.save(&store);
    listed.sort_by(|a, b| (&a.name, a.location).cmp(&(&b.name, b.location)));
    listed
}

/// All models in the order of [`Hub::find`], each name of a location and each path once.
fn entries(hub: &Hub, aliases: &BTreeMap<String, Vec<String>>) -> Vec<Entry> {
    let mut all = Vec::new();
    of_layout(&hub.store().layout(), Location::Mullama, &mut all);
    for model in hub.store().url_models() {
        all.push((model.url, hub.store().blob(&model.digest), Location::Mullama));
    }
    for store in &hub.config().ollama_stores {
        of_layout(&Layout::new(store.clone()), Location::Ollama, &mut all);
    }
    let of_repo = |repo: &LocalRepo, location, all: &mut Vec<Entry>| {
        all.extend(repo.models().into_iter().map(|(name, path)| (name, path, location)));
    };
    for repo in hub.hugging_face().repos() {
        for snapshot in &repo.snapshots() {
            of_repo(snapshot, Location::HuggingFace, &mut all);
        }
    }
    for folder in &hub.config().lm_studio_folders {
        for repo in &lm_studio::repos(folder) {
            of_repo(repo, Location::LmStudio, &mut all);
        }
    }
    for target in aliases.keys().filter_map(|target| ModelName::parse(target).ok()) {
        if let ModelName::Path(path) = &target {
            all.push((target.to_string(), path.clone(), Location::File));
        }
    }
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    all.retain(|(name, path, location)| {
        let is_new_path = *location == Location::Mullama || paths.insert(path.clone());
        names.insert((name.clone(), *location)) && is_new_path
    });
    all.truncate(LISTED_MOST);
    all
}

fn of_layout(layout: &Layout, location: Location, all: &mut Vec<Entry>) {
    for parts in layout.names() {
        let Some(name) = ModelName::from_parts(parts.each_ref().map(String::as_str)) else {
            continue;
        };
        if let Ok(Some(stored)) = layout.manifest(&parts)
            && let Ok(path) = layout.model(&stored.manifest)
        {
            all.push((name.to_string(), path, location));
        }
    }
}

impl Hub {
    /// The models on this machine, by name: those of mullama, Ollama, the shared cache of Hugging Face and LM Studio.
    /// Files whose header cannot be read are left out. What the headers say is kept in an index in mullama's store, so
    /// that the next list is fast.
    ///
    /// # Errors
    ///
    /// None at present; folders that cannot be read are left out.
    pub fn list(&self) -> Result<Vec<Listed>, MullamaError> {
        Ok(list(self))
    }
}
