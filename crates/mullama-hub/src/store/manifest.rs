//! An Ollama manifest: which blobs a model consists of. What a server or a file says is bounded and checked here.

use std::collections::HashSet;

use serde::Deserialize;

use super::digest::Digest;

/// Most bytes of a manifest.
pub(crate) const MANIFEST_LEN_MOST: u64 = 4 << 20;
/// Most bytes of a layer that is not a model.
pub(crate) const SMALL_LAYER_LEN_MOST: u64 = 16 << 20;
/// Most bytes of a model layer.
pub(crate) const MODEL_LAYER_LEN_MOST: u64 = 4 << 40;
/// Most layers; real manifests have less than ten.
const LAYERS_MOST: usize = 1024;

/// An Ollama manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The configuration of the image, a small JSON document; HF's have one too.
    pub(crate) config: Option<Layer>,
    /// The layers in their order.
    pub(crate) layers: Vec<Layer>,
}

/// One layer of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// What it is.
    pub(crate) kind: LayerKind,
    /// The digest of its blob.
    pub(crate) digest: Digest,
    /// The length of its blob in bytes, within the limit of its kind.
    pub(crate) len: u64,
}

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LayerKind {
    /// The GGUF file.
    Model,
    /// A `LoRA` adapter.
    Adapter,
    /// The projector of a model that sees or hears.
    Projector,
    /// The Go template, which mullama does not use.
    Template,
    /// Recommended settings, as JSON.
    Params,
    /// The system message.
    System,
    /// A licence.
    Licence,
    /// The image's configuration.
    Config,
    /// Anything else.
    Other,
}

impl LayerKind {
    fn of(media_type: &str) -> Self {
        match media_type.strip_prefix("application/vnd.ollama.image.") {
            Some("model") => Self::Model,
            Some("adapter") => Self::Adapter,
            Some("projector") => Self::Projector,
            Some("template" | "prompt") => Self::Template,
            Some("params") => Self::Params,
            Some("system") => Self::System,
            Some("license") => Self::Licence,
            _ => Self::Other,
        }
    }

    /// Most bytes of such a layer.
    const fn len_most(self) -> u64 {
        match self {
            Self::Model | Self::Adapter | Self::Projector | Self::Other => MODEL_LAYER_LEN_MOST,
            _ => SMALL_LAYER_LEN_MOST,
        }
    }
}

