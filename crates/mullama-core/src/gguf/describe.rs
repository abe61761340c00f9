//! Reads the header of a GGUF file for people: its metadata, its tensors by type, and what a KV cache of it takes.
//!
//! Unlike [`check`](super::check), it keeps values that no check needs, and describes files that the check refuses.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::metadata::{ARRAY_MOST, KEY_LEN_MOST, KEYS_MOST, Kind, TEXT_LEN_MOST, read_name};
use super::names::{file_type_name, tensor_type_name};
use super::reader::{ReadError, Reader};
use super::{GgufError, shards, tensors};

/// Most elements of an array that are kept, which is one per layer (`LLAMA_MAX_LAYERS`).
const KEPT_MOST: u64 = 512;
/// Most elements of an array of texts that are kept.
const TEXTS_KEPT_MOST: u64 = 16;
/// Most files of a split model.
const SHARDS_MOST: u64 = 4096;

/// A value of a file's metadata.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// An integer of any width.
    Integer(i128),
    /// A number with a fraction.
    Number(f64),
    /// A truth value.
    Flag(bool),
    /// A text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// An array, of which only the first elements are kept: at most 512 numbers, or 16 texts.
    Array {
        /// Number of elements in the file.
        len: u64,
        /// The first elements.
        first: Vec<MetadataValue>,
    },
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorTotal {
    /// ggml's name of the type, such as `Q4_K`; `type 99` for an unknown one.
    pub type_name: String,
    /// Number of tensors.
    pub count: u64,
    /// Number of their elements.
    pub elements: u64,
    /// Bytes of their data; 0 for a type of unknown size.
    pub bytes: u64,
}

/// What the header of a model says, including all files of a split one.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The GGUF version.
    pub version: u32,
    /// The metadata of the first file, in its order.
    pub metadata: Vec<(String, MetadataValue)>,
    /// The tensors by type; the type with the most bytes is first.
    pub tensors: Vec<TensorTotal>,
    /// Size of all files in bytes.
    pub file_len: u64,
    /// All files of the model.
    pub files: Vec<PathBuf>,
}

/// Describes the model at `path`; for a split model, its first file.
///
/// # Errors
///
/// A [`GgufError`] states what cannot be read. Nothing is allocated that the file has no bytes for.
///
/// ```
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
/// let description = mullama::gguf::describe(std::path::Path::new(path))?;
/// assert_eq!(description.text("general.architecture"), Some("llama"));
/// assert!(description.weights_len() <= description.file_len);
/// # Ok::<(), mullama::gguf::GgufError>(())
/// ```
pub fn describe(path: &Path) -> Result<Description, GgufError> {
    let mut totals = BTreeMap::new();
    let (version, metadata, mut file_len) = read(path, &mut totals)?;
    let mut described = Description { version, metadata, tensors: Vec::new(), file_len, files: vec![path.to_owned()] };
    if let Some(count) = described.integer("split.count").filter(|count| *count > 1) {
        let limit = SHARDS_MOST;
        let count = u16::try_from(count).ok().filter(|count| u64::from(*count) <= limit);
        let too_many = || GgufError::TooMany { what: "shards", count: u64::MAX, limit };
        described.files = shards::paths(path, count.ok_or_else(too_many)?)?;
        for shard in &described.files[1..] {
            let in_shard = |source| GgufError::Shard { path: shard.clone(), source: Box::new(source) };
            file_len = file_len.saturating_add(read(shard, &mut totals).map_err(in_shard)?.2);
        }
    }
    described.file_len = file_len;
    described.tensors = totals.into_values().collect();
    described.tensors.sort_by_key(|total| std::cmp::Reverse(total.bytes));
    Ok(described)
}

/// What one file has: its version, metadata and length.
type OneFile = (u32, Vec<(String, MetadataValue)>, u64);

/// Reads one file and adds its tensors to `totals`.
fn read(path: &Path, totals: &mut BTreeMap<u32, TensorTotal>) -> Result<OneFile, GgufError> {
    let io = |source| GgufError::Io { path: path.to_owned(), source };
    // Opening a pipe would wait forever.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(GgufError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io)?;
    let file_len = file.metadata().map_err(io)?.len();
    parse(file, file_len, totals).map_err(|error| match error {
        ReadError::Io(source) => io(source),
        ReadError::Gguf(error) => error,
    })
}

