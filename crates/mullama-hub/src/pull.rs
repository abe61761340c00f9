//! Downloads a model: asks where its name leads, fetches the blobs, and publishes it in a store or a cache.

mod repo_blob;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mullama::{DownloadFailure, MullamaError, gguf};
use url::Url;

use crate::config::Needs;
use crate::download::{Blob, Fetched, Home, Place, blocking, fetch};
use crate::find::refused;
use crate::http::{Http, is_loopback, shown};
use crate::hugging_face::HuggingFace;
use crate::progress::Tracker;
use crate::quant::{self, NoChoice};
use crate::registry::{NoAnswer, Registry};
use crate::store::Pulled;
use crate::store::files::{beside, disk};
use crate::store::hugging_face::Repo;
use crate::store::manifest::{Layer, LayerKind, MODEL_LAYER_LEN_MOST, Manifest};
use crate::{Defaults, Hub, HuggingFaceName, LocalModel, Location, ModelName, Progress, RegistryName};
use repo_blob::{Record, RepoBlob, publish_files};

/// See [`Hub::pull`].
pub(crate) async fn pull<F: FnMut(&Progress) + Send>(
    hub: &Hub,
    name: &str,
    mut progress: F,
) -> Result<LocalModel, MullamaError> {
    let parsed = ModelName::parse(name)?;
    let target = match &parsed {
        ModelName::Registry(registry) => alias_of(hub, registry).await,
        _ => None,
    };
    let alias = target.as_ref().map(|_| parsed.to_string());
    let parsed = target.unwrap_or(parsed);
    if matches!(parsed, ModelName::Demo | ModelName::Path(_)) {
        return checked(found(hub, name).await?).await;
    }
    let canonical = parsed.without_query();
    if let Some(by) = &hub.config().offline {
        return found(hub, name).await.map_err(|error| match error {
            MullamaError::UnknownModel { tried, .. } => {
                MullamaError::Download { name: canonical, failure: DownloadFailure::Offline { tried, by: by.clone() } }
            }
            error => error,
        });
    }
    check_network(hub, &parsed)?;
    let mut tracker = Tracker::new(&canonical, &mut progress);
    let http = Arc::new(Http::new(hub.config().stall_limit));
    let pull = Pull { hub, http, name: canonical.clone() };
    let pulled = match &parsed {
        ModelName::Registry(name) => pull.pull_registry(name, &mut tracker).await,
        ModelName::HuggingFace(name) => pull.pull_hugging_face(name, &mut tracker).await,
        ModelName::Url(url) => pull.pull_url(url, &mut tracker).await,
        ModelName::Demo | ModelName::Path(_) => unreachable!("these are not downloaded"),
    };
    let model = pulled.map_err(|ended| ended.error(canonical))?;
    tracker.done();
    Ok(LocalModel { alias, ..model })
}

/// See [`Hub::find_or_pull`].
pub(crate) async fn find_or_pull<F: FnMut(&Progress) + Send>(
    hub: &Hub,
    name: &str,
    progress: F,
) -> Result<LocalModel, MullamaError> {
    let mut looked_at = match found(hub, name).await {
        Err(MullamaError::UnknownModel { tried, .. }) if ModelName::parse(name)? != ModelName::Demo => tried,
        found => return found,
    };
    match pull(hub, name, progress).await {
        Err(MullamaError::UnknownModel { name, tried, advice }) => {
            // A name that is not downloaded was only looked for on this machine, once more.
            looked_at.extend(tried.into_iter().filter(|each| !looked_at.contains(each)).collect::<Vec<_>>());
            Err(MullamaError::UnknownModel { name, tried: looked_at, advice })
        }
        pulled => pulled,
    }
}

/// Refuses a download that needs a variable whose value cannot be used.
fn check_network(hub: &Hub, name: &ModelName) -> Result<(), MullamaError> {
    match name {
        ModelName::Registry(RegistryName { host: None, .. }) => hub.config().check(Needs::Registry),
        ModelName::HuggingFace(_) => hub.config().check(Needs::HuggingFace),
        _ => Ok(()),
    }
}

