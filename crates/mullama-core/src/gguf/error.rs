//! Everything that can be wrong with a GGUF file: what, where, and by how much.

use std::io;
use std::path::PathBuf;

/// Why a file was refused before llama.cpp read it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The path refers to a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The file does not begin with `GGUF`.
    #[error("the file begins with \"{}\", not with \"GGUF\"", found.escape_ascii())]
    WrongMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was written for machines with the other byte order.
    #[error("the file is big-endian (version field {version:#010x}); convert it to little-endian")]
    BigEndian {
        /// The version field as read.
        version: u32,
    },
    /// llama.cpp does not support the file's GGUF version.
    #[error("GGUF version {version} is not supported; 2 and 3 are")]
    UnsupportedVersion {
        /// The version field.
        version: u32,
    },
    /// The file ends before required data.
    #[error("the file ends within {what}: {needed} bytes needed at byte {at}, the file has {file_len}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// The offset at which it begins.
        at: u64,
        /// Its size in bytes.
        needed: u64,
        /// The size of the file in bytes.
        file_len: u64,
    },
    /// A count is too large for any model, or for the rest of the file.
    #[error("{count} {what}, but at most {limit} are possible here")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The maximum that is accepted.
        limit: u64,
    },
    /// A string or array is too long.
    #[error("{what} at byte {at} has length {len}, more than {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The offset at which it begins.
        at: u64,
        /// Its length.
        len: u64,
        /// The maximum that is accepted.
        limit: u64,
    },
    /// A name is empty, not UTF-8, or contains a NUL.
    #[error("{what} at byte {at} is not a valid name: {bytes:?}", bytes = bytes.escape_ascii().to_string())]
    BadName {
        /// What the name belongs to.
        what: &'static str,
        /// The offset at which it begins.
        at: u64,
        /// The bytes of the name.
        bytes: Vec<u8>,
    },
    /// A metadata value has a type that GGUF does not define.
    #[error("key {key} has unknown value type {type_id}")]
    BadType {
        /// The key.
        key: String,
        /// The type field.
        type_id: u32,
    },
    /// An array of arrays, which no reader supports.
    #[error("key {key} is an array of arrays")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A key occurs twice.
    #[error("key {key} occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor name occurs twice, perhaps in two shards.
    #[error("tensor {tensor} occurs twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// `general.alignment` is not a power of two of a plausible size.
    #[error("alignment {alignment} is not a power of two between 1 and {limit}")]
    BadAlignment {
        /// The alignment.
        alignment: u32,
        /// The maximum that is accepted.
        limit: u32,
    },
    /// A tensor has more dimensions than llama.cpp supports.
    #[error("tensor {tensor} has {dims} dimensions, more than {limit}")]
    TensorDims {
        /// The tensor.
        tensor: String,
        /// Its number of dimensions.
        dims: u32,
        /// The maximum that is accepted.
        limit: u32,
    },
    /// A tensor has no elements, or more than can be represented.
    #[error("tensor {tensor} has an impossible shape {shape:?}")]
    TensorSize {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        shape: [u64; 4],
    },
    /// A tensor's type is unknown, or was removed from GGUF.
    #[error("tensor {tensor} has unknown type {type_id}")]
    UnknownTensorType {
        /// The tensor.
        tensor: String,
        /// The type field.
        type_id: u32,
    },
    /// A tensor has a type that is not possible for weights of its kind.
    #[error("tensor {tensor} of type {type_id} cannot be computed with: {why}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type field.
        type_id: u32,
        /// The types that are possible.
        why: &'static str,
    },
    /// The rows of a tensor do not consist of whole blocks of its quantization.
    #[error("tensor {tensor} has rows of {row} elements, not a multiple of its block of {block}")]
    BlockSize {
        /// The tensor.
        tensor: String,
        /// Number of elements in a row.
        row: u64,
        /// Number of elements in a block.
        block: u64,
    },
    /// A tensor's data lies beyond the end of the file.
    #[error("tensor {tensor} ends at byte {end}, the file has {file_len}")]
    TensorBeyondEnd {
        /// The tensor.
        tensor: String,
        /// The offset at which its data would end.
        end: u64,
        /// The size of the file in bytes.
        file_len: u64,
    },
    /// A tensor begins before the previous one ends.
    #[error("tensor {tensor} at offset {offset} overlaps the one before, which ends at {previous_end}")]
    TensorsOverlap {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The end of the previous tensor, padded.
        previous_end: u64,
    },
    /// A tensor does not directly follow the previous one, as llama.cpp requires.
    #[error("tensor {tensor} is at offset {offset}, expected at {expected}")]
    TensorGap {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The required offset.
        expected: u64,
    },
    /// A tensor is not aligned as llama.cpp's buffers require.
    #[error("tensor {tensor} at byte {at} is not aligned to {alignment}")]
    TensorMisaligned {
        /// The tensor.
        tensor: String,
        /// Its offset in the file.
        at: u64,
        /// The required alignment.
        alignment: u64,
    },
    /// A key that every model of this kind has is missing.
    #[error("key {key} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// The value of a key does not have the type that llama.cpp reads.
    #[error("key {key} is of type {found}, expected {wanted}")]
    WrongKeyType {
        /// The key.
        key: String,
        /// Its type.
        found: &'static str,
        /// The required type.
        wanted: &'static str,
    },
    /// The number of elements of an array differs from what it describes.
    #[error("key {key} has {found} elements, expected {wanted}")]
    ArrayLength {
        /// The key.
        key: String,
        /// Its number of elements.
        found: u64,
        /// The required number of elements.
        wanted: u64,
    },
    /// A hyperparameter has an impossible value.
    #[error("key {key} is {value}: {why}")]
    Hyperparameter {
        /// The key.
        key: String,
        /// Its value.
        value: f64,
        /// The possible values.
        why: &'static str,
    },
    /// A hyperparameter is larger than any model needs, or than llama.cpp can hold.
    #[error("key {key} is {value}: must be at most {most}")]
    TooLarge {
        /// The key.
        key: String,
        /// Its value.
        value: f64,
        /// The maximum that is accepted.
        most: u32,
    },
    /// A key with a fixed set of choices has none of them as its value.
    #[error("key {key} is {found:?}, expected one of {choices}")]
    Choice {
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// The possible choices.
        choices: &'static str,
    },
    /// llama.cpp could not load or use the vocabulary.
    #[error("token {token} of the vocabulary: {why}")]
    Token {
        /// The token's id.
        token: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tokenizer of RWKV would not get past a byte that is not a token, so it needs all 256 of them.
    #[error("the RWKV vocabulary has no token for the byte 0x{byte:02x}; it needs one for each of the 256 bytes")]
    MissingByteToken {
        /// The first byte without a token.
        byte: u8,
    },
    /// A special token that the tokenizer adds or needs is not in the vocabulary.
    #[error("the tokenizer needs key {key} to name one of its {vocab_len} tokens")]
    MissingSpecialToken {
        /// The key of the token's id.
        key: &'static str,
        /// Number of tokens in the vocabulary.
        vocab_len: u64,
    },
    /// A tensor that the hyperparameters require is not in the file.
    #[error("tensor {tensor} is missing")]
    MissingTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor's shape does not match the hyperparameters; 0 in `wanted` means any size.
    #[error("tensor {tensor} has shape {found:?}, the hyperparameters say {wanted:?}")]
    TensorShape {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: [u64; 4],
        /// The required dimensions.
        wanted: [u64; 4],
    },
    /// A tensor belongs to a block beyond the last one.
    #[error("tensor {tensor} is of block {block}, but there are {blocks}")]
    BlockBeyondCount {
        /// The tensor.
        tensor: String,
        /// The block in its name.
        block: u32,
        /// Number of blocks according to the hyperparameters.
        blocks: u32,
    },
    /// The name of the first shard does not follow llama.cpp's pattern.
    #[error("{} is not the first of {shards} shards: its name must end with {suffix}", path.display())]
    ShardName {
        /// The file.
        path: PathBuf,
        /// The number of shards according to the file.
        shards: u16,
        /// The required end of its name.
        suffix: String,
    },
    /// A shard has the wrong index.
    #[error("the shard says it is number {found}, expected {wanted}")]
    ShardNumber {
        /// Its value of `split.no`.
        found: u64,
        /// The required value.
        wanted: u64,
    },
    /// The number of tensors in all shards differs from the declared one.
    #[error("the shards have {found} tensors, expected {wanted}")]
    ShardTensors {
        /// Number of tensors in all shards.
        found: usize,
        /// The value of `split.tensors.count`.
        wanted: i32,
    },
    /// One of the further shards is invalid.
    #[error("shard {}: {source}", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
}
