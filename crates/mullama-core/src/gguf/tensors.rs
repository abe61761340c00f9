//! Reads the tensors of a GGUF file: names, shapes, types, and where their data is.

use std::collections::HashSet;
use std::io::{Read, Seek};

use super::GgufError;
use super::metadata::read_name;
use super::reader::{ReadError, Reader};

/// The largest models have a few thousand tensors.
pub(super) const TENSORS_MOST: u64 = 1 << 18;
/// `GGML_MAX_NAME`, which includes the NUL.
const NAME_LEN_MOST: u64 = 63;
/// `GGML_MAX_DIMS`.
const DIMS_MOST: u32 = 4;
/// The alignment that ggml's CPU buffers assert (`TENSOR_ALIGNMENT`).
const BUFFER_ALIGNMENT: u64 = 32;

/// A tensor's entry in the header.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: [u64; 4],
    offset: u64,
    len: u64,
}

/// Reads `count` entries and checks that llama.cpp can compute with each of them.
pub(super) fn read<R: Read + Seek>(reader: &mut Reader<R>, count: u64) -> Result<Vec<Tensor>, ReadError> {
    let least = 8 + 1 + 4 + 4 + 8; // a name's length, one byte of it, dimensions, type, offset
    reader.count("tensors", count, least, TENSORS_MOST)?;
    let mut tensors = Vec::new();
    let mut name = Vec::new();
    for _ in 0..count {
        tensors.push(read_one(reader, &mut name)?);
    }
    let mut names = HashSet::with_capacity(tensors.len());
    for Tensor { name, .. } in &tensors {
        if !names.insert(name) {
            return Err(GgufError::DuplicateTensor { tensor: name.clone() }.into());
        }
    }
    Ok(tensors)
}

fn read_one<R: Read + Seek>(reader: &mut Reader<R>, name: &mut Vec<u8>) -> Result<Tensor, ReadError> {
    let tensor = read_name(reader, "a tensor's name", NAME_LEN_MOST, name)?;
    let dims = reader.u32("a tensor's dimensions")?;
    if dims > DIMS_MOST {
        return Err(GgufError::TensorDims { tensor, dims, limit: DIMS_MOST }.into());
    }
    let mut shape = [1; 4];
    for side in shape.iter_mut().take(dims as usize) {
        *side = reader.u64("a tensor's shape")?;
    }
    let type_id = reader.u32("a tensor's type")?;
    let offset = reader.u64("a tensor's offset")?;
    let len = data_len(&tensor, shape, dims, type_id)?;
    Ok(Tensor { name: tensor, shape, offset, len })
}

/// Size of a tensor's data in bytes.
fn data_len(tensor: &str, shape: [u64; 4], dims: u32, type_id: u32) -> Result<u64, GgufError> {
    let tensor = || tensor.to_owned();
    let Some(block) = Block::of(type_id) else {
        return Err(GgufError::UnknownTensorType { tensor: tensor(), type_id });
    };
    block.check_use(&tensor(), dims, type_id)?;
    let elements = shape.iter().try_fold(1_i64, |product, side| product.checked_mul(i64::try_from(*side).ok()?));
    let Some(elements) = elements.filter(|elements| *elements > 0) else {
        return Err(GgufError::TensorSize { tensor: tensor(), shape });
    };
    if !shape[0].is_multiple_of(block.elements) {
        return Err(GgufError::BlockSize { tensor: tensor(), row: shape[0], block: block.elements });
    }
    let len = (elements.unsigned_abs() / block.elements).checked_mul(block.bytes);
    len.ok_or_else(|| GgufError::TensorSize { tensor: tensor(), shape })
}

/// Bytes that so many elements of a type take; `None` for an unknown type.
pub(super) fn bytes_of(type_id: u32, elements: u64) -> Option<u64> {
    Block::of(type_id).map(|block| elements.div_ceil(block.elements).saturating_mul(block.bytes))
}

