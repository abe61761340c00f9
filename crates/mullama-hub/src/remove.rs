//! Removes what mullama downloaded, and nothing else.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use mullama::{DownloadFailure, MullamaError};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::alias::disk_error;
use crate::find::{self, refuse};
use crate::store::digest::Digest;
use crate::store::files::{self, names_in, read_small};
use crate::store::pulls::PullRecord;
use crate::{Hub, HuggingFaceName, Location, ModelName, RegistryName};

/// Most bytes of the record beside an unfinished file.
const RECORD_LEN_MOST: u64 = 4 << 20;
/// What the names of unfinished files end in.
const UNFINISHED: [&str; 3] = [".part", ".part.json", ".incomplete"];

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// The canonical name.
    pub name: String,
    /// The files.
    #[serde(serialize_with = "crate::local::paths_as_texts")]
    pub files: Vec<PathBuf>,
    /// Their bytes.
    pub bytes: u64,
    /// Names that stood for the model, and are gone too.
    pub aliases: Vec<String>,
    /// Why files stay that may not be needed any more.
    pub kept: Option<String>,
}

impl Removed {
    /// Removes a file; one that is not there is no error.
    fn file(&mut self, path: &Path) -> Result<(), DownloadFailure> {
        let len = fs::symlink_metadata(path).map_or(0, |found| found.len());
        if files::remove(path)? {
            self.bytes += len;
            self.files.push(path.to_owned());
        }
        Ok(())
    }

    /// Notes why the blobs stay.
    fn keep(&mut self, why: String) {
        tracing::warn!(name = self.name, %why, "the files of the model stay, for other models may need them");
        self.kept = Some(why);
    }

    /// Removes a blob, unless another process is downloading it.
    fn blob(&mut self, path: &Path) -> Result<(), DownloadFailure> {
        let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
        let lock = fs::File::options().write(true).open(with(".lock"));
        if let Ok(lock) = &lock
            && lock.try_lock().is_err()
        {
            return Ok(());
        }
        self.file(path)?;
        UNFINISHED.iter().try_for_each(|suffix| self.file(&with(suffix)))
    }
}

/// See [`Hub::remove`].
fn remove(hub: &Hub, text: &str) -> Result<Removed, MullamaError> {
    if text != "demo" && Path::new(text).is_file() {
        return Err(refuse(text, "a model that mullama downloaded; this is a file, which you can delete yourself"));
    }
    let name = ModelName::parse(text)?;
    let shown = name.without_query();
    let on_disk = |failure| disk_error("remove", &shown, failure);
    let _lock = hub.store().lock_if_there().map_err(on_disk)?;
    let mut removed = Removed { name: shown.clone(), ..Removed::default() };
    match &name {
        ModelName::Registry(registry) => {
            if hub.store().remove_alias(registry).map_err(on_disk)? {
                removed.aliases.push(shown.clone());
                return Ok(removed);
            }
            of_registry(hub, registry, &mut removed).map_err(on_disk)?;
        }
        ModelName::HuggingFace(repo) => of_hugging_face(hub, repo, &mut removed).map_err(on_disk)?,
        ModelName::Url(url) => of_url(hub, url, &mut removed).map_err(on_disk)?,
        ModelName::Demo | ModelName::Path(_) => {}
    }
    if removed.files.is_empty() {
        return Err(not_removed(hub, text));
    }
    for (alias, target) in hub.store().aliases() {
        if target.without_query() == shown && hub.store().remove_alias(&alias).map_err(on_disk)? {
            removed.aliases.push(alias.to_string());
        }
    }
    removed.files.iter().for_each(|path| hub.store().forget_last_used(path));
    Ok(removed)
}

/// Why nothing was removed: there is no such model, or it belongs to another program.
fn not_removed(hub: &Hub, text: &str) -> MullamaError {
    let found = match find::find(hub, text) {
        Ok(found) => found.model,
        Err(error) => return error,
    };
    let owner = match found.location {
        Location::File if text == "demo" => "this is part of mullama itself".to_owned(),
        Location::File => "this is a file, which you can delete yourself".to_owned(),
        Location::Mullama => "another process is downloading this one; try again later".to_owned(),
        Location::HuggingFace => {
            format!("another program put {} into the shared cache; remove it with `hf cache`", found.path.display())
        }
        Location::Ollama => format!("this one belongs to Ollama; remove it with `ollama rm {text}`"),
        Location::LmStudio => format!("this one belongs to LM Studio, at {}; remove it there", found.path.display()),
    };
    refuse(text, &format!("a model that mullama downloaded; {owner}"))
}

/// Removes a manifest and the blobs that no other manifest uses, and unfinished downloads of the model.
fn of_registry(hub: &Hub, name: &RegistryName, removed: &mut Removed) -> Result<(), DownloadFailure> {
    let (store, layout) = (hub.store(), hub.store().layout());
    let manifests = store.root().join("manifests");
    let exact = name.parts().iter().fold(manifests.clone(), |path, part| path.join(part));
    let stored = layout.manifest(&name.parts()).ok().flatten();
    let path = stored.as_ref().map_or(exact, |stored| stored.path.clone());
    removed.file(&path)?;
    if let Some(folder) = path.parent() {
        files::remove_empty_folders(folder, &manifests);
    }
    let used = match used_blobs(hub) {
        Ok(used) => used,
        Err(why) => {
            removed.keep(why);
            return Ok(());
        }
    };
    let layers = stored.iter().flat_map(|stored| stored.manifest.layers.iter().chain(&stored.manifest.config));
    let unused = layers.map(|layer| &layer.digest).filter(|digest| !used.contains(*digest)).collect::<HashSet<_>>();
    for digest in unused {
        removed.blob(&store.blob(digest))?;
    }
    for part in unfinished(hub, name) {
        removed.blob(&part)?;
    }
    Ok(())
}