async fn found(hub: &Hub, name: &str) -> Result<LocalModel, MullamaError> {
    let (hub, name) = (hub.clone(), name.to_owned());
    blocking(move || hub.find(&name)).await
}

/// A file that was named by its path, if it is a model.
async fn checked(model: LocalModel) -> Result<LocalModel, MullamaError> {
    blocking(move || match gguf::check(&model.path) {
        Ok(_) => Ok(model),
        Err(error) => Err(refused(model.path, error)),
    })
    .await
}

async fn alias_of(hub: &Hub, name: &RegistryName) -> Option<ModelName> {
    let (store, name) = (hub.store(), name.clone());
    blocking(move || store.alias(&name)).await
}

/// Why a pull did not bring the model.
#[derive(Debug)]
enum Ended {
    Unknown(NoChoice),
    Failed(DownloadFailure),
}

impl Ended {
    fn error(self, name: String) -> MullamaError {
        match self {
            Self::Unknown(NoChoice { found, advice }) => {
                MullamaError::UnknownModel { name, tried: vec![found], advice }
            }
            Self::Failed(failure) => MullamaError::Download { name, failure },
        }
    }

    /// Nothing exists at this address.
    fn missing(url: &str, status: u16, advice: String) -> Self {
        Self::Unknown(NoChoice { found: format!("{url} answered {status}"), advice })
    }

    /// Adds what to do when access is refused.
    fn advised(self, advice: impl FnOnce() -> String) -> Self {
        match self {
            Self::Failed(DownloadFailure::Unauthorized { url, status, message, .. }) => {
                Self::Failed(DownloadFailure::Unauthorized { url, status, message, advice: advice() })
            }
            other => other,
        }
    }
}

impl From<DownloadFailure> for Ended {
    fn from(failure: DownloadFailure) -> Self {
        Self::Failed(failure)
    }
}

/// One pull.
struct Pull<'a> {
    hub: &'a Hub,
    http: Arc<Http>,
    /// The canonical name.
    name: String,
}

/// How often a model is downloaded that another process removes meanwhile.
const ROUNDS: usize = 64;

fn always_removed(path: PathBuf) -> Ended {
    let message = format!("it was removed by another process while it was downloaded, {ROUNDS} times");
    Ended::Failed(DownloadFailure::Disk { path, message })
}

