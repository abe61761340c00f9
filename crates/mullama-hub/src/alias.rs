//! Gives a model a second name.

use mullama::{DownloadFailure, MullamaError};

use crate::find::{self, refuse};
use crate::{Hub, ModelName};

/// An error of the disk while `action` was done with the model `name`.
pub(crate) fn disk_error(action: &'static str, name: &str, failure: DownloadFailure) -> MullamaError {
    let failure = match failure {
        DownloadFailure::Disk { path, message } => DownloadFailure::Store { action, path, message },
        other => other,
    };
    MullamaError::Download { name: name.to_owned(), failure }
}

/// See [`Hub::alias`].
fn alias(hub: &Hub, from: &str, to: &str) -> Result<(), MullamaError> {
    let found = find::find(hub, from)?.model;
    let ModelName::Registry(alias) = ModelName::parse(to)? else {
        return Err(refuse(to, "a new name such as mine or me/mine:1b; it cannot be a path, an address or hf.co/…"));
    };
    if hub.store().alias(&alias).is_none()
        && let Ok(existing) = find::find(hub, to)
    {
        return Err(refuse(to, &format!("a new name; this one is a model at {}", existing.model.path.display())));
    }
    let target = match ModelName::parse(&found.name)? {
        ModelName::Path(path) => {
            let absolute = std::path::absolute(&path).ok().filter(|path| path.to_str().is_some());
            ModelName::Path(absolute.ok_or_else(|| refuse(from, "a path that is valid UTF-8"))?)
        }
        name => name,
    };
    let _lock = hub.store().lock().map_err(|failure| disk_error("give a name to", &found.name, failure))?;
    hub.store().write_alias(&alias, &target).map_err(|failure| disk_error("give a name to", &found.name, failure))
}

impl Hub {
    /// Lets the name `to` stand for the model `from`, which is on this machine. An alias of that name is replaced;
    /// nothing is copied.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`MullamaError::InvalidConfig`] if `to` cannot be a new name, and
    /// [`MullamaError::Download`] if the store cannot be written to.
    pub fn alias(&self, from: &str, to: &str) -> Result<(), MullamaError> {
        alias(self, from, to)
    }
}
