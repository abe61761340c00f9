//! Refuses KV pools that this machine cannot hold, before llama.cpp spends seconds on allocating them.

use mullama_ffi::{KvType, Model};

use crate::config::ResolvedParams;
use crate::devices::devices;
use crate::error::MullamaError;

/// Checks that the KV cells of an engine fit into the memory of all devices together. The estimate is a lower bound, so
/// a pool that passes may still be refused by llama.cpp.
///
/// # Errors
/// [`MullamaError::InvalidConfig`] names the field, the bytes that its value needs and the bytes that there are.
pub(crate) fn check(model: &Model, params: &ResolvedParams) -> Result<(), MullamaError> {
    let available = devices().iter().map(|device| device.memory_total).fold(0, u64::saturating_add);
    let cell_bytes = cell_bytes(model, params);
    let cells = u64::from(params.kv_cells);
    let needed = cells.saturating_mul(cell_bytes);
    if available == 0 || needed <= available {
        return Ok(());
    }
    let field = if params.kv_cells as usize > params.context_len { "kv_cells" } else { "n_ctx" };
    let most = available / cell_bytes;
    let range = format!(
        "at most {most} here: its KV cells need {needed} bytes, and the devices of this machine have {available} bytes"
    );
    Err(MullamaError::invalid(field, cells, range))
}

/// Bytes of one KV cell in all layers; 0 for architectures whose layers do not all keep each token.
fn cell_bytes(model: &Model, params: &ResolvedParams) -> u64 {
    let metadata = model.metadata();
    let number = |name: &str| {
        let found = metadata.iter().find(|(key, _)| key.ends_with(name));
        found.and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let varies = metadata.iter().any(|(key, value)| key.ends_with(".attention.head_count_kv") && value.contains('['));
    let shares_cells = number(".attention.kv_lora_rank").is_some() || number(".attention.shared_kv_layers").is_some();
    if model.is_recurrent() || model.is_hybrid() || model.n_swa() > 0 || varies || shares_cells {
        return 0;
    }
    let head_width = u64::from(model.n_embd() / model.n_head().max(1));
    let key_width = number(".attention.key_length").unwrap_or(head_width);
    let value_width = number(".attention.value_length").unwrap_or(head_width);
    let (type_k, type_v) = params.kv_types();
    let eighths = key_width * eighths_of_bytes(type_k) + value_width * eighths_of_bytes(type_v);
    u64::from(model.n_layer()) * u64::from(model.n_head_kv()) * eighths / 8
}

/// The minimum of eighths of bytes that an element of this type takes, without the scales of its block.
fn eighths_of_bytes(kind: KvType) -> u64 {
    match kind {
        KvType::F32 => 32,
        KvType::F16 | KvType::Bf16 => 16,
        KvType::Q8_0 => 8,
        KvType::Q5_1 | KvType::Q5_0 => 5,
        KvType::Q4_1 | KvType::Q4_0 | KvType::Iq4Nl => 4,
    }
}
