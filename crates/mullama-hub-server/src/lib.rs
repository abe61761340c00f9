//! A loopback server for tests of `mullama-hub`.
//!
//! It speaks the registry protocol of Ollama and the interface of Hugging Face, serves the demo model under several
//! names, records what it is asked, and misbehaves on request:
//!
//! ```
//! use std::path::Path;
//! use mullama_hub_server::{Fault, Server};
//!
//! # let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf");
//! let server = Server::start(&demo)?;
//! server.fault("/v2/library/tiny/manifests/latest", Fault::Cut { bytes: 10 }, 1);
//! println!("{}/v2/library/tiny/manifests/latest", server.url());
//! assert!(server.requests().is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Blobs and LFS files are redirected to [`Server::cdn_url`], another origin, where their path is `/cdn/<sha256>`; faults
//! of their bytes belong to that path, unless [`Server::set_direct`] turns the redirection off.
//! [`Server::start_encrypted`] starts a server with `https` addresses instead.

mod answer;
mod connection;
mod content;
mod control;
mod fault;
mod gzip;
mod hugging_face;
mod registry;
mod request;
mod send;
mod server;
mod site;
mod split;
mod tls;

pub use content::Content;
pub use fault::{Fault, Rule};
pub use registry::blob_path;
pub use request::Request;
pub use server::Server;
pub use site::{Access, HUGGING_FACE_TOKEN, LARGE_LEN, Layer, RegistryModel, Repo};
pub use split::{shard_names, split};
pub use tls::Certificate;
