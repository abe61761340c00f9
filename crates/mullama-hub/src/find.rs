//! Finds a model on this machine: the one order in which names are looked up, and the one error if there is none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mullama::gguf::GgufError;
use mullama::{ModelLoadFailure, MullamaError};

use crate::store::files::Problems;
use crate::store::lm_studio;
use crate::store::ollama::{Layout, Stored};
use crate::{Hub, HubConfig, HuggingFaceName, LocalModel, Location, ModelName, RegistryName};

/// What was looked at without success, in whole sentences.
type Tried = Vec<String>;

/// A model that was found, with its manifest if it has one.
pub(crate) struct Found {
    /// The model.
    pub(crate) model: LocalModel,
    /// The store and manifest that it comes from.
    pub(crate) manifest: Option<(Layout, Stored)>,
}

impl Found {
    fn file(name: &ModelName, path: PathBuf, location: Location) -> Self {
        Self { model: LocalModel::new(name.without_query(), path, location), manifest: None }
    }
}

/// See [`Hub::find`].
pub(crate) fn find(hub: &Hub, text: &str) -> Result<Found, MullamaError> {
    // An existing file wins over a name, except over `demo`; the file of that name is `./demo`.
    let at = Path::new(text);
    if text != "demo" && at.is_file() {
        return Ok(Found::file(&ModelName::Path(at.to_owned()), at.to_owned(), Location::File));
    }
    let name = ModelName::parse(text)?;
    if let ModelName::Path(path) = &name {
        let path = expand_home(path);
        return match (path.is_file(), path.exists()) {
            (true, _) => Ok(Found::file(&name, path, Location::File)),
            (false, true) => Err(refused(path.clone(), GgufError::NotAFile { path })),
            (false, false) => Err(MullamaError::ModelNotFound { path }),
        };
    }
    let (target, mut tried) = match &name {
        ModelName::Registry(registry) => match hub.store().alias(registry) {
            Some(target) => (target.clone(), vec![format!("{name} is an alias of {target}")]),
            None => (name.clone(), Vec::new()),
        },
        _ => (name.clone(), Vec::new()),
    };
    let alias = (target != name).then(|| name.to_string());
    match by_name(hub, &target) {
        Ok(found) => Ok(Found { model: LocalModel { alias, ..found.model }, ..found }),
        Err(more) => {
            tried.extend(more);
            Err(unknown(hub.config(), &name, &target, tried))
        }
    }
}

/// Looks up a name that is no alias.
pub(crate) fn by_name(hub: &Hub, name: &ModelName) -> Result<Found, Tried> {
    match name {
        ModelName::Demo => {
            let demo = hub.config().demo.clone().filter(|demo| demo.is_file());
            let demo = demo.ok_or_else(|| vec!["this program comes without it".to_owned()])?;
            Ok(Found::file(name, demo, Location::File))
        }
        ModelName::Path(path) if path.is_file() => Ok(Found::file(name, path.clone(), Location::File)),
        ModelName::Path(path) => Err(vec![format!("there is no file {}", path.display())]),
        ModelName::Registry(registry) => manifests(hub, name, &registry.parts()),
        ModelName::HuggingFace(repo) => hugging_face(hub, name, repo),
        ModelName::Url(url) => {
            let store = hub.store();
            let missing = || vec![format!("it was not downloaded to {}", store.root().display())];
            let model = store.url_model(url).ok_or_else(missing)?;
            let path = store.blob(&model.digest);
            match std::fs::metadata(&path) {
                Ok(found) if found.len() == model.len => Ok(Found::file(name, path, Location::Mullama)),
                _ => Err(vec![format!("its file {} is missing or incomplete", path.display())]),
            }
        }
    }
}

/// Looks for a manifest in mullama's store, and then in Ollama's.
fn manifests(hub: &Hub, name: &ModelName, parts: &[String; 4]) -> Result<Found, Tried> {
    let mut tried = Vec::new();
    match of_layout(&hub.store().layout(), name, parts, Location::Mullama) {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => tried.push(format!("it is not in {}", hub.config().store.display())),
        Err(why) => tried.push(why),
    }
    tried.extend(match ollama(hub, name, parts) {
        Ok(found) => return Ok(found),
        Err(more) => more,
    });
    Err(tried)
}

