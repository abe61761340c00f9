//! Names that stand for other names: one small file each, below `aliases` as manifests are below `manifests`.

use std::path::PathBuf;

use mullama::DownloadFailure;

use super::Store;
use super::files::{self, Problems, read_small};
use super::ollama::Layout;
use crate::{ModelName, RegistryName};

/// Most bytes of a target.
const TARGET_LEN_MOST: u64 = 8192;

impl Store {
    /// Lets `name` stand for `target`. Atomic.
    pub(crate) fn write_alias(&self, name: &RegistryName, target: &ModelName) -> Result<(), DownloadFailure> {
        let [host, namespace, model, tag] = name.parts();
        // The folder `manifests` below `aliases` lets one reader walk over both.
        let folder = files::make_folders(self.root(), &["aliases", "manifests", &host, &namespace, &model])?;
        files::write(&folder, &tag, target.to_string().as_bytes())
    }

    /// What `name` stands for, if it is an alias.
    pub(crate) fn alias(&self, name: &RegistryName) -> Option<ModelName> {
        let bytes = read_small(&self.alias_path(name), TARGET_LEN_MOST).ok()?;
        ModelName::parse(std::str::from_utf8(&bytes).ok()?).ok()
    }

    /// Removes an alias; `false` if there is none.
    pub(crate) fn remove_alias(&self, name: &RegistryName) -> Result<bool, DownloadFailure> {
        let path = self.alias_path(name);
        let is_removed = files::remove(&path)?;
        if let Some(folder) = path.parent() {
            files::remove_empty_folders(folder, self.root());
        }
        Ok(is_removed)
    }

    /// All aliases and what they stand for.
    pub(crate) fn aliases(&self, problems: &Problems) -> Vec<(RegistryName, ModelName)> {
        let names = Layout::new(self.root().join("aliases")).names(problems);
        let read = |parts: [String; 4]| match ModelName::from_parts(parts.each_ref().map(String::as_str)) {
            Some(ModelName::Registry(name)) => self.alias(&name).map(|target| (name, target)),
            _ => None,
        };
        names.into_iter().filter_map(read).collect()
    }

    fn alias_path(&self, name: &RegistryName) -> PathBuf {
        name.parts().iter().fold(self.root().join("aliases").join("manifests"), |path, part| path.join(part))
    }
}
