//! Shows what is known about a model on this machine.

use std::path::PathBuf;
use std::sync::Arc;

use mullama::gguf::{self, Description, MetadataValue};
use mullama::{ModelLoadFailure, MullamaError};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::find::{self, Found};
use crate::{Defaults, Hub, Location};

/// The context length that mullama uses at most if none is given, in tokens.
const N_CTX_MOST: u32 = 4096;
/// Most elements of an array, and most characters of a text, that are shown.
const SHOWN_MOST: usize = 16;
const TEXT_SHOWN_MOST: usize = 1000;

/// What is known about a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Shown {
    /// The canonical name; for a file, its path.
    pub name: String,
    /// All files of the model.
    #[serde(serialize_with = "crate::local::paths_as_texts")]
    pub files: Vec<PathBuf>,
    /// Whose files they are.
    pub location: Location,
    /// Size of all files in bytes.
    pub size: u64,
    /// The model architecture, such as `llama`.
    pub architecture: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// The quantization, such as `Q4_K_M`.
    pub quantization: Option<String>,
    /// The context length that it was trained for, in tokens.
    pub context_length: Option<u32>,
    /// Width of the embeddings.
    pub embedding_length: Option<u32>,
    /// The metadata of the file. Of an array the first 16 elements are shown, in an object with its `length`; of a text
    /// the first 1000 characters. The chat template is not repeated here.
    pub metadata: Map<String, Value>,
    /// The chat template, as Jinja, which is the one that mullama uses.
    pub template: Option<String>,
    /// The kind of tokenizer, such as `gpt2` or `llama`.
    pub tokenizer: Option<String>,
    /// Number of tokens in the vocabulary.
    pub vocabulary: Option<u64>,
    /// The tensors by type; the type with the most bytes is first.
    pub tensors: Vec<TensorsOfType>,
    /// The licence: its text, or else its name.
    pub license: Option<String>,
    /// Settings that the publisher recommends.
    pub defaults: Defaults,
    /// What the model takes in memory.
    pub memory: Memory,
    /// When mullama used it last, in seconds since 1970.
    pub last_used: Option<u64>,
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorsOfType {
    /// ggml's name of the type, such as `Q4_K`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Number of tensors.
    pub count: u64,
    /// Number of weights.
    pub elements: u64,
    /// Bytes of their data.
    pub bytes: u64,
}

/// What a model takes in memory, without compute buffers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// The context length that the numbers are for, in tokens.
    pub n_ctx: u32,
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of the KV cache with `type_k` and `type_v` of f16; see
    /// [`Description::kv_cache_len`] for the formula. `None` if the file lacks the hyperparameters.
    pub kv_cache: Option<u64>,
}

/// See [`Hub::show`].
fn show(hub: &Hub, name: &str, n_ctx: Option<u32>) -> Result<Shown, MullamaError> {
    if n_ctx == Some(0) {
        let range = "1 to 4294967295".to_owned();
        return Err(MullamaError::InvalidConfig { field: "n_ctx", value: "0".to_owned(), range });
    }
    let Found { model, manifest } = find::find(hub, name)?;
    let described = gguf::describe(&model.path).map_err(|error| {
        let source = Arc::new(error);
        let source = match hub.repair_advice(&model) {
            Some(advice) => ModelLoadFailure::Damaged { source, advice },
            None => ModelLoadFailure::Gguf(source),
        };
        MullamaError::ModelLoad { path: model.path.clone(), source }
    })?;
    let licence = manifest.and_then(|(layout, stored)| layout.licence(&stored.manifest));
    let trained = described.count("context_length");
    let usual = model.defaults.n_ctx.or(trained.map(|trained| trained.min(N_CTX_MOST))).unwrap_or(N_CTX_MOST);
    let n_ctx = n_ctx.unwrap_or(usual);
    let text = |key: &str| described.text(key).map(str::to_owned);
    Ok(Shown {
        location: model.location,
        size: described.file_len,
        architecture: text("general.architecture"),
        parameters: described.parameters(),
        quantization: described.quantization().map(str::to_owned),
        context_length: trained,
        embedding_length: described.count("embedding_length"),
        metadata: metadata(&described),
        template: text("tokenizer.chat_template"),
        tokenizer: text("tokenizer.ggml.model"),
        vocabulary: described.vocab_len(),
        tensors: tensors(&described),
        license: licence.or_else(|| text("general.license")),
        memory: Memory { n_ctx, weights: described.weights_len(), kv_cache: described.kv_cache_len(n_ctx) },
        last_used: hub.store().last_used(&model.path),
        defaults: model.defaults,
        name: model.name,
        files: described.files,
    })
}

fn tensors(described: &Description) -> Vec<TensorsOfType> {
    let of_type = |total: &gguf::TensorTotal| TensorsOfType {
        type_name: total.type_name.clone(),
        count: total.count,
        elements: total.elements,
        bytes: total.bytes,
    };
    described.tensors.iter().map(of_type).collect()
}

fn metadata(described: &Description) -> Map<String, Value> {
    let others = described.metadata.iter().filter(|(key, _)| !key.starts_with("tokenizer.chat_template"));
    others.map(|(key, value)| (key.clone(), to_json(value))).collect()
}

fn to_json(value: &MetadataValue) -> Value {
    match value {
        MetadataValue::Integer(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => Value::Null,
        },
        MetadataValue::Number(number) => (*number).into(),
        MetadataValue::Flag(flag) => (*flag).into(),
        MetadataValue::Text(text) => shortened(text).into(),
        MetadataValue::Array { len, first } => {
            let shown = first.iter().take(SHOWN_MOST).map(to_json).collect::<Vec<_>>();
            if shown.len() as u64 == *len { shown.into() } else { serde_json::json!({"length": len, "first": shown}) }
        }
        _ => Value::Null,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_SHOWN_MOST) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

impl Hub {
    /// What is known about a model on this machine, with the memory that it takes for a context of `n_ctx` tokens
    /// (default: the recommended one, or else the model's own, at most 4096).
    ///
    /// # Errors
    ///
    /// Those of [`find`](Self::find), [`MullamaError::ModelLoad`] if the header of the file cannot be read, and
    /// [`MullamaError::InvalidConfig`] if `n_ctx` is 0.
    pub fn show(&self, name: &str, n_ctx: Option<u32>) -> Result<Shown, MullamaError> {
        show(self, name, n_ctx)
    }
}
