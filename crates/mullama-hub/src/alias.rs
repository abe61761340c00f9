//! Gives a model a second name.

use mullama::{DownloadFailure, MullamaError, gguf};

use crate::find::{self, refuse, refused};
use crate::{Hub, ModelName, RegistryName};

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
    let alias = new_name(to)?;
    let target = match ModelName::parse(&found.name)? {
        ModelName::Path(path) => {
            gguf::check(&found.path).map_err(|error| refused(found.path.clone(), error))?;
            let absolute = std::path::absolute(&path).ok().filter(|path| path.to_str().is_some());
            ModelName::Path(absolute.ok_or_else(|| refuse(from, "a path that is valid UTF-8"))?)
        }
        name => name,
    };
    let on_disk = |failure| disk_error("give another name to", &target.without_query(), failure);
    let _lock = hub.store().lock().map_err(on_disk)?;
    match hub.store().alias(&alias) {
        Some(present) if present == target => return Ok(()),
        Some(present) => {
            let present = present.without_query();
            return Err(unusable(
                &alias,
                &format!(
                    "a new name; it is an alias of {present} already, and `mullama rm {alias}` removes that alias"
                ),
            ));
        }
        None => refuse_model(hub, &alias)?,
    }
    hub.store().write_alias(&alias, &target).map_err(on_disk)
}

/// Reads the name of an alias.
fn new_name(text: &str) -> Result<RegistryName, MullamaError> {
    match ModelName::parse(text)? {
        ModelName::Registry(name) if !is_like_demo(&name) => Ok(name),
        ModelName::Registry(_) | ModelName::Demo => {
            Err(unusable(&text, "a new name; demo is the model that comes with mullama"))
        }
        name => {
            let range = "a name such as mine or me/mine:1b; an alias cannot be a path, an address or hf.co/…";
            Err(unusable(&name.without_query(), range))
        }
    }
}

/// Whether people would take the name for `demo`.
fn is_like_demo(name: &RegistryName) -> bool {
    let usual = ModelName::parse("demo:latest");
    let lower =
        RegistryName { model: name.model.to_ascii_lowercase(), tag: name.tag.to_ascii_lowercase(), ..name.clone() };
    usual.is_ok_and(|usual| usual == ModelName::Registry(lower))
}

/// Refuses the name of a model on this machine, also of one that cannot be used at present.
fn refuse_model(hub: &Hub, alias: &RegistryName) -> Result<(), MullamaError> {
    let at = match find::by_name(hub, &ModelName::Registry(alias.clone())) {
        Ok(existing) => existing.model.path,
        Err(_) => match hub.store().layout().manifest(&alias.parts()) {
            Ok(None) => return Ok(()),
            Ok(Some(stored)) => stored.path,
            Err(unreadable) => unreadable.path,
        },
    };
    Err(unusable(alias, &format!("a new name; there is a model of this name, at {}", at.display())))
}

/// A name that cannot become an alias.
fn unusable(alias: &impl ToString, range: &str) -> MullamaError {
    let value = alias.to_string().chars().take(200).collect();
    MullamaError::InvalidConfig { field: "alias", value, range: range.to_owned() }
}

impl Hub {
    /// Lets the name `to` stand for the model `from`, which is on this machine. Nothing is copied. If it stands for that
    /// model already, nothing changes.
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`MullamaError::ModelLoad`] if `from` is a file but not a model,
    /// [`MullamaError::InvalidConfig`] for the field `alias` if `to` cannot be a new name, is that of a model, or an
    /// alias of another model, and [`MullamaError::Download`] if the store cannot be written to.
    pub fn alias(&self, from: &str, to: &str) -> Result<(), MullamaError> {
        alias(self, from, to)
    }
}