fn parse<R: Read + Seek>(
    file: R,
    file_len: u64,
    totals: &mut BTreeMap<u32, TensorTotal>,
) -> Result<OneFile, ReadError> {
    let mut reader = Reader::new(file, file_len);
    let found = reader.bytes("the magic")?;
    if found != *b"GGUF" {
        return Err(GgufError::WrongMagic { found }.into());
    }
    let version = reader.u32("the version")?;
    if !matches!(version, 2 | 3) {
        return Err(GgufError::UnsupportedVersion { version }.into());
    }
    let tensors = reader.u64("the number of tensors")?;
    let keys = reader.u64("the number of metadata keys")?;
    reader.count("metadata keys", keys, 14, KEYS_MOST)?;
    let (mut metadata, mut name) = (Vec::new(), Vec::new());
    for _ in 0..keys {
        let key = read_name(&mut reader, "a metadata key", KEY_LEN_MOST, &mut name)?;
        let value = read_value(&mut reader, &key)?;
        metadata.push((key, value));
    }
    reader.count("tensors", tensors, 25, tensors::TENSORS_MOST)?;
    for _ in 0..tensors {
        read_tensor(&mut reader, totals, &mut name)?;
    }
    Ok((version, metadata, file_len))
}

fn read_kind<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<Kind, ReadError> {
    let type_id = reader.u32("a metadata value's type")?;
    Ok(Kind::of(type_id).ok_or_else(|| GgufError::BadType { key: key.to_owned(), type_id })?)
}

fn read_value<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<MetadataValue, ReadError> {
    match read_kind(reader, key)? {
        Kind::Array => read_array(reader, key),
        Kind::Text => read_text(reader),
        kind => read_scalar(reader, kind),
    }
}

fn read_text<R: Read + Seek>(reader: &mut Reader<R>) -> Result<MetadataValue, ReadError> {
    let mut text = Vec::new();
    reader.string("a metadata string", TEXT_LEN_MOST, &mut text)?;
    Ok(MetadataValue::Text(String::from_utf8_lossy(&text).into_owned()))
}

fn read_array<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<MetadataValue, ReadError> {
    let kind = read_kind(reader, key)?;
    if kind == Kind::Array {
        return Err(GgufError::NestedArray { key: key.to_owned() }.into());
    }
    let len = reader.u64("an array's length")?;
    reader.count("array elements", len, kind.len(), ARRAY_MOST)?;
    let mut first = Vec::new();
    if kind == Kind::Text {
        for at in 0..len {
            if at < TEXTS_KEPT_MOST {
                first.push(read_text(reader)?);
            } else {
                reader.skip_string("a string of an array", TEXT_LEN_MOST)?;
            }
        }
    } else {
        let kept = len.min(KEPT_MOST);
        for _ in 0..kept {
            first.push(read_scalar(reader, kind)?);
        }
        reader.skip("an array", (len - kept) * kind.len())?;
    }
    Ok(MetadataValue::Array { len, first })
}

fn read_scalar<R: Read + Seek>(reader: &mut Reader<R>, kind: Kind) -> Result<MetadataValue, ReadError> {
    use MetadataValue::{Flag, Integer, Number};
    let what = "a metadata number";
    Ok(match kind {
        Kind::Bool => Flag(reader.bytes::<1>(what)?[0] != 0),
        Kind::U8 => Integer(reader.bytes::<1>(what)?[0].into()),
        Kind::I8 => Integer(i8::from_le_bytes(reader.bytes(what)?).into()),
        Kind::U16 => Integer(u16::from_le_bytes(reader.bytes(what)?).into()),
        Kind::I16 => Integer(i16::from_le_bytes(reader.bytes(what)?).into()),
        Kind::U32 => Integer(reader.u32(what)?.into()),
        Kind::I32 => Integer(i32::from_le_bytes(reader.bytes(what)?).into()),
        Kind::U64 => Integer(reader.u64(what)?.into()),
        Kind::I64 => Integer(i64::from_le_bytes(reader.bytes(what)?).into()),
        Kind::F32 => Number(f32::from_le_bytes(reader.bytes(what)?).into()),
        Kind::F64 => Number(f64::from_le_bytes(reader.bytes(what)?)),
        Kind::Text | Kind::Array => unreachable!("strings and arrays have readers of their own"),
    })
}

