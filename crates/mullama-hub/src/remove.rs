//! Removes what mullama downloaded, and nothing else.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use mullama::{DownloadFailure, MullamaError};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::alias::disk_error;
use crate::find::{self, refuse};
use crate::store::digest::Digest;
use crate::store::files::{self, Problems, beside, names_in, read_small};
use crate::store::hugging_face::Repo;
use crate::store::lock::try_passing_lock;
use crate::store::pulls::PullRecord;
use crate::{Hub, HuggingFaceName, Location, ModelName, RegistryName, Unreadable};

/// Most bytes of a lock's file, which names what is downloaded.
const LOCK_LEN_MOST: u64 = 4096;
/// Most bytes of the record beside an unfinished file.
const RECORD_LEN_MOST: u64 = 4 << 20;
const BUSY: &str = "is being downloaded by another process";
/// What can be removed instead of a file.
const FILE: &str = "a model that mullama downloaded; this is a file, which you can delete yourself";
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
    pub kept: Option<Kept>,
}

/// Why files of a removed model stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Kept {
    /// What is in the way: a file that cannot be read, or one that is in use.
    #[serde(serialize_with = "crate::local::path_as_text")]
    pub path: PathBuf,
    /// Why, as a sentence about `path` without its subject, such as `cannot be read: Permission denied (os error 13)`.
    pub reason: String,
}

impl From<Unreadable> for Kept {
    fn from(unreadable: Unreadable) -> Self {
        Self { path: unreadable.path, reason: format!("cannot be read: {}", unreadable.reason) }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.reason)
    }
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

    /// Notes why files stay.
    fn keep(&mut self, why: impl Into<Kept>) {
        let why = why.into();
        tracing::warn!(name = self.name, %why, "files of the model stay");
        self.kept = Some(why);
    }

    /// Removes a blob and what an unfinished download left beside it, unless another process is downloading it.
    fn blob(&mut self, path: &Path, lock: &Path) -> Result<(), DownloadFailure> {
        self.unless_busy(path, lock, |removed| {
            removed.file(path)?;
            removed.unfinished(path)
        })
    }

    /// Removes what an unfinished download left beside a blob.
    fn unfinished(&mut self, path: &Path) -> Result<(), DownloadFailure> {
        UNFINISHED.iter().try_for_each(|suffix| self.file(&beside(path, suffix)))
    }

    /// Does something with a blob while nobody downloads it.
    fn unless_busy(
        &mut self,
        path: &Path,
        lock: &Path,
        act: impl FnOnce(&mut Self) -> Result<(), DownloadFailure>,
    ) -> Result<(), DownloadFailure> {
        match try_passing_lock(lock) {
            Ok(None) => {
                self.keep(Kept::busy(path));
                Ok(())
            }
            // Where no lock can be made, nobody can download.
            _lock => act(self),
        }
    }
}

impl Kept {
    /// A file that another process downloads.
    fn busy(path: &Path) -> Self {
        Self { path: path.to_owned(), reason: BUSY.to_owned() }
    }

    fn is_busy(&self) -> bool {
        self.reason == BUSY
    }
}

/// See [`Hub::remove`].
fn remove(hub: &Hub, text: &str) -> Result<Removed, MullamaError> {
    // Only names are removed, so that a file which happens to have the name of a model is in nobody's way.
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
        return Err(match removed.kept.filter(Kept::is_busy) {
            Some(Kept { path, reason }) => {
                let message = format!("it {reason}; try again when that has ended");
                on_disk(DownloadFailure::Disk { path, message })
            }
            None => not_removed(hub, &name),
        });
    }
    for (alias, target) in hub.store().aliases(&Problems::default()) {
        if target.without_query() == shown && hub.store().remove_alias(&alias).map_err(on_disk)? {
            removed.aliases.push(alias.to_string());
        }
    }
    removed.files.iter().for_each(|path| hub.store().forget_last_used(path));
    Ok(removed)
}