/// The digests that are still needed by some model of the store.
///
/// # Errors
///
/// Why it is not known which are needed: then none may be removed.
fn used_blobs(hub: &Hub) -> Result<HashSet<Digest>, String> {
    let layout = hub.store().layout();
    let mut used = hub.store().url_digests()?.into_iter().collect::<HashSet<_>>();
    for parts in layout.all_names()? {
        let layers =
            layout.manifest(&parts)?.map(|stored| stored.manifest.layers.into_iter().chain(stored.manifest.config));
        used.extend(layers.into_iter().flatten().map(|layer| layer.digest));
    }
    Ok(used)
}

/// The record beside an unfinished file, as far as it matters here.
#[derive(Deserialize)]
struct PartRecord {
    url: String,
}

/// The blobs, not there yet, of unfinished downloads of a model: their records name the address of its repository.
fn unfinished(hub: &Hub, name: &RegistryName) -> Vec<PathBuf> {
    let blobs = hub.store().root().join("blobs");
    let suffix = format!("/v2/{}/{}/blobs/", name.namespace, name.model);
    let host = name.host.clone().or_else(|| authority(&hub.config().registry));
    let is_of_model = |record: &PartRecord| match Url::parse(&record.url) {
        Ok(url) => authority(&url) == host && url.path().contains(&suffix),
        Err(_) => false,
    };
    let names = names_in(&blobs).into_iter().filter_map(|name| name.strip_suffix(".part.json").map(str::to_owned));
    let read = |blob: &String| {
        let bytes = read_small(&blobs.join(format!("{blob}.part.json")), RECORD_LEN_MOST).ok()?;
        serde_json::from_slice::<PartRecord>(&bytes).ok()
    };
    names.filter(|blob| read(blob).is_some_and(|record| is_of_model(&record))).map(|blob| blobs.join(blob)).collect()
}

/// The host of an address, with its port if that is not the usual one.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Removes what mullama downloaded from an address.
fn of_url(hub: &Hub, url: &Url, removed: &mut Removed) -> Result<(), DownloadFailure> {
    let store = hub.store();
    removed.blob(&store.url_blob(url))?;
    if let Some(model) = store.url_model(url) {
        removed.file(&model.record)?;
        match used_blobs(hub) {
            Ok(used) if used.contains(&model.digest) => {}
            Ok(_) => removed.blob(&store.blob(&model.digest))?,
            Err(why) => removed.keep(why),
        }
    }
    Ok(())
}

/// Removes the files of the shared cache that mullama downloaded for this name.
fn of_hugging_face(hub: &Hub, name: &HuggingFaceName, removed: &mut Removed) -> Result<(), DownloadFailure> {
    let found = find::find(hub, &name.to_string()).ok().map(|found| found.model.path);
    let repo = hub.hugging_face().repo(&name.user, &name.repo);
    let is_of = |record: &PullRecord| {
        let holds = |(file, _): &(String, String)| repo.snapshot(&record.pulled.commit, file).ok() == found;
        record.name == name.to_string() || (found.is_some() && record.pulled.files.iter().any(holds))
    };
    let all = hub.store().pulls(&name.user, &name.repo);
    let (ours, others) = all.into_iter().partition::<Vec<_>, _>(is_of);
    for record in ours {
        for (file, etag) in &record.pulled.files {
            let is_shared = others.iter().any(|other| {
                other.pulled.commit == record.pulled.commit && other.pulled.files.iter().any(|(path, _)| path == file)
            });
            if is_shared {
                continue;
            }
            let at = repo.snapshot(&record.pulled.commit, file)?;
            removed.file(&at)?;
            if let Some(folder) = at.parent() {
                files::remove_empty_folders(folder, &repo.folder().join("snapshots"));
            }
            let blob = repo.blob(etag)?;
            if !is_linked(&repo.folder().join("snapshots"), &blob, 0) {
                removed.blob(&blob)?;
            }
        }
        repo.forget(&record.pulled.commit)?;
        removed.file(&record.path)?;
        if let Some(folder) = record.path.parent() {
            files::remove_empty_folders(folder, hub.store().root());
        }
    }
    Ok(())
}

/// Whether some file below a folder is a link to the blob.
fn is_linked(folder: &Path, blob: &Path, depth: usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.take(files::ENTRIES_MOST).flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => depth < 8 && is_linked(&entry.path(), blob, depth + 1),
        Ok(kind) if kind.is_symlink() => {
            fs::read_link(entry.path()).is_ok_and(|target| target.file_name() == blob.file_name())
        }
        _ => false,
    })
}

impl Hub {
    /// Removes a model that mullama downloaded, with its unfinished parts and its aliases; or only an alias, if the name
    /// is one. Blobs that another model uses stay.
    ///
    /// # Errors
    ///
    /// [`MullamaError::InvalidConfig`] says whose a model is that mullama did not download, [`MullamaError::UnknownModel`]
    /// what was looked at if there is none, and [`MullamaError::Download`] which file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Removed, MullamaError> {
        remove(self, name)
    }
}
