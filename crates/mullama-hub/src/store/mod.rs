//! mullama's own store on the disk, laid out as Ollama's: `manifests/<host>/<namespace>/<model>/<tag>` and
//! `blobs/sha256-<hex>`, with what only mullama keeps beside them.
//!
//! All that is written replaces a file as a whole, so that several processes can use a store at once.

pub(crate) mod aliases;
pub(crate) mod digest;
pub(crate) mod facts;
pub(crate) mod files;
pub(crate) mod hugging_face;
pub(crate) mod last_used;
pub(crate) mod lm_studio;
pub(crate) mod lock;
pub(crate) mod manifest;
pub(crate) mod ollama;
pub(crate) mod pulls;
pub(crate) mod repo_files;
pub(crate) mod urls;

use std::path::{Path, PathBuf};

use mullama::DownloadFailure;
use sha2::{Digest as _, Sha256};

use crate::RegistryName;
use digest::Digest;
use ollama::Layout;
pub(crate) use pulls::Pulled;

/// mullama's own store. It may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// The store in the folder `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of the store.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The manifests and blobs, which can be read like those of Ollama.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.root.clone())
    }

    /// Where the blob with this digest is, or will be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(format!("sha256-{}", digest.hex()))
    }

    /// Creates the folder of blobs, and refuses one that is a link to elsewhere. Returns it.
    pub(crate) fn prepare_blobs(&self) -> Result<PathBuf, DownloadFailure> {
        files::make_folders(&self.root, &["blobs"])
    }

    /// Where the manifest of a name is, or will be.
    pub(crate) fn manifest_path(&self, name: &RegistryName) -> PathBuf {
        name.parts().iter().fold(self.root.join("manifests"), |path, part| path.join(part))
    }

    /// Publishes a manifest, exactly as the registry sent it, once all its blobs are there. Atomic.
    pub(crate) fn write_manifest(&self, name: &RegistryName, bytes: &[u8]) -> Result<(), DownloadFailure> {
        let [host, namespace, model, tag] = name.parts();
        let folder = files::make_folders(&self.root, &["manifests", &host, &namespace, &model])?;
        files::write(&folder, &tag, bytes)
    }
}

/// The SHA-256 of a text in hexadecimal: the name of a file that must not depend on what the text contains.
pub(crate) fn key_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use crate::ModelName;

    use super::Store;

    #[test]
    fn a_manifest_lies_where_ollama_would_look_for_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().join("models"));
        let Ok(ModelName::Registry(name)) = ModelName::parse("llama3.2:1b") else { panic!("no registry name") };
        store.write_manifest(&name, b"{}").unwrap();
        let path = root.path().join("models/manifests/registry.ollama.ai/library/llama3.2/1b");
        assert_eq!(std::fs::read(path).unwrap(), b"{}");
    }
}
