//! What the server offers: models of a registry, repositories of Hugging Face, plain files.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Content;
use crate::split::{shard_names, split};

/// The token that Hugging Face's half of the server accepts.
pub const HUGGING_FACE_TOKEN: &str = "hf_TestTokenOfTheLoopbackServer";

/// A layer of a model in a registry.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it is, such as `model` or `params`: the end of its media type.
    pub kind: String,
    /// Its bytes.
    pub content: Content,
}

/// A model of a registry.
#[derive(Debug, Clone)]
pub struct RegistryModel {
    /// The layers in the order of the manifest.
    pub layers: Vec<Layer>,
    /// Whether a token is needed, which the server gives to everybody who asks as the challenge says.
    pub token: bool,
}

/// Who may read a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Those with the [`HUGGING_FACE_TOKEN`].
    Private,
    /// Nobody: its licence must be accepted first.
    Gated,
}

/// A repository of Hugging Face.
#[derive(Debug, Clone)]
pub struct Repo {
    /// Who may read it.
    pub access: Access,
    /// Files by path; those that end in `.gguf` are LFS files.
    pub files: BTreeMap<String, Content>,
}

impl Layer {
    /// A layer of the kind, such as `model`.
    pub fn new(kind: &str, content: Content) -> Self {
        Self { kind: kind.to_owned(), content }
    }

    fn json(&self) -> Value {
        json!({
            "mediaType": format!("application/vnd.ollama.image.{}", self.kind),
            "digest": format!("sha256:{}", self.content.sha256()),
            "size": self.content.len(),
        })
    }
}

impl RegistryModel {
    /// A model that everybody may read, of this file alone.
    pub fn new(model: Content) -> Self {
        Self { layers: vec![Layer::new("model", model)], token: false }
    }

    /// Adds a layer.
    #[must_use]
    pub fn layer(mut self, kind: &str, text: &str) -> Self {
        self.layers.push(Layer::new(kind, Content::bytes(text.as_bytes())));
        self
    }

    /// Demands a token.
    #[must_use]
    pub fn with_token(mut self) -> Self {
        self.token = true;
        self
    }

    /// The manifest's configuration, which is a blob as well.
    pub(crate) fn config() -> Content {
        let config =
            json!({"model_format": "gguf", "model_family": "llama", "model_type": "2.2M", "file_type": "Q8_0"});
        Content::bytes(config.to_string().into_bytes())
    }

    /// The manifest as a registry sends it.
    pub(crate) fn manifest(&self) -> String {
        let config = Self::config();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": format!("sha256:{}", config.sha256()),
                "size": config.len(),
            },
            "layers": self.layers.iter().map(Layer::json).collect::<Vec<_>>(),
        });
        manifest.to_string()
    }
}

impl Repo {
    /// A repository of these files.
    pub fn new<P: Into<String>>(access: Access, files: impl IntoIterator<Item = (P, Content)>) -> Self {
        Self { access, files: files.into_iter().map(|(path, content)| (path.into(), content)).collect() }
    }

    /// The commit of `main`: 40 hexadecimal digits that follow from the files.
    pub(crate) fn commit(&self) -> String {
        let files = self.files.iter().map(|(path, content)| format!("{path} {}\n", content.sha256()));
        Content::bytes(files.collect::<String>().into_bytes()).sha256()[..40].to_owned()
    }
}

/// Everything that the server offers.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// By `namespace/model:tag`.
    pub(crate) models: BTreeMap<String, RegistryModel>,
    /// By `user/repo`.
    pub(crate) repos: BTreeMap<String, Repo>,
    /// By path.
    pub(crate) files: BTreeMap<String, Content>,
    /// The demo model, made longer, by its length.
    pub(crate) sized: BTreeMap<u64, Content>,
    /// The demo model.
    pub(crate) demo: Option<Content>,
}

