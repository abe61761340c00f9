//! Models by name: finds them on this machine, and downloads those that are missing.
//!
//! A [`Hub`] turns a name such as `llama3.2:1b`, `hf.co/user/repo:Q4_K_M`, a path or a URL into a file. It looks at the
//! model stores of other programs (read-only), at the shared cache of Hugging Face, and at a store of its own.
//!
//! ```no_run
//! # async fn example() -> Result<(), mullama::MullamaError> {
//! use mullama::{Model, MullamaError};
//! use mullama_hub::{Hub, HubConfig};
//!
//! let hub = Hub::new(HubConfig::from_env()?)?;
//! let local = hub.pull("llama3.2:1b", |progress| println!("{} bytes", progress.done)).await?;
//! let model = Model::load(&local.path)?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod alias;
mod config;
mod defaults;
mod download;
mod find;
mod http;
mod hub;
mod hugging_face;
mod list;
mod local;
mod name;
mod progress;
mod pull;
mod pull_blocking;
mod quant;
mod registry;
mod remove;
mod show;
mod store;

pub use config::{HubConfig, UnusableVariable};
pub use defaults::Defaults;
pub use hub::Hub;
pub use list::{Listed, Listing};
pub use local::{LocalModel, Location, Unreadable};
pub use name::{HuggingFaceName, ModelName, RegistryName, shown_name};
pub use progress::{Phase, Progress};
pub use remove::{Kept, Removed};
pub use show::{Memory, Shown, TensorsOfType};

#[cfg(doctest)]
#[doc = include_str!("../../../docs/models.md")]
struct Page;
