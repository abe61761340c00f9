//! Reads the key-value pairs of a GGUF file once, and returns them by key with the type that llama.cpp asks for.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::GgufError;
use super::reader::{ReadError, Reader};

/// Real files have tens of keys, and llama.cpp finds a key by a linear search.
pub(super) const KEYS_MOST: u64 = 65_536;
/// The GGUF specification's own limit on the length of a key.
pub(super) const KEY_LEN_MOST: u64 = 65_535;
/// Chat templates and licences have tens of kilobytes.
pub(super) const TEXT_LEN_MOST: u64 = 16 << 20;
/// Some tokenizers of llama.cpp use one stack frame per byte of a token; real tokens have at most a few hundred bytes.
const TOKEN_LEN_MOST: u64 = 4096;
/// Vocabularies and merge lists have at most a few million entries.
pub(super) const ARRAY_MOST: u64 = 1 << 26;
/// Per-layer arrays have at most 512 elements (`LLAMA_MAX_LAYERS`); the values of longer ones are not kept.
const NUMBERS_KEPT_MOST: u64 = 1024;
/// The one string array whose values are kept.
pub(super) const TOKENS_KEY: &str = "tokenizer.ggml.tokens";

/// A type of metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    pub(super) fn of(type_id: u32) -> Option<Self> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        let kinds = [U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64];
        kinds.get(type_id as usize).copied()
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Text => "string",
            Self::Array => "array",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }

    /// Minimum number of bytes that one value takes in the file.
    pub(super) fn len(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::Text | Self::Array | Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// The concatenated strings of `tokenizer.ggml.tokens`.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Tokens {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }
}

/// A metadata value, reduced to what the checks need.
#[derive(Debug)]
pub(super) enum Value {
    /// Any scalar except a string. Integers above 2^53 lose their last bits, which no check needs.
    Number(Kind, f64),
    Text(String),
    Array {
        kind: Kind,
        len: u64,
        numbers: Vec<f64>,
        tokens: Tokens,
    },
}

impl Value {
    fn kind(&self) -> Kind {
        match self {
            Self::Number(kind, _) => *kind,
            Self::Text(_) => Kind::Text,
            Self::Array { .. } => Kind::Array,
        }
    }
}

/// All key-value pairs of a file.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    values: BTreeMap<String, Value>,
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read<R: Read + Seek>(reader: &mut Reader<R>, count: u64) -> Result<Self, ReadError> {
        let least = 8 + 1 + 4 + 1; // a key's length, one byte of it, the type, one byte of value
        reader.count("metadata keys", count, least, KEYS_MOST)?;
        let mut values = BTreeMap::new();
        let mut name = Vec::new();
        for _ in 0..count {
            let key = read_name(reader, "a metadata key", KEY_LEN_MOST, &mut name)?;
            let value = read_value(reader, &key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(GgufError::DuplicateKey { key }.into());
            }
        }
        Ok(Self { values })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key that llama.cpp reads as a 32-bit count.
    pub(super) fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        Ok(self.scalar(key, Kind::U32)?.map(whole))
    }

    /// The value of a key that llama.cpp reads as a 16-bit count.
    pub(super) fn u16(&self, key: &str) -> Result<Option<u16>, GgufError> {
        let value = self.scalar(key, Kind::U16)?;
        Ok(value.map(|value| u16::try_from(whole(value)).expect("it was read as u16")))
    }

    /// The value of a key that llama.cpp reads as a signed 32-bit count.
    #[allow(clippy::cast_possible_truncation)] // it was read as i32
    pub(super) fn i32(&self, key: &str) -> Result<Option<i32>, GgufError> {
        Ok(self.scalar(key, Kind::I32)?.map(|value| value as i32))
    }

    pub(super) fn f32(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.scalar(key, Kind::F32)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        Ok(self.scalar(key, Kind::Bool)?.map(|value| value != 0.0))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(value) => Err(wrong_type(key, value.kind(), Kind::Text)),
        }
    }

    /// The values of a key that is either one number for all `len` layers, or an array of `len` numbers.
    pub(super) fn per_layer(&self, key: &str, len: u32) -> Result<Option<Vec<u32>>, GgufError> {
        let Some(Value::Array { kind, len: found, numbers, .. }) = self.get(key) else {
            return Ok(self.u32(key)?.map(|value| vec![value; len as usize]));
        };
        if !matches!(kind, Kind::U32 | Kind::I32) {
            return Err(wrong_type(key, *kind, Kind::U32));
        }
        if *found != u64::from(len) || numbers.len() != len as usize {
            return Err(GgufError::ArrayLength { key: key.to_owned(), found: *found, wanted: len.into() });
        }
        if let Some(&value) = numbers.iter().find(|value| **value < 0.0) {
            let why = "it must not be negative";
            return Err(GgufError::Hyperparameter { key: key.to_owned(), value, why });
        }
        Ok(Some(numbers.iter().map(|value| whole(*value)).collect()))
    }

    fn scalar(&self, key: &str, wanted: Kind) -> Result<Option<f64>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Number(kind, number)) if *kind == wanted => Ok(Some(*number)),
            Some(value) => Err(wrong_type(key, value.kind(), wanted)),
        }
    }
}

fn wrong_type(key: &str, found: Kind, wanted: Kind) -> GgufError {
    GgufError::WrongKeyType { key: key.to_owned(), found: found.name(), wanted: wanted.name() }
}

/// A number that was read from an unsigned field of at most 32 bits, or from a signed one and is not negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u32 {
    number as u32
}

