//! Lists the models on this machine.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use mullama::MullamaError;
use serde::Serialize;

use crate::find::by_name;
use crate::store::Store;
use crate::store::facts::{Facts, Index};
use crate::store::files::Problems;
use crate::store::lm_studio;
use crate::store::ollama::Layout;
use crate::store::repo_files::LocalRepo;
use crate::{Hub, Location, ModelName, Unreadable};

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
    /// Whether there is no such model on this machine: only aliases stand for it, which `remove` removes. `path` is then
    /// where it was looked for, and its size is 0.
    pub missing: bool,
}

/// The models on this machine, and what could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Listing {
    /// The models, by name.
    pub models: Vec<Listed>,
    /// Files and folders of stores that cannot be read, so that models may be missing in the list; at most 100.
    pub unreadable: Vec<Unreadable>,
}

/// A model before its file was looked at.
struct Entry {
    name: String,
    path: PathBuf,
    location: Location,
    aliases: Vec<String>,
    is_missing: bool,
}

impl Entry {
    fn new(name: String, path: PathBuf, location: Location) -> Self {
        Self { name, path, location, aliases: Vec::new(), is_missing: false }
    }
}

/// See [`Hub::list`].
fn list(hub: &Hub) -> Listing {
    let (store, problems) = (hub.store(), Problems::default());
    let mut entries = entries(hub, &problems);
    add_aliases(hub, &mut entries, &problems);
    entries.truncate(LISTED_MOST);
    let mut index = Index::read(&store);
    let mut models = Vec::with_capacity(entries.len());
    for entry in entries {
        match index.facts(&entry.path) {
            Ok(facts) if !entry.is_missing => models.push(listed(entry, facts, &store)),
            // Whoever has the alias must be able to find it.
            _ if entry.is_missing || entry.location == Location::File => {
                models.push(listed(Entry { is_missing: true, ..entry }, Facts::default(), &store));
            }
            Err(why) if entry.location == Location::Mullama || is_forbidden(&entry.path) => problems.note(why),
            // A header that cannot be read belongs to no model that could be used.
            _ => {}
        }
    }
    index.save(&store);
    models.sort_by(|a, b| (&a.name, a.location).cmp(&(&b.name, b.location)));
    Listing { models, unreadable: problems.into_list() }
}

fn listed(entry: Entry, facts: Facts, store: &Store) -> Listed {
    Listed {
        size: facts.len,
        quantization: facts.quantization,
        parameters: facts.parameters,
        context_length: facts.context_len,
        architecture: facts.architecture,
        last_used: store.last_used(&entry.path),
        location: entry.location,
        aliases: entry.aliases,
        missing: entry.is_missing,
        name: entry.name,
        path: entry.path,
    }
}

/// Whether a file is there, but may not be opened.
fn is_forbidden(path: &Path) -> bool {
    std::fs::File::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// All models in the order of [`Hub::find`], each name of a location and each path once.
fn entries(hub: &Hub, problems: &Problems) -> Vec<Entry> {
    let (config, mut all) = (hub.config(), Vec::new());
    let roots = [&config.store, &config.hugging_face_cache].into_iter();
    for root in roots.chain(&config.ollama_stores).chain(&config.lm_studio_folders) {
        problems.check_store(root);
    }
    of_layout(&hub.store().layout(), Location::Mullama, &mut all, problems);
    for model in hub.store().url_models(problems) {
        all.push(Entry::new(model.url, hub.store().blob(&model.digest), Location::Mullama));
    }
    for store in &config.ollama_stores {
        of_layout(&Layout::new(store.clone()), Location::Ollama, &mut all, problems);
    }
    let of_repo = |repo: &LocalRepo, location, all: &mut Vec<Entry>| {
        all.extend(repo.models().into_iter().map(|(name, path)| Entry::new(name, path, location)));
    };
    for repo in hub.hugging_face().repos(problems) {
        for snapshot in &repo.snapshots(problems) {
            of_repo(snapshot, Location::HuggingFace, &mut all);
        }
    }
    for folder in &config.lm_studio_folders {
        for repo in &lm_studio::repos(folder, problems) {
            of_repo(repo, Location::LmStudio, &mut all);
        }
    }
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    all.retain(|entry| {
        let is_new_path = entry.location == Location::Mullama || paths.insert(entry.path.clone());
        names.insert((entry.name.clone(), entry.location)) && is_new_path
    });
    all
}

fn of_layout(layout: &Layout, location: Location, all: &mut Vec<Entry>, problems: &Problems) {
    for parts in layout.names(problems) {
        let Some(name) = ModelName::from_parts(parts.each_ref().map(String::as_str)) else {
            continue;
        };
        let stored = match layout.manifest(&parts) {
            Ok(Some(stored)) => stored,
            Ok(None) => continue,
            Err(why) => {
                problems.note(why);
                continue;
            }
        };
        match layout.model(&stored.manifest) {
            Ok(path) => all.push(Entry::new(name.to_string(), path, location)),
            Err(why) => match layout.unreadable(&stored.manifest) {
                Some(why) => problems.note(why),
                // The manifests of others need not be those of models that mullama could use.
                None if location == Location::Mullama => problems.note(Unreadable::new(&stored.path, why)),
                None => {}
            },
        }
    }
}

/// Puts each alias to the model that it stands for; to one of its own if that is a file, `demo`, or not on this machine.
fn add_aliases(hub: &Hub, entries: &mut Vec<Entry>, problems: &Problems) {
    let mut aliases = BTreeMap::<String, (ModelName, Vec<String>)>::new();
    for (alias, target) in hub.store().aliases(problems) {
        let (_, of_target) = aliases.entry(target.to_string()).or_insert_with(|| (target, Vec::new()));
        of_target.push(alias.to_string());
    }
    for (name, (target, of_target)) in aliases {
        if let Some(entry) = entries.iter_mut().find(|entry| entry.name == name) {
            entry.aliases = of_target;
            continue;
        }
        let found = by_name(hub, &target).ok().map(|found| found.model);
        let same = |entry: &&mut Entry| found.as_ref().is_some_and(|found| found.path == entry.path);
        match (entries.iter_mut().find(same), found) {
            (Some(entry), _) => entry.aliases.extend(of_target),
            (None, Some(found)) => {
                let entry = Entry::new(found.name, found.path, found.location);
                entries.push(Entry { aliases: of_target, ..entry });
            }
            (None, None) => {
                let entry = Entry::new(target.without_query(), expected_at(hub, &target), Location::File);
                entries.push(Entry { aliases: of_target, is_missing: true, ..entry });
            }
        }
    }
}

/// Where a model would be that is not on this machine.
fn expected_at(hub: &Hub, name: &ModelName) -> PathBuf {
    let store = hub.store();
    match name {
        ModelName::Demo => hub.config().demo.clone().unwrap_or_else(|| "demo".into()),
        ModelName::Path(path) => path.clone(),
        ModelName::Registry(name) => store.manifest_path(name),
        ModelName::HuggingFace(name) => hub.hugging_face().repo(&name.user, &name.repo).folder(),
        ModelName::Url(url) => store.url_blob(url),
    }
}

impl Hub {
    /// The models on this machine, by name: those of mullama, Ollama, the shared cache of Hugging Face and LM Studio,
    /// and what the user's aliases stand for. What the headers of their files say is kept in an index in mullama's
    /// store, so that the next list is fast. What cannot be read is in [`Listing::unreadable`].
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn list(&self) -> Result<Listing, MullamaError> {
        Ok(list(self))
    }
}
