//! What can be wrong with a GGUF file: what, where, and how much.

use std::io;
use std::path::PathBuf;

/// Why a file was refused before llama.cpp saw it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path names a directory, a pipe or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file does not begin with `GGUF`.
    #[error("the file begins with \"{}\", not with \"GGUF\"", found.escape_ascii())]
    WrongMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// The file was written for machines of the other byte order.
    #[error("the file is big-endian (version field {version:#010x}); convert it to little-endian")]
    BigEndian {
        /// The version field as read.
        version: u32,
    },
    /// llama.cpp does not read the file's GGUF version.
    #[error("GGUF version {version} is not supported; 2 and 3 are")]
    UnsupportedVersion {
        /// The version field.
        version: u32,
    },
    /// The file ends before something that must be there.
    #[error("the file ends within {what}: {needed} bytes needed at byte {at}, the file has {file_len}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// How many bytes it takes.
        needed: u64,
        /// How many bytes the file has.
        file_len: u64,
    },
    /// A count is too large for any model, or for the rest of the file.
    #[error("{count} {what}, but at most {limit} are possible here")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count.
        count: u64,
        /// The most that would be accepted.
        limit: u64,
    },
    /// A string or array is too long.
    #[error("{what} at byte {at} has length {len}, more than {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Where it begins.
        at: u64,
        /// Its length.
        len: u64,
        /// The most that would be accepted.
        limit: u64,
    },
    /// A name is empty, not UTF-8, or contains a NUL.
    #[error("{what} at byte {at} is not a valid name: {bytes:?}", bytes = bytes.escape_ascii().to_string())]
    BadName {
        /// Whose name it is.
        what: &'static str,
        /// Where it begins.
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
    /// `general.alignment` is not a power of two of a sane size.
    #[error("alignment {alignment} is not a power of two between 1 and {limit}")]
    BadAlignment {
        /// The alignment.
        alignment: u32,
        /// The most that would be accepted.
        limit: u32,
    },
    /// A tensor has more dimensions than llama.cpp knows.
    #[error("tensor {tensor} has {dims} dimensions, more than {limit}")]
    TensorDims {
        /// The tensor.
        tensor: String,
        /// How many dimensions it has.
        dims: u32,
        /// The most that would be accepted.
        limit: u32,
    },
    /// A tensor has no elements, or more than can be counted.
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
    /// A tensor's type is not one that weights of its kind can have.
    #[error("tensor {tensor} of type {type_id} cannot be computed with: {why}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The type field.
        type_id: u32,
        /// What the type would have to be.
        why: &'static str,
    },
    /// A tensor's rows are not whole blocks of its quantization.
    #[error("tensor {tensor} has rows of {row} elements, not a multiple of its block of {block}")]
    BlockSize {
        /// The tensor.
        tensor: String,
        /// Elements in a row.
        row: u64,
        /// Elements in a block.
        block: u64,
    },
    /// A tensor's data lies beyond the end of the file.
    #[error("tensor {tensor} ends at byte {end}, the file has {file_len}")]
    TensorBeyondEnd {
        /// The tensor.
        tensor: String,
        /// Where its data would end.
        end: u64,
        /// How many bytes the file has.
        file_len: u64,
    },
    /// A tensor begins before the one in front of it ends.
    #[error("tensor {tensor} at offset {offset} overlaps the one before, which ends at {previous_end}")]
    TensorsOverlap {
        /// The tensor.
        tensor: String,
        /// Where it begins in the data section.
        offset: u64,
        /// Where the tensor before it ends, padded.
        previous_end: u64,
    },
    /// A tensor does not follow the one in front of it, as llama.cpp requires.
    #[error("tensor {tensor} is at offset {offset}, expected at {expected}")]
    TensorGap {
        /// The tensor.
        tensor: String,
        /// Where it begins in the data section.
        offset: u64,
        /// Where it would have to begin.
        expected: u64,
    },
    /// A tensor is not aligned as llama.cpp's buffers need it.
    #[error("tensor {tensor} at byte {at} is not aligned to {alignment}")]
    TensorMisaligned {
        /// The tensor.
        tensor: String,
        /// Where it begins in the file.
        at: u64,
        /// The alignment it breaks.
        alignment: u64,
    },
    /// A key that every model of this kind has is missing.
    #[error("key {key} is missing")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key has a value of another type than llama.cpp reads.
    #[error("key {key} is of type {found}, expected {wanted}")]
    WrongKeyType {
        /// The key.
        key: String,
        /// The type it has.
        found: &'static str,
        /// The type it should have.
        wanted: &'static str,
    },
    /// An array has another number of elements than what it describes.
    #[error("key {key} has {found} elements, expected {wanted}")]
    ArrayLength {
        /// The key.
        key: String,
        /// How many elements it has.
        found: u64,
        /// How many it should have.
        wanted: u64,
    },
    /// A hyperparameter that no model can have.
    #[error("key {key} is {value}: {why}")]
    Hyperparameter {
        /// The key.
        key: String,
        /// Its value.
        value: f64,
        /// What it would have to be.
        why: &'static str,
    },
    /// A hyperparameter is larger than any model needs, or than llama.cpp can hold.
    #[error("key {key} is {value}: must be at most {most}")]
    TooLarge {
        /// The key.
        key: String,
        /// Its value.
        value: f64,
        /// The largest value that is accepted.
        most: u32,
    },
    /// A key that names one of a few choices names none of them.
    #[error("key {key} is {found:?}, expected one of {choices}")]
    Choice {
        /// The key.
        key: String,
        /// What it names.
        found: String,
        /// What it could name.
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
    /// A special token that the tokenizer adds or needs is not in the vocabulary.
    #[error("the tokenizer needs key {key} to name one of its {vocab_len} tokens")]
    MissingSpecialToken {
        /// The key of the token's id.
        key: &'static str,
        /// How many tokens there are.
        vocab_len: u64,
    },
    /// A tensor that the hyperparameters promise is not in the file.
    #[error("tensor {tensor} is missing")]
    MissingTensor {
        /// The tensor.
        tensor: String,
    },
    /// A tensor's shape does not fit the hyperparameters; 0 in `wanted` is any size.
    #[error("tensor {tensor} has shape {found:?}, the hyperparameters say {wanted:?}")]
    TensorShape {
        /// The tensor.
        tensor: String,
        /// Its dimensions.
        found: [u64; 4],
        /// What they should be.
        wanted: [u64; 4],
    },
    /// A tensor belongs to a block beyond the last one.
    #[error("tensor {tensor} is of block {block}, but there are {blocks}")]
    BlockBeyondCount {
        /// The tensor.
        tensor: String,
        /// The block in its name.
        block: u32,
        /// How many blocks the hyperparameters say.
        blocks: u32,
    },
    /// The first of several shards is not named as llama.cpp names them.
    #[error("{} is not the first of {shards} shards: its name must end with {suffix}", path.display())]
    ShardName {
        /// The file.
        path: PathBuf,
        /// How many shards it says there are.
        shards: u16,
        /// How its name would have to end.
        suffix: String,
    },
    /// A shard says that it is another one.
    #[error("the shard says it is number {found}, expected {wanted}")]
    ShardNumber {
        /// What its `split.no` says.
        found: u64,
        /// What it should say.
        wanted: u64,
    },
    /// The shards together have another number of tensors than promised.
    #[error("the shards have {found} tensors, expected {wanted}")]
    ShardTensors {
        /// How many tensors there are.
        found: usize,
        /// How many `split.tensors.count` says.
        wanted: i32,
    },
    /// A further shard is broken.
    #[error("shard {}: {source}", path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<GgufError>,
    },
}