fn read_tensor<R: Read + Seek>(
    reader: &mut Reader<R>,
    totals: &mut BTreeMap<u32, TensorTotal>,
    name: &mut Vec<u8>,
) -> Result<(), ReadError> {
    let tensor = read_name(reader, "a tensor's name", KEY_LEN_MOST, name)?;
    let dims = reader.u32("a tensor's dimensions")?;
    if dims > 4 {
        return Err(GgufError::TensorDims { tensor, dims, limit: 4 }.into());
    }
    let mut elements = 1_u64;
    for _ in 0..dims {
        elements = elements.saturating_mul(reader.u64("a tensor's shape")?);
    }
    let type_id = reader.u32("a tensor's type")?;
    reader.skip("a tensor's offset", 8)?;
    let type_name = || tensor_type_name(type_id).map_or_else(|| format!("type {type_id}"), str::to_owned);
    let new = || TensorTotal { type_name: type_name(), count: 0, elements: 0, bytes: 0 };
    let total = totals.entry(type_id).or_insert_with(new);
    total.count += 1;
    total.elements = total.elements.saturating_add(elements);
    total.bytes = total.bytes.saturating_add(tensors::bytes_of(type_id, elements).unwrap_or_default());
    Ok(())
}

impl Description {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.metadata.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// The text of a key; `None` if there is none.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(MetadataValue::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The integer of a key; `None` if there is none.
    pub fn integer(&self, key: &str) -> Option<i128> {
        match self.get(key) {
            Some(MetadataValue::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The count that the architecture's key of this name has, such as `context_length`.
    pub fn count(&self, name: &str) -> Option<u32> {
        let architecture = self.text("general.architecture")?;
        self.integer(&format!("{architecture}.{name}")).and_then(|number| u32::try_from(number).ok())
    }

    /// Number of elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, total| sum.saturating_add(total.elements))
    }

    /// Bytes of all tensors' data.
    pub fn weights_len(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, total| sum.saturating_add(total.bytes))
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_len(&self) -> Option<u64> {
        match self.get("tokenizer.ggml.tokens") {
            Some(MetadataValue::Array { len, .. }) => Some(*len),
            _ => None,
        }
    }

    /// The name of the quantization, such as `Q4_K_M`: that of `general.file_type`, or else the type of most bytes.
    pub fn quantization(&self) -> Option<&str> {
        let declared = self.integer("general.file_type").and_then(file_type_name);
        declared.or_else(|| self.tensors.first().map(|total| total.type_name.as_str()))
    }

    /// Bytes of a KV cache for `n_ctx` tokens; `None` if the file lacks the hyperparameters.
    ///
    /// It is the sum over all layers of `n_ctx * head_count_kv * (key_length + value_length) * 2`, with 2 bytes per
    /// element (f16, the default of `type_k` and `type_v`), as `llama_kv_cache` in llama.cpp's `src/llama-kv-cache.cpp`
    /// allocates it: one tensor of `n_embd_k_gqa * kv_size` elements per layer, and one of `n_embd_v_gqa * kv_size`
    /// except with multi-head latent attention (`attention.key_length_mla`), which has no values of its own. Layers
    /// without key and value heads have no cache. llama.cpp rounds `n_ctx` up to a multiple of 256. What a recurrent
    /// layer keeps does not depend on `n_ctx` and is not included; neither are compute buffers.
    pub fn kv_cache_len(&self, n_ctx: u32) -> Option<u64> {
        let layers = self.count("block_count").filter(|layers| *layers <= 512)?;
        let embedding = self.count("embedding_length")?;
        let heads = self.per_layer("attention.head_count", layers)?;
        let kv_heads = self.per_layer("attention.head_count_kv", layers).unwrap_or_else(|| heads.clone());
        let most = heads.first().copied().unwrap_or_default();
        let head_len = |name| self.count(name).or_else(|| embedding.checked_div(most)).unwrap_or_default();
        let key_len = u64::from(head_len("attention.key_length"));
        let is_latent = self.count("attention.key_length_mla").is_some();
        let value_len = if is_latent { 0 } else { u64::from(head_len("attention.value_length")) };
        let cells = u64::from(n_ctx).next_multiple_of(256);
        let kv_heads = kv_heads.iter().fold(0_u64, |sum, heads| sum.saturating_add(u64::from(*heads)));
        Some(cells.saturating_mul(kv_heads).saturating_mul(key_len + value_len).saturating_mul(2))
    }

    /// The values of a key that is one number for all layers, or one per layer.
    fn per_layer(&self, name: &str, layers: u32) -> Option<Vec<u32>> {
        if let Some(number) = self.count(name) {
            return Some(vec![number; layers as usize]);
        }
        let architecture = self.text("general.architecture")?;
        let MetadataValue::Array { len, first } = self.get(&format!("{architecture}.{name}"))? else {
            return None;
        };
        if *len != u64::from(layers) {
            return None;
        }
        let whole = |value: &MetadataValue| match value {
            MetadataValue::Integer(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        first.iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Cursor;
    use std::path::Path;

    use super::{Description, MetadataValue, describe, parse};

    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    fn numbers(out: &mut Vec<u8>, key: &str, values: &[u32]) {
        text(out, key);
        out.extend([9_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat());
        out.extend((values.len() as u64).to_le_bytes());
        for value in values {
            out.extend(value.to_le_bytes());
        }
    }

    fn number(out: &mut Vec<u8>, key: &str, value: u32) {
        text(out, key);
        out.extend([4_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }

    /// A model of three layers with 4, 0 and 2 heads of keys and values, and one tensor of type `type_id`.
    fn model(type_id: u32) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend([1_u64.to_le_bytes(), 7_u64.to_le_bytes()].concat());
        text(&mut out, "general.architecture");
        out.extend(8_u32.to_le_bytes());
        text(&mut out, "llama");
        number(&mut out, "llama.block_count", 3);
        number(&mut out, "llama.embedding_length", 64);
        number(&mut out, "llama.attention.head_count", 4);
        numbers(&mut out, "llama.attention.head_count_kv", &[4, 0, 2]);
        number(&mut out, "llama.attention.value_length", 8);
        numbers(&mut out, "llama.long", &[7; 2000]);
        text(&mut out, "token_embd.weight");
        out.extend(2_u32.to_le_bytes());
        out.extend([64_u64.to_le_bytes(), 10_u64.to_le_bytes()].concat());
        out.extend(type_id.to_le_bytes());
        out.extend(0_u64.to_le_bytes());
        out
    }

    fn described(bytes: &[u8]) -> Option<Description> {
        let mut totals = BTreeMap::new();
        let (version, metadata, file_len) = parse(Cursor::new(bytes.to_vec()), bytes.len() as u64, &mut totals).ok()?;
        Some(Description { version, metadata, tensors: totals.into_values().collect(), file_len, files: Vec::new() })
    }

    #[test]
    fn the_demo_model_is_described_as_it_was_made() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf"));
        let demo = describe(path).unwrap();
        let checked = crate::gguf::check(path).unwrap();
        assert_eq!(demo.count("context_length"), checked.context_len);
        assert_eq!(demo.vocab_len(), checked.vocab_len);
        assert_eq!(demo.file_len, checked.file_len);
        assert_eq!(demo.tensors.iter().map(|total| total.count).sum::<u64>(), checked.tensors as u64);
        assert!(demo.weights_len() < demo.file_len && demo.weights_len() > demo.file_len / 2);
    }

    #[test]
    fn a_kv_cache_counts_the_heads_of_every_layer() {
        let model = described(&model(0)).unwrap();
        // 16 elements of a key by default (64 / 4), 8 of a value, 6 heads, 2 bytes each; 300 cells are rounded to 512.
        assert_eq!(model.kv_cache_len(512), Some(512 * 6 * (16 + 8) * 2));
        assert_eq!(model.kv_cache_len(300), model.kv_cache_len(512));
        assert_eq!(model.kv_cache_len(0), Some(0));
    }

    #[test]
    fn long_arrays_are_shortened_and_unknown_types_are_named() {
        let model = described(&model(99)).unwrap();
        let Some(MetadataValue::Array { len: 2000, first }) = model.get("llama.long") else { panic!("no array") };
        assert_eq!(first.len(), 512);
        assert_eq!((model.tensors[0].type_name.as_str(), model.tensors[0].elements), ("type 99", 640));
        assert_eq!(model.quantization(), Some("type 99"));
    }

    #[test]
    fn a_header_that_is_cut_or_changed_anywhere_is_an_error_or_described() {
        let whole = model(0);
        for at in 0..whole.len() {
            assert!(described(&whole[..at]).is_none(), "cut at {at}");
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                if let Some(model) = described(&changed) {
                    model.kv_cache_len(u32::MAX);
                    model.quantization();
                }
            }
        }
    }
}