#[derive(Deserialize)]
struct RawManifest {
    config: Option<RawLayer>,
    layers: Option<Vec<RawLayer>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLayer {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
}

impl RawLayer {
    fn check(&self, kind: LayerKind) -> Result<Layer, String> {
        let shown = || self.digest.chars().take(80).flat_map(char::escape_debug).collect::<String>();
        let digest = Digest::parse(&self.digest).ok_or_else(|| format!("its digest {} is not a SHA-256", shown()))?;
        let most = kind.len_most();
        if self.size > most {
            return Err(format!("its layer {digest} has {} bytes, but at most {most} are accepted", self.size));
        }
        Ok(Layer { kind, digest, len: self.size })
    }
}

impl Manifest {
    /// Reads a manifest of at most [`MANIFEST_LEN_MOST`] bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one sentence without a full stop.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MANIFEST_LEN_MOST {
            return Err(format!("the manifest has more than {MANIFEST_LEN_MOST} bytes"));
        }
        // The parser refuses documents that are nested too deeply.
        let raw = serde_json::from_slice::<RawManifest>(bytes).map_err(|error| {
            format!("the manifest cannot be read (line {}, column {})", error.line(), error.column())
        })?;
        let layers = raw.layers.ok_or("the manifest has no layers")?;
        if layers.len() > LAYERS_MOST {
            return Err(format!("the manifest has {} layers, but at most {LAYERS_MOST} are accepted", layers.len()));
        }
        let layers =
            layers.iter().map(|layer| layer.check(LayerKind::of(&layer.media_type))).collect::<Result<_, _>>()?;
        // An empty configuration stands for none.
        let config = raw.config.filter(|config| !config.digest.is_empty());
        let config = config.map(|config| config.check(LayerKind::Config)).transpose()?;
        Ok(Self { config, layers })
    }

    /// The layer with the GGUF file, or why mullama cannot use the model.
    pub(crate) fn model(&self) -> Result<&Layer, String> {
        if self.layer(LayerKind::Adapter).is_some() {
            return Err("it needs a LoRA adapter, which mullama does not apply".to_owned());
        }
        let mut models = self.layers.iter().filter(|layer| layer.kind == LayerKind::Model);
        match (models.next(), models.count()) {
            (Some(layer), 0) if layer.len > 0 => Ok(layer),
            (Some(_), 0) => Err("its GGUF file is empty".to_owned()),
            (Some(_), more) => Err(format!("it consists of {} models, but mullama runs one", more + 1)),
            (None, _) => Err("it has no GGUF file: it runs on a server of Ollama, or has another format".to_owned()),
        }
    }

    /// The first layer of a kind.
    pub(crate) fn layer(&self, kind: LayerKind) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.kind == kind)
    }

    /// The layers that mullama downloads: the model, and the small ones that it reads (parameters, system message,
    /// licences, configuration). No digest occurs twice.
    pub(crate) fn wanted(&self) -> Vec<&Layer> {
        use LayerKind::{Config, Licence, Model, Params, System};
        let mut seen = HashSet::new();
        let all = self.layers.iter().chain(&self.config);
        let mut wanted = all
            .filter(|layer| {
                matches!(layer.kind, Model | Params | System | Licence | Config) && seen.insert(&layer.digest)
            })
            .collect::<Vec<_>>();
        // A failure of a small layer is known before the long download begins.
        wanted.sort_by_key(|layer| layer.kind == Model);
        wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{LayerKind, Manifest};

    fn layer(kind: &str, digit: char, size: u64) -> Value {
        let digest = format!("sha256:{}", digit.to_string().repeat(64));
        json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": size})
    }

    fn parse(manifest: &Value) -> Result<Manifest, String> {
        Manifest::parse(manifest.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_names_the_layers_that_are_downloaded() {
        let config =
            json!({"mediaType": "application/vnd.docker.container.image.v1+json", "digest": "a".repeat(64), "size": 5});
        let layers = [
            layer("model", '1', 9),
            layer("template", '2', 9),
            layer("license", '3', 9),
            layer("license", '3', 9),
            layer("params", '4', 9),
            layer("projector", '5', 9),
            layer("messages", '6', 9),
            layer("system", '7', 9),
        ];
        let manifest = parse(&json!({"schemaVersion": 2, "config": config, "layers": layers})).unwrap();
        assert_eq!(manifest.model().unwrap().digest.hex(), "1".repeat(64));
        let kinds = manifest.wanted().iter().map(|layer| layer.kind).collect::<Vec<_>>();
        assert_eq!(
            kinds,
            [LayerKind::Licence, LayerKind::Params, LayerKind::System, LayerKind::Config, LayerKind::Model]
        );
    }

    #[test]
    fn models_that_cannot_run_say_why() {
        let reason = |layers: Value| parse(&json!({"layers": layers})).unwrap().model().unwrap_err();
        assert!(reason(json!([])).contains("no GGUF file"));
        assert!(reason(json!([layer("tensor", '1', 9)])).contains("no GGUF file"));
        assert!(reason(json!([layer("model", '1', 9), layer("adapter", '2', 9)])).contains("LoRA"));
        assert!(reason(json!([layer("model", '1', 9), layer("model", '2', 9)])).contains("2 models"));
        assert!(reason(json!([layer("model", '1', 0)])).contains("empty"));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let with = |key: &str, value: Value| {
            let mut layer = layer("model", '1', 9);
            layer[key] = value;
            json!({"layers": [layer]})
        };
        for manifest in [
            json!({}),
            json!([]),
            json!({"layers": {}}),
            json!({"layers": [{}]}),
            json!({"layers": [null]}),
            with("digest", json!("sha256:../../../../etc/passwd")),
            with("digest", json!("")),
            with("digest", json!(7)),
            with("digest", json!("sha256:".to_owned() + &"z".repeat(64))),
            with("size", json!(-1)),
            with("size", json!(1e30)),
            with("size", json!(u64::MAX)),
            with("size", json!("9")),
            json!({"layers": [layer("params", '1', 1 << 30)]}),
            json!({"layers": vec![layer("model", '1', 9); 2000]}),
            json!({"manifests": []}),
        ] {
            let refused = parse(&manifest).unwrap_err();
            assert!(refused.len() < 300 && !refused.ends_with('.'), "{refused}");
        }
        let deep = format!("{{\"layers\":{}", "[".repeat(100_000));
        assert!(Manifest::parse(deep.as_bytes()).is_err());
        assert!(Manifest::parse(&vec![b' '; (4 << 20) + 1]).unwrap_err().contains("4194304"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in any::<Vec<u8>>()) {
            let _ = Manifest::parse(&bytes);
        }
    }
}
