//! Reads a store in Ollama's layout: Ollama's own, or mullama's.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::files::{ENTRIES_MOST, Problems, all_names_in, names_in, read_small};
use super::manifest::{Layer, LayerKind, MANIFEST_LEN_MOST, Manifest, SMALL_LAYER_LEN_MOST};
use crate::{Defaults, Unreadable};

/// A store in Ollama's layout. It may not exist.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

/// A manifest of a store.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Where the manifest is.
    pub(crate) path: PathBuf,
    /// Its content.
    pub(crate) manifest: Manifest,
}

impl Layout {
    /// The store in the folder `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of the store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The manifest of a name, whose letters may differ in case; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Why the manifest cannot be read.
    pub(crate) fn manifest(&self, parts: &[String; 4]) -> Result<Option<Stored>, Unreadable> {
        let mut path = self.root.join("manifests");
        for part in parts {
            let exact = path.join(part);
            let alike = || names_in(&path).into_iter().find(|name| name.eq_ignore_ascii_case(part));
            path = match fs::symlink_metadata(&exact) {
                Ok(_) => exact,
                Err(error) if error.kind() == io::ErrorKind::NotFound => match alike() {
                    Some(name) => path.join(name),
                    None => return Ok(None),
                },
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
                Err(error) => return Err(Unreadable::new(&exact, error)),
            };
        }
        let bytes = read_small(&path, MANIFEST_LEN_MOST).map_err(|error| Unreadable::new(&path, error))?;
        let manifest = Manifest::parse(&bytes).map_err(|why| Unreadable::new(&path, why))?;
        Ok(Some(Stored { path, manifest }))
    }

    /// The GGUF file of a manifest.
    ///
    /// # Errors
    ///
    /// Why it cannot be used: there is none, it is missing, incomplete, or may not be read by this user.
    pub(crate) fn model(&self, manifest: &Manifest) -> Result<PathBuf, String> {
        let layer = manifest.model()?;
        let path = self.blob(&layer.digest);
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => Err(format!("{} is not a file", path.display())),
            Ok(found) if found.len() != layer.len => {
                Err(format!("{} has {} bytes, but should have {}", path.display(), found.len(), layer.len))
            }
            Ok(_) => match fs::File::open(&path) {
                Ok(_) => Ok(path),
                Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("its blob {} is missing", path.display()))
            }
            Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
        }
    }

    /// The GGUF file of a manifest if it is there, but may not be read.
    pub(crate) fn unreadable(&self, manifest: &Manifest) -> Option<Unreadable> {
        let path = self.blob(&manifest.model().ok()?.digest);
        let error = fs::File::open(&path).err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
        Some(Unreadable::new(&path, error))
    }

    /// The settings that a manifest recommends.
    pub(crate) fn defaults(&self, manifest: &Manifest) -> Defaults {
        let layer = |kind| manifest.layer(kind).and_then(|layer| self.small(layer)).unwrap_or_default();
        Defaults::from_layers(&layer(LayerKind::Params), &layer(LayerKind::System))
    }

    /// The licences of a manifest, one after another.
    pub(crate) fn licence(&self, manifest: &Manifest) -> Option<String> {
        let licences = manifest.layers.iter().filter(|layer| layer.kind == LayerKind::Licence).take(16);
        let texts = licences.filter_map(|layer| String::from_utf8(self.small(layer)?).ok()).collect::<Vec<_>>();
        (!texts.is_empty()).then(|| texts.join("\n\n"))
    }

    fn small(&self, layer: &Layer) -> Option<Vec<u8>> {
        read_small(&self.blob(&layer.digest), SMALL_LAYER_LEN_MOST).ok()
    }

    /// The folders and files of all manifests, as far as this user may read them.
    pub(crate) fn names(&self, problems: &Problems) -> Vec<[String; 4]> {
        let Ok((mut names, _)) = self.walk(|folder| Ok::<_, Infallible>(problems.names_in(folder)));
        names.truncate(ENTRIES_MOST);
        names
    }

    /// The folders and files of all manifests.
    ///
    /// # Errors
    ///
    /// Why it is not known which there are.
    pub(crate) fn all_names(&self) -> Result<Vec<[String; 4]>, Unreadable> {
        let (names, is_whole) = self.walk(all_names_in)?;
        let reason = || format!("it has more than {ENTRIES_MOST} manifests");
        if is_whole { Ok(names) } else { Err(Unreadable::new(&self.root.join("manifests"), reason())) }
    }

    /// The folders and files of all manifests, by the entries of each folder, and whether those are all: no more folders
    /// are looked into once there are too many.
    fn walk<E>(&self, entries: impl Fn(&Path) -> Result<Vec<String>, E>) -> Result<(Vec<[String; 4]>, bool), E> {
        let (mut names, mut is_whole) = (vec![Vec::new()], true);
        for _ in 0..4 {
            let mut longer = Vec::new();
            for parts in names {
                let folder = parts.iter().fold(self.root.join("manifests"), |path, part: &String| path.join(part));
                longer.extend(entries(&folder)?.into_iter().map(|name| [parts.clone(), vec![name]].concat()));
                if longer.len() > ENTRIES_MOST {
                    is_whole = false;
                    break;
                }
            }
            names = longer;
        }
        Ok((names.into_iter().filter_map(|parts| parts.try_into().ok()).collect(), is_whole))
    }

    /// Where a blob is: with a hyphen, or with the colon of old versions of Ollama.
    fn blob(&self, digest: &Digest) -> PathBuf {
        let blobs = self.root.join("blobs");
        let path = blobs.join(format!("sha256-{}", digest.hex()));
        let old = blobs.join(digest.to_string());
        if !cfg!(windows) && !path.exists() && old.exists() { old } else { path }
    }
}