/// Reads a key or a tensor's name: UTF-8, not empty, and without NUL, at which the C code of llama.cpp would truncate
/// it.
pub(super) fn read_name<R: Read + Seek>(
    reader: &mut Reader<R>,
    what: &'static str,
    limit: u64,
    name: &mut Vec<u8>,
) -> Result<String, ReadError> {
    let at = reader.at();
    reader.string(what, limit, name)?;
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(GgufError::BadName { what, at, bytes: name.iter().copied().take(64).collect() }.into()),
    }
}

fn read_kind<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<Kind, ReadError> {
    let type_id = reader.u32("a metadata value's type")?;
    Ok(Kind::of(type_id).ok_or_else(|| GgufError::BadType { key: key.to_owned(), type_id })?)
}

fn read_value<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<Value, ReadError> {
    Ok(match read_kind(reader, key)? {
        Kind::Text => {
            let mut text = Vec::new();
            reader.string("a metadata string", TEXT_LEN_MOST, &mut text)?;
            Value::Text(String::from_utf8_lossy(&text).into_owned())
        }
        Kind::Array => read_array(reader, key)?,
        kind => Value::Number(kind, read_number(reader, kind)?),
    })
}

fn read_array<R: Read + Seek>(reader: &mut Reader<R>, key: &str) -> Result<Value, ReadError> {
    let kind = read_kind(reader, key)?;
    if kind == Kind::Array {
        return Err(GgufError::NestedArray { key: key.to_owned() }.into());
    }
    let len = reader.u64("an array's length")?;
    reader.count("array elements", len, kind.len(), ARRAY_MOST)?;
    let (mut numbers, mut tokens) = (Vec::new(), Tokens::default());
    if kind == Kind::Text {
        if key == TOKENS_KEY {
            tokens = read_tokens(reader, len)?;
        } else {
            for _ in 0..len {
                reader.skip_string("a string of an array", TEXT_LEN_MOST)?;
            }
        }
    } else if len <= NUMBERS_KEPT_MOST {
        for _ in 0..len {
            numbers.push(read_number(reader, kind)?);
        }
    } else {
        reader.skip("an array", len * kind.len())?;
    }
    Ok(Value::Array { kind, len, numbers, tokens })
}

fn read_tokens<R: Read + Seek>(reader: &mut Reader<R>, len: u64) -> Result<Tokens, ReadError> {
    let mut tokens = Tokens::default();
    let mut token = Vec::new();
    for _ in 0..len {
        reader.string("a token", TOKEN_LEN_MOST, &mut token)?;
        tokens.bytes.extend_from_slice(&token);
        tokens.ends.push(tokens.bytes.len());
    }
    Ok(tokens)
}

#[allow(clippy::cast_precision_loss)] // see `Value::Number`
fn read_number<R: Read + Seek>(reader: &mut Reader<R>, kind: Kind) -> Result<f64, ReadError> {
    let what = "a metadata number";
    Ok(match kind {
        Kind::U8 | Kind::Bool => f64::from(reader.bytes::<1>(what)?[0]),
        Kind::I8 => f64::from(i8::from_le_bytes(reader.bytes(what)?)),
        Kind::U16 => f64::from(u16::from_le_bytes(reader.bytes(what)?)),
        Kind::I16 => f64::from(i16::from_le_bytes(reader.bytes(what)?)),
        Kind::U32 => f64::from(reader.u32(what)?),
        Kind::I32 => f64::from(i32::from_le_bytes(reader.bytes(what)?)),
        Kind::F32 => f64::from(f32::from_le_bytes(reader.bytes(what)?)),
        Kind::U64 => reader.u64(what)? as f64,
        Kind::I64 => i64::from_le_bytes(reader.bytes(what)?) as f64,
        Kind::F64 => f64::from_le_bytes(reader.bytes(what)?),
        Kind::Text | Kind::Array => unreachable!("strings and arrays have readers of their own"),
    })
}

#[cfg(test)]
mod tests {
    use super::{Kind, Metadata, Tokens, Value};

    fn metadata(value: Value) -> Metadata {
        Metadata { values: [("key".to_owned(), value)].into() }
    }

    #[test]
    fn a_value_is_returned_only_with_its_own_type() {
        let number = metadata(Value::Number(Kind::U32, 7.0));
        assert_eq!(number.u32("key").unwrap(), Some(7));
        assert_eq!(number.u32("another").unwrap(), None);
        assert!(number.u16("key").is_err() && number.f32("key").is_err() && number.flag("key").is_err());
        assert!(number.text("key").is_err());
        let text = metadata(Value::Text("seven".to_owned()));
        assert_eq!(text.text("key").unwrap(), Some("seven"));
        assert!(text.u32("key").is_err());
    }

    #[test]
    fn a_per_layer_value_is_one_number_or_one_per_layer() {
        assert_eq!(metadata(Value::Number(Kind::U32, 7.0)).per_layer("key", 3).unwrap(), Some(vec![7; 3]));
        let array = |kind| Value::Array { kind, len: 2, numbers: vec![1.0, 2.0], tokens: Tokens::default() };
        assert_eq!(metadata(array(Kind::I32)).per_layer("key", 2).unwrap(), Some(vec![1, 2]));
        assert!(metadata(array(Kind::I32)).per_layer("key", 3).is_err());
        assert!(metadata(array(Kind::F32)).per_layer("key", 2).is_err());
    }

    #[test]
    fn tokens_come_back_as_they_were_read() {
        let tokens = Tokens { bytes: b"abcd".to_vec(), ends: vec![1, 1, 4] };
        assert_eq!(tokens.iter().collect::<Vec<_>>(), [b"a".as_slice(), b"", b"bcd"]);
    }
}
