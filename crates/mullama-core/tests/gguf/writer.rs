//! Writes small GGUF files, both valid and invalid ones.

use std::io::Write;

use mullama::gguf::{self, Checked, GgufError};

/// `GGML_TYPE_F32`.
pub(crate) const F32: u32 = 0;
/// `GGML_TYPE_F16`.
pub(crate) const F16: u32 = 1;
/// `GGML_TYPE_Q8_0`.
pub(crate) const Q8_0: u32 = 8;
/// `GGML_TYPE_Q8_K`.
pub(crate) const Q8_K: u32 = 15;
/// `GGML_TYPE_I32`.
pub(crate) const I32: u32 = 26;

/// A metadata value.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(&'static str),
    Texts(Vec<Vec<u8>>),
    U32s(Vec<u32>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// A raw type field, and the bytes that follow it.
    Raw(u32, Vec<u8>),
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        fn array<T>(out: &mut Vec<u8>, kind: u32, items: &[T], mut one: impl FnMut(&mut Vec<u8>, &T)) {
            out.extend(9_u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((items.len() as u64).to_le_bytes());
            for item in items {
                one(out, item);
            }
        }
        match self {
            Self::U16(value) => scalar(out, 2, &value.to_le_bytes()),
            Self::U32(value) => scalar(out, 4, &value.to_le_bytes()),
            Self::I32(value) => scalar(out, 5, &value.to_le_bytes()),
            Self::F32(value) => scalar(out, 6, &value.to_le_bytes()),
            Self::Bool(value) => scalar(out, 7, &[u8::from(*value)]),
            Self::Text(value) => {
                out.extend(8_u32.to_le_bytes());
                text(out, value.as_bytes());
            }
            Self::Texts(items) => array(out, 8, items, |out, item| text(out, item)),
            Self::U32s(items) => array(out, 4, items, |out, item| out.extend(item.to_le_bytes())),
            Self::I32s(items) => array(out, 5, items, |out, item| out.extend(item.to_le_bytes())),
            Self::F32s(items) => array(out, 6, items, |out, item| out.extend(item.to_le_bytes())),
            Self::Raw(kind, bytes) => scalar(out, *kind, bytes),
        }
    }
}

fn scalar(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// A tensor's entry; its offset follows from the previous tensors unless it is given.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) offset: Option<u64>,
}

impl Tensor {
    fn len(&self) -> u64 {
        let elements: u64 = self.shape.iter().product();
        match self.type_id {
            F16 => elements * 2,
            Q8_0 => elements / 32 * 34,
            Q8_K => elements / 256 * 292,
            _ => elements * 4,
        }
    }
}

/// A file to be written.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) version: u32,
    pub(crate) keys: Vec<(String, Value)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: u64,
}

impl Model {
    /// A llama model of one block with everything that llama.cpp requires.
    pub(crate) fn llama() -> Self {
        let model = Self { version: 3, keys: Vec::new(), tensors: Vec::new(), alignment: 32 };
        let tokens = (0..16).map(|id| format!("t{id}").into_bytes()).collect();
        model
            .with("general.architecture", Value::Text("llama"))
            .with("llama.context_length", Value::U32(64))
            .with("llama.embedding_length", Value::U32(32))
            .with("llama.block_count", Value::U32(1))
            .with("llama.feed_forward_length", Value::U32(64))
            .with("llama.attention.head_count", Value::U32(4))
            .with("llama.attention.head_count_kv", Value::U32(2))
            .with("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
            .with("tokenizer.ggml.model", Value::Text("gpt2"))
            .with("tokenizer.ggml.tokens", Value::Texts(tokens))
            .with("tokenizer.ggml.merges", Value::Texts(Vec::new()))
            .tensor("token_embd.weight", &[32, 16], F32)
            .tensor("output_norm.weight", &[32], F32)
            .tensor("blk.0.attn_norm.weight", &[32], F32)
            .tensor("blk.0.attn_q.weight", &[32, 32], Q8_0)
            .tensor("blk.0.attn_k.weight", &[32, 16], Q8_0)
            .tensor("blk.0.attn_v.weight", &[32, 16], F16)
            .tensor("blk.0.attn_output.weight", &[32, 32], F32)
            .tensor("blk.0.ffn_norm.weight", &[32], F32)
            .tensor("blk.0.ffn_gate.weight", &[32, 64], F32)
            .tensor("blk.0.ffn_up.weight", &[32, 64], F32)
            .tensor("blk.0.ffn_down.weight", &[64, 32], F32)
    }

    /// The same model with another architecture's name.
    pub(crate) fn renamed(mut self, arch: &'static str) -> Self {
        for (key, _) in &mut self.keys {
            if let Some(rest) = key.strip_prefix("llama.") {
                *key = format!("{arch}.{rest}");
            }
        }
        self.with("general.architecture", Value::Text(arch))
    }

    /// Adds or changes a key.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some(found) => found.1 = value,
            None => self.keys.push((key.to_owned(), value)),
        }
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// Adds or changes a tensor.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], type_id: u32) -> Self {
        let tensor = Tensor { name: name.to_owned(), shape: shape.to_vec(), type_id, offset: None };
        match self.tensors.iter_mut().find(|tensor| tensor.name == name) {
            Some(found) => *found = tensor,
            None => self.tensors.push(tensor),
        }
        self
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (mut out, mut data_len) = (Vec::new(), 0);
        out.extend(b"GGUF");
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key.as_bytes());
            value.write(&mut out);
        }
        for tensor in &self.tensors {
            text(&mut out, tensor.name.as_bytes());
            out.extend(u32::try_from(tensor.shape.len()).expect("a few").to_le_bytes());
            for side in &tensor.shape {
                out.extend(side.to_le_bytes());
            }
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(data_len).to_le_bytes());
            data_len += tensor.len().next_multiple_of(self.alignment);
        }
        let data_at = (out.len() as u64).next_multiple_of(self.alignment);
        out.resize(usize::try_from(data_at + data_len).expect("small"), 0);
        out
    }

    /// The result of the check for this model.
    pub(crate) fn check(&self) -> Result<Checked, GgufError> {
        check(&self.bytes())
    }
}

/// The result of the check for a file with these bytes.
pub(crate) fn check(bytes: &[u8]) -> Result<Checked, GgufError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    gguf::check(file.path())
}

/// The length of the demo model's header.
pub(crate) const HEADER_LEN: usize = 32_122;

/// The model inside the Python package.
pub(crate) fn demo() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
    std::fs::read(path).expect("the demo model")
}