/// Why nothing was removed: there is no such model, or it belongs to another program.
fn not_removed(hub: &Hub, name: &ModelName) -> MullamaError {
    let text = &name.without_query();
    let found = match (find::by_name(hub, name), name) {
        (Ok(found), _) => found.model,
        (Err(_), ModelName::Path(_)) => return find::find(hub, text).err().unwrap_or_else(|| refuse(text, FILE)),
        (Err(tried), _) => {
            let advice = "`mullama list` shows the models that are here".to_owned();
            return MullamaError::UnknownModel { name: text.clone(), tried, advice };
        }
    };
    let owner = match found.location {
        Location::File if text == "demo" => "this is part of mullama itself".to_owned(),
        Location::File | Location::Mullama => return refuse(text, FILE),
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
    let stored = layout.manifest(&name.parts()).ok().flatten();
    let path = stored.as_ref().map_or_else(|| store.manifest_path(name), |stored| stored.path.clone());
    removed.file(&path)?;
    if let Some(folder) = path.parent() {
        files::remove_empty_folders(folder, &manifests);
    }
    // Another model may have got such a blob meanwhile, so only what is beside it goes.
    for path in unfinished(hub, name) {
        removed.unless_busy(&path, &beside(&path, ".lock"), |removed| removed.unfinished(&path))?;
    }
    let used = match used_blobs(hub) {
        Ok(used) => used,
        Err(why) => {
            removed.keep(why);
            return Ok(());
        }
    };
    let layers = stored.iter().flat_map(|stored| stored.manifest.layers.iter().chain(&stored.manifest.config));
    let mut unused = layers.map(|layer| layer.digest.clone()).collect::<HashSet<_>>();
    // While the model is being downloaded, what has arrived of it is needed.
    let has_ended = removed.kept.is_none();
    if has_ended {
        unused.extend(store.begun_pull(name));
    }
    for digest in unused.difference(&used) {
        let path = store.blob(digest);
        removed.blob(&path, &beside(&path, ".lock"))?;
    }
    if has_ended { store.end_pull(name) } else { Ok(()) }
}

/// The digests that are still needed by some model of the store.
///
/// # Errors
///
/// Why it is not known which are needed: then none may be removed.
fn used_blobs(hub: &Hub) -> Result<HashSet<Digest>, Unreadable> {
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

/// The blobs, not there yet, of unfinished downloads of a model: their records name the address of its repository, and
/// their locks the model.
fn unfinished(hub: &Hub, name: &RegistryName) -> HashSet<PathBuf> {
    let blobs = hub.store().root().join("blobs");
    let suffix = format!("/v2/{}/{}/blobs/", name.namespace, name.model);
    let host = name.host.clone().or_else(|| authority(&hub.config().registry));
    let is_of_model = |record: &PartRecord| match Url::parse(&record.url) {
        Ok(url) => authority(&url) == host && url.path().contains(&suffix),
        Err(_) => false,
    };
    let read = |file: &str, most| read_small(&blobs.join(file), most).ok();
    let is_ours = |file: &str| match file.rsplit_once('.') {
        Some((_, "lock")) => read(file, LOCK_LEN_MOST).is_some_and(|text| text == name.to_string().as_bytes()),
        _ => read(file, RECORD_LEN_MOST)
            .and_then(|bytes| serde_json::from_slice::<PartRecord>(&bytes).ok())
            .is_some_and(|record| is_of_model(&record)),
    };
    let blob = |file: String| {
        let blob = file.strip_suffix(".part.json").or_else(|| file.strip_suffix(".lock"))?;
        is_ours(&file).then(|| blobs.join(blob))
    };
    names_in(&blobs).into_iter().filter_map(blob).collect()
}

/// The host of an address, with its port if that is not the usual one.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Removes what mullama downloaded from an address.
fn of_url(hub: &Hub, url: &Url, removed: &mut Removed) -> Result<(), DownloadFailure> {
    let store = hub.store();
    let unfinished = store.url_blob(url);
    removed.blob(&unfinished, &beside(&unfinished, ".lock"))?;
    if let Some(model) = store.url_model(url) {
        removed.file(&model.record)?;
        match used_blobs(hub) {
            Ok(used) if used.contains(&model.digest) => {}
            Ok(_) => {
                let path = store.blob(&model.digest);
                removed.blob(&path, &beside(&path, ".lock"))?;
            }
            Err(why) => removed.keep(why),
        }
    }
    Ok(())
}

/// Removes the files of the shared cache that mullama downloaded for this name.
fn of_hugging_face(hub: &Hub, name: &HuggingFaceName, removed: &mut Removed) -> Result<(), DownloadFailure> {
    let found = find::by_name(hub, &ModelName::HuggingFace(name.clone())).ok().map(|found| found.model.path);
    let repo = hub.hugging_face().repo(&name.user, &name.repo);
    let is_of = |record: &PullRecord| {
        let holds = |(file, _): &(String, String)| repo.snapshot(&record.pulled.commit, file).ok() == found;
        record.name == name.to_string() || (found.is_some() && record.pulled.files.iter().any(holds))
    };
    let all = hub.store().pulls(&name.user, &name.repo);
    let (ours, others) = all.into_iter().partition::<Vec<_>, _>(is_of);
    for record in ours {
        let paths = |(_, etag): &(String, String)| Ok((repo.blob(etag)?, repo.lock(etag)?));
        let blobs = record.pulled.files.iter().map(paths).collect::<Result<Vec<_>, DownloadFailure>>()?;
        if let Some((held, _)) = blobs.iter().find(|(_, lock)| matches!(try_passing_lock(lock), Ok(None))) {
            removed.keep(Kept::busy(held));
            continue;
        }
        of_record(&repo, &record, &others, removed)?;
        repo.forget(&record.pulled.commit)?;
        removed.file(&record.path)?;
        if let Some(folder) = record.path.parent() {
            files::remove_empty_folders(folder, hub.store().root());
        }
    }
    Ok(())
}

/// Removes the files of a record that no other record has.
fn of_record(
    repo: &Repo,
    record: &PullRecord,
    others: &[PullRecord],
    removed: &mut Removed,
) -> Result<(), DownloadFailure> {
    let snapshots = repo.folder().join("snapshots");
    for (file, etag) in &record.pulled.files {
        let has = |other: &PullRecord| {
            other.pulled.commit == record.pulled.commit && other.pulled.files.iter().any(|(path, _)| path == file)
        };
        if others.iter().any(has) {
            continue;
        }
        let at = repo.snapshot(&record.pulled.commit, file)?;
        removed.file(&at)?;
        if let Some(folder) = at.parent() {
            files::remove_empty_folders(folder, &snapshots);
        }
        let blob = repo.blob(etag)?;
        if !is_linked(&snapshots, &blob, 0) {
            removed.blob(&blob, &repo.lock(etag)?)?;
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