impl Pull<'_> {
    async fn pull_registry(&self, name: &RegistryName, tracker: &mut Tracker<'_>) -> Result<LocalModel, Ended> {
        let registry = Registry::new(&self.http, self.registry(name)?);
        let (bytes, manifest) = registry.manifest(name).await.map_err(|no_answer| match no_answer {
            NoAnswer::Missing { url, status } => Ended::missing(&url, status, registry_advice(name)),
            NoAnswer::Failed(failure) => Ended::Failed(failure),
        })?;
        let unusable = |message| DownloadFailure::Protocol { url: shown(&registry.manifest_address(name)), message };
        let model = manifest.model().map_err(unusable)?;
        let store = self.hub.store();
        let preparing = store.clone();
        blocking(move || preparing.prepare_blobs()).await?;
        let path = store.blob(&model.digest);
        for _ in 0..ROUNDS {
            self.begin(name, &manifest).await?;
            self.fetch_layers(&registry, name, &manifest, tracker).await?;
            // Another process may have removed a blob that was there, or has just arrived.
            if let Some(defaults) = self.publish_manifest(name, &bytes, &manifest).await? {
                return Ok(self.model(path, Location::Mullama, defaults));
            }
        }
        Err(always_removed(path))
    }

    /// Records which blobs of a manifest are not there.
    async fn begin(&self, name: &RegistryName, manifest: &Manifest) -> Result<(), DownloadFailure> {
        let (store, name) = (self.hub.store().clone(), name.clone());
        let digests = manifest.wanted().into_iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
        blocking(move || {
            let missing = digests.into_iter().filter(|digest| !store.blob(digest).exists()).collect::<Vec<_>>();
            if missing.is_empty() { Ok(()) } else { store.begin_pull(&name, &missing) }
        })
        .await
    }

    /// Downloads the blobs of a manifest that are not there.
    async fn fetch_layers(
        &self,
        registry: &Registry<'_>,
        name: &RegistryName,
        manifest: &Manifest,
        tracker: &mut Tracker<'_>,
    ) -> Result<(), DownloadFailure> {
        let store = self.hub.store();
        // The small layers come first, so that the last file is the one that takes long.
        let mut layers = manifest.wanted();
        layers.sort_by_key(|layer| layer.kind == LayerKind::Model);
        tracker.expect(layers.len(), Some(layers.iter().map(|layer| layer.len).sum()));
        for layer in layers {
            let path = store.blob(&layer.digest);
            let blob = Blob {
                url: registry.blob(name, &layer.digest),
                file: self.name.clone(),
                digest: Some(layer.digest.clone()),
                len: Some(layer.len),
                most: layer.len,
                is_model: layer.kind == LayerKind::Model,
                lock: beside(&path, ".lock"),
                place: Place::Path(path),
                home: Home::Store(store.clone()),
            };
            fetch(&self.http, &blob, tracker).await?;
        }
        Ok(())
    }

    /// Publishes a manifest, and reads what it recommends; `None` if one of its blobs is missing.
    async fn publish_manifest(
        &self,
        name: &RegistryName,
        bytes: &[u8],
        manifest: &Manifest,
    ) -> Result<Option<Defaults>, DownloadFailure> {
        let (store, name, bytes) = (self.hub.store(), name.clone(), bytes.to_owned());
        let blobs = manifest.wanted().into_iter().map(|layer| (store.blob(&layer.digest), layer.len));
        let blobs = blobs.collect::<Vec<_>>();
        let path = |kind| manifest.layer(kind).map(|layer: &Layer| store.blob(&layer.digest));
        let layers = [path(LayerKind::Params), path(LayerKind::System)];
        blocking(move || {
            let _lock = store.lock()?;
            let is_there = |(blob, len): &(PathBuf, u64)| fs::metadata(blob).is_ok_and(|found| found.len() == *len);
            if !blobs.iter().all(is_there) {
                return Ok(None);
            }
            store.write_manifest(&name, &bytes)?;
            store.end_pull(&name)?;
            let read = |path: &Option<PathBuf>| match path {
                Some(path) => fs::read(path).map_err(|error| disk(path, &error)),
                None => Ok(Vec::new()),
            };
            Ok(Some(Defaults::from_layers(&read(&layers[0])?, &read(&layers[1])?)))
        })
        .await
    }

    /// The registry that a name belongs to: the configured one, or the host in the name.
    fn registry(&self, name: &RegistryName) -> Result<Url, Ended> {
        let Some(host) = &name.host else { return Ok(self.hub.config().registry.clone()) };
        let invalid = |error: url::ParseError| {
            let message = format!("the host of this name is not valid ({error})");
            DownloadFailure::Protocol { url: format!("https://{host}"), message }
        };
        let url = Url::parse(&format!("https://{host}")).map_err(invalid)?;
        // As container tools do: what stays on this machine needs no encryption.
        if is_loopback(&url) { Ok(Url::parse(&format!("http://{host}")).map_err(invalid)?) } else { Ok(url) }
    }

    async fn pull_hugging_face(&self, name: &HuggingFaceName, tracker: &mut Tracker<'_>) -> Result<LocalModel, Ended> {
        let token = self.hub.config().hugging_face_token.as_deref();
        let advice = || HuggingFace::advice(name, token.is_some());
        let client = HuggingFace::new(&self.http, self.hub.config().hugging_face.clone(), token);
        let revision = client.revision(name).await.map_err(|no_answer| match no_answer {
            NoAnswer::Missing { url, status } => Ended::missing(&url, status, advice()),
            NoAnswer::Failed(failure) => Ended::Failed(failure).advised(advice),
        })?;
        let chosen = match &name.file {
            Some(path) => quant::named(&revision.files, path),
            None => quant::choose(&revision.files, name.quant.as_deref()),
        };
        let chosen = chosen.map_err(Ended::Unknown)?;
        let repo = self.hub.hugging_face().repo(&name.user, &name.repo);
        let files = chosen.iter().map(|file| {
            let url = client.file(name, &revision.commit, &file.path);
            // Refused before anything is downloaded.
            repo.snapshot(&revision.commit, &file.path)?;
            let home = Home::Repo(self.hub.store(), repo.clone());
            RepoBlob::new(home, &repo, (file, url), chosen.len() == 1)
        });
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let files = Arc::new(files);
        tracker.expect(files.len(), files.iter().map(|file| file.blob.len).sum());
        for _ in 0..ROUNDS {
            let record = self.record(name, &repo, &revision.commit, &files).await?;
            for file in files.iter() {
                fetch(&self.http, &file.blob, tracker)
                    .await
                    .map_err(|failure| Ended::Failed(failure).advised(advice))?;
            }
            // Another process may have removed a file that was there, or has just arrived.
            if let Some(path) = publish_files(self.hub.store(), repo.clone(), &revision.commit, &files, record).await? {
                return Ok(self.model(path, Location::HuggingFace, Defaults::default()));
            }
        }
        Err(always_removed(repo.folder()))
    }

    /// Records which files of the shared cache are mullama's: those that it is about to download, and those that it
    /// has downloaded under another name before.
    async fn record(
        &self,
        name: &HuggingFaceName,
        repo: &Repo,
        commit: &str,
        files: &[RepoBlob],
    ) -> Result<Option<Record>, DownloadFailure> {
        let (store, name, repo, commit) = (self.hub.store(), name.clone(), repo.clone(), commit.to_owned());
        let files = files.iter().map(|file| (file.path.clone(), file.etag.clone())).collect::<Vec<_>>();
        blocking(move || {
            let _lock = store.lock()?;
            repo.prepare()?;
            let earlier = store.pulls(&name.user, &name.repo);
            let is_recorded = |etag: &String| {
                earlier.iter().any(|record| record.pulled.files.iter().any(|(_, recorded)| recorded == etag))
            };
            let mut ours = Vec::new();
            for (path, etag) in files {
                if is_recorded(&etag) || !repo.blob(&etag)?.exists() {
                    ours.push((path, etag));
                }
            }
            if ours.is_empty() {
                return Ok(None);
            }
            let pulled = Pulled { commit, files: ours };
            store.record_pull(&name, &pulled)?;
            Ok(Some((name, pulled)))
        })
        .await
    }

    async fn pull_url(&self, url: &Url, tracker: &mut Tracker<'_>) -> Result<LocalModel, Ended> {
        let store = self.hub.store();
        let preparing = store.clone();
        blocking(move || preparing.prepare_blobs()).await?;
        let file = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default().to_owned();
        let blob = Blob {
            url: url.clone(),
            file,
            digest: None,
            len: None,
            most: MODEL_LAYER_LEN_MOST,
            is_model: true,
            lock: beside(&store.url_blob(url), ".lock"),
            home: Home::Store(store.clone()),
            place: Place::Url(store),
        };
        let Fetched { path, .. } = fetch(&self.http, &blob, tracker).await.map_err(|failure| match failure {
            DownloadFailure::Status { url, status: status @ (404 | 410), .. } => {
                Ended::missing(&url, status, "check the address".to_owned())
            }
            failure => Ended::Failed(failure),
        })?;
        Ok(self.model(path, Location::Mullama, Defaults::default()))
    }

    fn model(&self, path: PathBuf, location: Location, defaults: Defaults) -> LocalModel {
        LocalModel { defaults, ..LocalModel::new(self.name.clone(), path, location) }
    }
}

fn registry_advice(name: &RegistryName) -> String {
    if name.host.is_none() && name.namespace != "library" {
        format!("for a repository on Hugging Face, use hf.co/{}/{}", name.namespace, name.model)
    } else {
        format!("check the name and its tag ({})", name.tag)
    }
}
