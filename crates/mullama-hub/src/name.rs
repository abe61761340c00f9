//! Names of models: what a text refers to, decided without access to a disk or the network.

mod component;
mod parse;

use std::fmt;
use std::path::{Path, PathBuf};

use mullama::MullamaError;
use url::Url;

pub(crate) use component::{is_file_path, is_repo_name};

/// The host that a name without a host belongs to, in the folders of a store. A configured mirror stands for it.
pub(crate) const DEFAULT_HOST: &str = "registry.ollama.ai";
/// The namespace of a name without one.
const DEFAULT_NAMESPACE: &str = "library";
/// The tag of a name without one.
const DEFAULT_TAG: &str = "latest";

/// What the name of a model refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelName {
    /// `demo`: the small model that comes with the Python package.
    Demo,
    /// A file: an absolute path, one that begins with `.` or `~`, or one that ends in `.gguf`.
    Path(PathBuf),
    /// `name[:tag]`, `namespace/name[:tag]` or `host/namespace/name[:tag]`: a model of an Ollama registry.
    Registry(RegistryName),
    /// `hf.co/user/repo[:quant]`: a model of Hugging Face.
    HuggingFace(HuggingFaceName),
    /// `https://…/file.gguf`.
    Url(Url),
}

/// The name of a model in a registry that speaks Ollama's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryName {
    /// The host with its port if it was given; `None` is the configured registry.
    pub host: Option<String>,
    /// The namespace; `library` if none was given.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The tag; `latest` if none was given.
    pub tag: String,
}

/// The name of a model on Hugging Face.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HuggingFaceName {
    /// The user or organisation.
    pub user: String,
    /// The repository.
    pub repo: String,
    /// The quantization that was asked for, such as `Q4_K_M`; `None` lets mullama choose.
    pub quant: Option<String>,
    /// One file of the repository, with its folder, if the name is that of a file.
    pub file: Option<String>,
}

impl ModelName {
    /// Reads a name.
    ///
    /// It also accepts what people paste: `ollama://…`, `hf://…`, and the addresses of pages of ollama.com and
    /// huggingface.co. Hosts are in lower case afterwards.
    ///
    /// # Errors
    ///
    /// [`MullamaError::InvalidConfig`] for the field `model` if the text cannot be a name or a path.
    ///
    /// ```
    /// use mullama_hub::ModelName;
    ///
    /// assert_eq!(ModelName::parse("llama3.2")?.to_string(), "llama3.2:latest");
    /// assert_eq!(ModelName::parse("https://ollama.com/library/llama3.2:1b")?.to_string(), "llama3.2:1b");
    /// assert_eq!(ModelName::parse("hf://user/repo:Q4_K_M")?.to_string(), "hf.co/user/repo:Q4_K_M");
    /// assert!(ModelName::parse("../../etc/passwd:latest").is_ok_and(|name| matches!(name, ModelName::Path(_))));
    /// assert!(ModelName::parse("library/..:latest").is_err());
    /// # Ok::<(), mullama::MullamaError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, MullamaError> {
        parse::name(text)
    }

    /// The name without the query of an address, which may hold a signature or a token. Use it in messages, and
    /// wherever a name is kept.
    pub fn without_query(&self) -> String {
        match self {
            Self::Url(url) => bare_url(url),
            name => name.to_string(),
        }
    }
}

/// A name as it may be shown: in its canonical form, and without the query of an address, which may be secret.
pub fn shown_name(text: &str) -> String {
    ModelName::parse(text).map_or_else(|_| parse::shown(text), |name| name.without_query())
}

/// An address without its query and fragment, and without a user and password.
pub(crate) fn bare_url(url: &Url) -> String {
    let mut bare = url.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    // Neither fails for an address with a host; without one, there is no user either.
    let _ = (bare.set_username(""), bare.set_password(None));
    bare.into()
}

impl fmt::Display for ModelName {
    /// The canonical form, which [`ModelName::parse`] reads as the same name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("demo"),
            Self::Path(path) if parse::is_path(&path.to_string_lossy()) => write!(f, "{}", path.display()),
            Self::Path(path) => write!(f, "{}", Path::new(".").join(path).display()),
            Self::Registry(name) => write!(f, "{name}"),
            Self::HuggingFace(name) => write!(f, "{name}"),
            Self::Url(url) => f.write_str(url.as_str()),
        }
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, namespace, model, tag } = self;
        match host {
            Some(host) => write!(f, "{host}/{namespace}/{model}:{tag}"),
            None if namespace != DEFAULT_NAMESPACE => write!(f, "{namespace}/{model}:{tag}"),
            None => write!(f, "{model}:{tag}"),
        }
    }
}

impl RegistryName {
    /// The folders and the file of this name below `manifests`, and below `aliases`.
    pub(crate) fn parts(&self) -> [String; 4] {
        let host = self.host.as_deref().unwrap_or(DEFAULT_HOST);
        // Windows has no colons in names of files.
        let host = if cfg!(windows) { host.replace(':', "+") } else { host.to_owned() };
        [host, self.namespace.clone(), self.model.clone(), self.tag.clone()]
    }
}

impl ModelName {
    /// The name for these folders and file below `manifests`; `None` if they do not belong to a name. Ollama keeps what it
    /// pulls from Hugging Face there too.
    pub(crate) fn from_parts(parts: [&str; 4]) -> Option<Self> {
        let [host, namespace, model, tag] = parts;
        let host = host.replace('+', ":");
        Self::parse(&format!("{host}/{namespace}/{model}:{tag}")).ok().filter(|name| !matches!(name, Self::Path(_)))
    }
}

impl HuggingFaceName {
    /// The repository as a name of its own: `hf.co/user/repo`.
    pub(crate) fn repo_name(&self) -> String {
        format!("hf.co/{}/{}", self.user, self.repo)
    }
}

impl fmt::Display for HuggingFaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repo_name())?;
        match (&self.file, &self.quant) {
            (Some(file), _) => write!(f, "/{file}"),
            (None, Some(quant)) => write!(f, ":{quant}"),
            (None, None) => Ok(()),
        }
    }
}