const PARAMS: &str = r#"{"stop": ["<|im_end|>", "<|endoftext|>"], "temperature": 0.6, "top_p": 0.9, "num_ctx": 512}"#;
const SYSTEM: &str = "You answer in verse.";
const TEMPLATE: &str = "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}";
/// The length of the models called `large`: three parts of 16 MiB, the last of them short.
pub const LARGE_LEN: u64 = (32 << 20) + 4321;

impl Site {
    /// The demo model under several names, and files that are no models.
    pub(crate) fn of_demo(demo: &Content) -> Self {
        let mut site = Self { demo: Some(demo.clone()), ..Self::default() };
        site.add_models(demo);
        site.add_repos(demo);
        site.files.insert("/files/demo.gguf".into(), demo.clone());
        site.files.insert("/files/large.gguf".into(), demo.padded(LARGE_LEN));
        site.files.insert("/files/not-a-model.gguf".into(), not_a_model());
        site
    }

    fn add_models(&mut self, demo: &Content) {
        let full = RegistryModel::new(demo.clone())
            .layer("template", TEMPLATE)
            .layer("system", SYSTEM)
            .layer("params", PARAMS)
            .layer("license", "Apache-2.0");
        for name in ["library/tiny:latest", "library/tiny:q8_0", "library/llama3.2:latest", "library/llama3.2:1b"] {
            self.models.insert(name.into(), full.clone());
        }
        self.models.insert("someone/tiny:latest".into(), full.clone());
        self.models.insert("library/private:latest".into(), full.with_token());
        self.models.insert("library/plain:latest".into(), RegistryModel::new(demo.clone()));
        self.models.insert("library/large:latest".into(), RegistryModel::new(demo.padded(LARGE_LEN)));
        self.models.insert("library/not-a-model:latest".into(), RegistryModel::new(not_a_model()));
    }

    fn add_repos(&mut self, demo: &Content) {
        let readme = Content::bytes(*b"# Demo\n");
        let quants = ["Q2_K", "Q4_K_M", "Q8_0"].map(|quant| (format!("demo-{quant}.gguf"), demo.clone()));
        let files = quants.into_iter().chain([("README.md".to_owned(), readme.clone())]);
        let public = Repo::new(Access::Public, files);
        self.repos.insert("mullama/demo-GGUF".into(), public.clone());
        self.repos.insert("bartowski/Llama-3.2-1B-Instruct-GGUF".into(), public.clone());
        self.repos.insert("mullama/private-GGUF".into(), Repo { access: Access::Private, ..public.clone() });
        self.repos.insert("mullama/gated-GGUF".into(), Repo { access: Access::Gated, ..public });
        let names = shard_names("Q4_K_M/demo-Q4_K_M", 3);
        let shards = names.into_iter().zip(split(&demo.to_vec(), 3));
        self.repos.insert("mullama/split-GGUF".into(), Repo::new(Access::Public, shards));
        let large = [("large-Q4_K_M.gguf", demo.padded(LARGE_LEN))];
        self.repos.insert("mullama/large-GGUF".into(), Repo::new(Access::Public, large));
        self.repos.insert("mullama/empty".into(), Repo::new(Access::Public, [("README.md", readme)]));
        let broken = [("broken-Q4_K_M.gguf", not_a_model())];
        self.repos.insert("mullama/not-a-model-GGUF".into(), Repo::new(Access::Public, broken));
    }

    /// The demo model continued to `len` bytes.
    pub(crate) fn sized(&mut self, len: u64) -> Option<Content> {
        const MOST: usize = 64;
        if let Some(known) = self.sized.get(&len) {
            return Some(known.clone());
        }
        let sized = self.demo.as_ref().filter(|demo| demo.len() <= len)?.padded(len);
        if self.sized.len() < MOST {
            self.sized.insert(len, sized.clone());
        }
        Some(sized)
    }
}

fn not_a_model() -> Content {
    Content::bytes(*b"<html><body>This is a web page, and not a model.</body></html>\n")
}