/// Checks that the tensors' data lies in the file one after another, as llama.cpp requires.
pub(super) fn check_layout(
    tensors: &[Tensor],
    header_len: u64,
    alignment: u64,
    file_len: u64,
) -> Result<(), GgufError> {
    let data_at = header_len.next_multiple_of(alignment);
    let mut expected = 0_u64;
    for Tensor { name, offset, len, .. } in tensors {
        let (tensor, offset) = (|| name.clone(), *offset);
        if offset < expected {
            return Err(GgufError::TensorsOverlap { tensor: tensor(), offset, previous_end: expected });
        }
        let end = data_at.checked_add(offset).and_then(|at| at.checked_add(*len));
        if end.is_none_or(|end| end > file_len) {
            let end = end.unwrap_or(u64::MAX);
            return Err(GgufError::TensorBeyondEnd { tensor: tensor(), end, file_len });
        }
        for alignment in [alignment, BUFFER_ALIGNMENT] {
            let at = data_at + offset;
            if !at.is_multiple_of(alignment) {
                return Err(GgufError::TensorMisaligned { tensor: tensor(), at, alignment });
            }
        }
        if offset > expected {
            return Err(GgufError::TensorGap { tensor: tensor(), offset, expected });
        }
        expected = (offset + len).next_multiple_of(alignment);
    }
    Ok(())
}

/// How a type packs its elements.
#[derive(Debug, Clone, Copy)]
struct Block {
    elements: u64,
    bytes: u64,
    usage: Usage,
}

/// What llama.cpp can use a type for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    /// Everything.
    F32,
    /// Matrix multiplication, and lookup of rows.
    Packed,
    /// A table of integers, only for architectures that have one.
    Table,
    /// Nothing: types of activations, or of other programs, which no kernel multiplies by.
    Nothing,
}

impl Block {
    /// The table of `ggml.c` (`type_traits`); missing types were removed from GGUF or never existed.
    fn of(type_id: u32) -> Option<Self> {
        use Usage::{F32, Nothing, Packed, Table};
        let (elements, bytes, usage) = match type_id {
            0 => (1, 4, F32),              // F32
            1 | 30 => (1, 2, Packed),      // F16, BF16
            2 | 20 => (32, 18, Packed),    // Q4_0, IQ4_NL
            3 => (32, 20, Packed),         // Q4_1
            6 => (32, 22, Packed),         // Q5_0
            7 => (32, 24, Packed),         // Q5_1
            8 => (32, 34, Packed),         // Q8_0
            9 => (32, 36, Nothing),        // Q8_1
            10 => (256, 84, Packed),       // Q2_K
            11 | 21 => (256, 110, Packed), // Q3_K, IQ3_S
            12 => (256, 144, Packed),      // Q4_K
            13 => (256, 176, Packed),      // Q5_K
            14 => (256, 210, Packed),      // Q6_K
            15 => (256, 292, Nothing),     // Q8_K
            16 | 35 => (256, 66, Packed),  // IQ2_XXS, TQ2_0
            17 => (256, 74, Packed),       // IQ2_XS
            18 => (256, 98, Packed),       // IQ3_XXS
            19 => (256, 50, Packed),       // IQ1_S
            22 => (256, 82, Packed),       // IQ2_S
            23 => (256, 136, Packed),      // IQ4_XS
            24 => (1, 1, Nothing),         // I8
            25 => (1, 2, Nothing),         // I16
            26 => (1, 4, Table),           // I32
            27 | 28 => (1, 8, Nothing),    // I64, F64
            29 => (256, 56, Packed),       // IQ1_M
            34 => (256, 54, Packed),       // TQ1_0
            39 => (32, 17, Packed),        // MXFP4
            40 => (64, 36, Packed),        // NVFP4
            41 => (128, 18, Packed),       // Q1_0
            42 => (64, 18, Packed),        // Q2_0
            _ => return None,
        };
        Some(Self { elements, bytes, usage })
    }

    fn check_use(self, tensor: &str, dims: u32, type_id: u32) -> Result<(), GgufError> {
        let why = match self.usage {
            Usage::F32 => return Ok(()),
            Usage::Packed if is_matrix(tensor, dims) => return Ok(()),
            // DeepSeek 4 routes some layers by a table from token to expert.
            Usage::Table if tensor.contains("tid2eid") => return Ok(()),
            Usage::Packed => "a tensor that is not multiplied as a matrix must be F32",
            Usage::Table => "only tables of ids may have integers",
            Usage::Nothing => "no weights have this type",
        };
        Err(GgufError::TensorType { tensor: tensor.to_owned(), type_id, why })
    }
}

/// Parts of the names of tensors that are added, multiplied elementwise or convolved: ggml's CPU kernels for that
/// accept only F32, and abort on a worker thread otherwise.
const NOT_MATRICES: &[&str] = &["norm", "ssm_conv1d", "shortconv.conv", "mix_lerp", "token_types"];

fn is_matrix(tensor: &str, dims: u32) -> bool {
    let is_weight = [".weight", ".lora_a", ".lora_b"].iter().any(|suffix| tensor.ends_with(suffix));
    dims >= 2 && is_weight && !NOT_MATRICES.iter().any(|part| tensor.contains(part))
}