fn ollama(hub: &Hub, name: &ModelName, parts: &[String; 4]) -> Result<Found, Tried> {
    let mut tried = Vec::new();
    for root in &hub.config().ollama_stores {
        match of_layout(&Layout::new(root.clone()), name, parts, Location::Ollama) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if root.join("manifests").is_dir() => tried.push(format!("it is not in {}", root.display())),
            Ok(None) => {}
            Err(why) => tried.push(why),
        }
    }
    if tried.is_empty() {
        tried.push("Ollama has no store here".to_owned());
    }
    Err(tried)
}

/// Looks into one store in Ollama's layout.
pub(crate) fn of_layout(
    layout: &Layout,
    name: &ModelName,
    parts: &[String; 4],
    location: Location,
) -> Result<Option<Found>, String> {
    let Some(stored) = layout.manifest(parts).map_err(|why| why.to_string())? else {
        return Ok(None);
    };
    let path = layout.model(&stored.manifest).map_err(|why| format!("{}: {why}", layout.root().display()))?;
    let defaults = layout.defaults(&stored.manifest);
    let model = LocalModel { defaults, ..LocalModel::new(name.to_string(), path, location) };
    Ok(Some(Found { model, manifest: Some((layout.clone(), stored)) }))
}

/// Looks for files of a repository: in Ollama's stores, the shared cache, and LM Studio's folders.
fn hugging_face(hub: &Hub, name: &ModelName, repo: &HuggingFaceName) -> Result<Found, Tried> {
    let mut tried = Vec::new();
    if repo.file.is_none() {
        for host in ["hf.co", "huggingface.co"] {
            let tag = repo.quant.as_deref().unwrap_or("latest");
            let parts = [host, &repo.user, &repo.repo, tag].map(str::to_owned);
            match ollama(hub, name, &parts) {
                Ok(found) => return Ok(found),
                Err(more) if host == "hf.co" => tried.extend(more),
                Err(_) => {}
            }
        }
    }
    let (mut why, problems) = (None, Problems::default());
    for snapshot in hub.hugging_face().repo(&repo.user, &repo.repo).snapshots(&problems) {
        match snapshot.choose(repo) {
            Ok(path) => return Ok(Found::file(name, path, Location::HuggingFace)),
            Err(no_choice) => why = why.or(Some(no_choice.found)),
        }
    }
    let cache = hub.config().hugging_face_cache.display();
    tried.push(why.map_or_else(|| format!("it is not in {cache}"), |why| format!("in {cache}, {why}")));
    for folder in &hub.config().lm_studio_folders {
        match lm_studio::find(folder, &repo.user, &repo.repo, &problems).map(|found| found.choose(repo)) {
            Some(Ok(path)) => return Ok(Found::file(name, path, Location::LmStudio)),
            Some(Err(no_choice)) => tried.push(format!("in {}, {}", folder.display(), no_choice.found)),
            None => {}
        }
    }
    tried.extend(problems.into_list().iter().map(ToString::to_string));
    Err(tried)
}

/// The one error for a name that is not on this machine.
fn unknown(config: &HubConfig, name: &ModelName, target: &ModelName, tried: Tried) -> MullamaError {
    let shown = target.without_query();
    let pull = match &config.offline {
        Some(by) => format!("downloads are turned off ({by}); turn them on and pull {shown}"),
        None => format!("pull it with `mullama pull {shown}`"),
    };
    let advice = match target {
        ModelName::Demo => "install the Python package, or name another model".to_owned(),
        ModelName::Registry(RegistryName { host: None, namespace, model, .. }) if namespace != "library" => {
            format!("{pull}, or name a model of Hugging Face as hf.co/{namespace}/{model}")
        }
        ModelName::Path(_) => format!("remove the alias with `mullama rm {name}`, or bring the file back"),
        _ => pull,
    };
    MullamaError::UnknownModel { name: name.without_query(), tried, advice }
}

/// A path that leads to something else than a model.
pub(crate) fn refused(path: PathBuf, error: GgufError) -> MullamaError {
    MullamaError::ModelLoad { path, source: ModelLoadFailure::Gguf(Arc::new(error)) }
}

fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) if !path.exists() => home.join(rest),
        _ => path.to_owned(),
    }
}

/// A name that cannot be used for what was asked.
pub(crate) fn refuse(name: &str, range: &str) -> MullamaError {
    let value = ModelName::parse(name).map_or_else(|_| name.chars().take(200).collect(), |name| name.without_query());
    MullamaError::InvalidConfig { field: "model", value, range: range.to_owned() }
}
