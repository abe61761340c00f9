//! The hub: one resolver for names, and what can be done with the models that it finds.

use std::sync::Arc;

use mullama::MullamaError;

use crate::pull_blocking::{Existing, pull_blocking};
use crate::store::Store;
use crate::store::hugging_face::Cache;
use crate::{HubConfig, LocalModel, Location, Progress};

/// Finds models by name, and downloads those that are missing. Clones share one configuration.
#[derive(Debug, Clone)]
pub struct Hub {
    config: Arc<HubConfig>,
}

impl Hub {
    /// A hub with this configuration. Nothing is read or created yet.
    ///
    /// # Errors
    ///
    /// [`MullamaError::InvalidConfig`] names a value of the configuration that cannot be used.
    pub fn new(config: HubConfig) -> Result<Self, MullamaError> {
        config.validate()?;
        Ok(Self { config: Arc::new(config) })
    }

    /// The configuration.
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// mullama's own store.
    pub(crate) fn store(&self) -> Store {
        Store::new(self.config.store.clone())
    }

    /// The shared cache of Hugging Face.
    pub(crate) fn hugging_face(&self) -> Cache {
        Cache::new(self.config.hugging_face_cache.clone())
    }

    /// Finds a model on this machine; never uses the network.
    ///
    /// # Errors
    ///
    /// [`MullamaError::UnknownModel`] lists what was looked at, [`MullamaError::ModelNotFound`] has a path that does not
    /// exist, and [`MullamaError::InvalidConfig`] a text that cannot be a name.
    pub fn find(&self, name: &str) -> Result<LocalModel, MullamaError> {
        crate::find::find(self, name).map(|found| found.model)
    }

    /// What to do if a model's file turns out to be damaged; `None` if mullama cannot have downloaded it.
    pub fn repair_advice(&self, model: &LocalModel) -> Option<String> {
        let name = &model.name;
        let advice = || format!("`mullama rm {name}` removes the file, and `mullama pull {name}` downloads it again");
        matches!(model.location, Location::Mullama | Location::HuggingFace).then(advice)
    }

    /// Remembers that a model is used now, for [`list`](Self::list). A store that cannot be written to is no error.
    pub fn touch(&self, model: &LocalModel) {
        if model.location != Location::File {
            self.store().touch(&model.path);
        }
    }

    /// Downloads a model that is not on this machine, and returns it. Dropping the future cancels the download and
    /// leaves what has arrived, which the next call continues.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), and [`MullamaError::Download`].
    pub async fn pull<F: FnMut(&Progress) + Send>(&self, name: &str, progress: F) -> Result<LocalModel, MullamaError> {
        crate::pull::pull(self, name, progress).await
    }

    /// Downloads like [`pull`](Self::pull) and blocks until the model is there. `progress` is called at least every
    /// 100 ms; `false` cancels.
    ///
    /// # Errors
    ///
    /// Those of [`pull`](Self::pull); [`DownloadFailure::Cancelled`](mullama::DownloadFailure::Cancelled) if `progress`
    /// returned `false`.
    pub fn pull_blocking<F: FnMut(&Progress) -> bool + Send>(
        &self,
        name: &str,
        progress: F,
    ) -> Result<LocalModel, MullamaError> {
        pull_blocking(self, name, Existing::Update, progress)
    }

    /// Finds a model on this machine, and downloads it if it is not there.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find) and [`pull`](Self::pull);
    /// [`DownloadFailure::Offline`](mullama::DownloadFailure::Offline) if the model is missing and downloads are turned
    /// off.
    pub async fn find_or_pull<F>(&self, name: &str, progress: F) -> Result<LocalModel, MullamaError>
    where
        F: FnMut(&Progress) + Send,
    {
        crate::pull::find_or_pull(self, name, progress).await
    }

    /// Blocks like [`pull_blocking`](Self::pull_blocking), but only downloads a model that is not on this machine.
    ///
    /// # Errors
    ///
    /// Those of [`find_or_pull`](Self::find_or_pull) and [`pull_blocking`](Self::pull_blocking).
    pub fn find_or_pull_blocking<F>(&self, name: &str, progress: F) -> Result<LocalModel, MullamaError>
    where
        F: FnMut(&Progress) -> bool + Send,
    {
        pull_blocking(self, name, Existing::Use, progress)
    }
}
