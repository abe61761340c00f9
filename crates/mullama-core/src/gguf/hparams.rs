//! Checks that the hyperparameters which llama.cpp asserts on, divides by or indexes with are within the range that it
//! needs.
//!
//! Keys are read with the types that llama.cpp uses. Values that it refuses with its own error are not checked here.

use super::GgufError;
use super::arch::Arch;
use super::metadata::{Metadata, Value};

/// `LLAMA_MAX_LAYERS`.
const BLOCKS_MOST: u32 = 512;
/// `LLAMA_MAX_EXPERTS`.
const EXPERTS_MOST: u32 = 1024;
/// llama.cpp stores some counts in an `int`.
const INT_MOST: u32 = i32::MAX.unsigned_abs();
/// Far above the widest models, and small enough that the product of two does not overflow.
const WIDTH_MOST: u32 = 1 << 22;
/// A norm's group has several elements, so there are far fewer groups than elements.
const GROUPS_MOST: u32 = 1 << 16;
/// Models iterate about twenty times within a layer.
const ITERATIONS_MOST: u32 = 1024;

/// The hyperparameters that the tensors' shapes are checked against.
#[derive(Debug)]
pub(super) struct Hparams {
    pub(super) context_len: u32,
    pub(super) embedding_len: u32,
    pub(super) blocks: u32,
    pub(super) experts: u32,
    pub(super) experts_used: Vec<u32>,
    pub(super) feed_forward_len: Vec<u32>,
    pub(super) heads: Vec<u32>,
    pub(super) kv_heads: Vec<u32>,
    pub(super) key_len: u32,
    pub(super) value_len: u32,
}

/// Reads `{arch}.…` keys.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'a Arch,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch.name())
    }

    fn refuse(&self, name: &str, value: impl Into<f64>, why: &'static str) -> GgufError {
        GgufError::Hyperparameter { key: self.key(name), value: value.into(), why }
    }

    fn too_large(&self, name: &str, value: u32, most: u32) -> GgufError {
        GgufError::TooLarge { key: self.key(name), value: value.into(), most }
    }

    fn count(&self, name: &str, most: u32) -> Result<Option<u32>, GgufError> {
        let value = self.metadata.u32(&self.key(name))?;
        match value {
            Some(value) if value > most => Err(self.too_large(name, value, most)),
            value => Ok(value),
        }
    }

    /// A count that must be at least one if the key is present.
    fn positive(&self, name: &str, most: u32) -> Result<Option<u32>, GgufError> {
        match self.count(name, most)? {
            Some(0) => Err(self.refuse(name, 0, "it must be at least 1")),
            value => Ok(value),
        }
    }

    fn required(&self, name: &str, most: u32) -> Result<u32, GgufError> {
        self.positive(name, most)?.ok_or_else(|| GgufError::MissingKey { key: self.key(name) })
    }

    fn per_layer(&self, name: &str, blocks: u32, most: u32) -> Result<Option<Vec<u32>>, GgufError> {
        let values = self.metadata.per_layer(&self.key(name), blocks)?;
        if let Some(value) = values.iter().flatten().find(|value| **value > most) {
            return Err(self.too_large(name, *value, most));
        }
        Ok(values)
    }
}

/// Checks all hyperparameters.
pub(super) fn check(metadata: &Metadata, arch: &Arch) -> Result<Hparams, GgufError> {
    let keys = Keys { metadata, arch };
    let context_len = keys.required("context_length", INT_MOST)?;
    let embedding_len = keys.required("embedding_length", WIDTH_MOST)?;
    let blocks = keys.required("block_count", BLOCKS_MOST)?;
    let nextn = keys.count("nextn_predict_layers", INT_MOST)?.unwrap_or(0);
    if nextn > blocks {
        return Err(keys.refuse("nextn_predict_layers", nextn, "it must not exceed block_count"));
    }
    let (experts, experts_used) = check_experts(&keys, blocks)?;
    let feed_forward_len = keys.per_layer("feed_forward_length", blocks, WIDTH_MOST)?.unwrap_or_default();
    let (heads, kv_heads) = check_heads(&keys, blocks)?;
    let (key_len, value_len) = check_head_len(&keys, embedding_len, heads[0])?;
    check_rope(&keys, key_len)?;
    check_divisors(&keys)?;
    check_choices(&keys)?;
    check_numbers(&keys)?;
    Ok(Hparams {
        context_len,
        embedding_len,
        blocks,
        experts,
        experts_used,
        feed_forward_len,
        heads,
        kv_heads,
        key_len,
        value_len,
    })
}

/// How many experts there are, and how many of them each layer uses.
fn check_experts(keys: &Keys<'_>, blocks: u32) -> Result<(u32, Vec<u32>), GgufError> {
    let experts = keys.count("expert_count", EXPERTS_MOST)?.unwrap_or(0);
    if experts <= 1 && keys.arch.ignores_one_expert() {
        return Ok((0, Vec::new()));
    }
    let used = keys.per_layer("expert_used_count", blocks, EXPERTS_MOST)?.unwrap_or_default();
    let used_most = used.iter().copied().max().unwrap_or(0);
    if used_most > experts {
        return Err(keys.refuse("expert_used_count", used_most, "it must not exceed expert_count"));
    }
    if used_most == 0 && (experts > 0 || keys.arch.divides_by_experts_used()) {
        return Err(keys.refuse("expert_used_count", 0, "a mixture of experts must use at least 1"));
    }
    if used_most > 0 && used[0] == 0 && !keys.arch.layers_differ() {
        return Err(keys.refuse("expert_used_count", 0, "the first layer stands for all and must use at least 1"));
    }
    check_expert_groups(keys, experts)?;
    Ok((experts, used))
}

fn check_expert_groups(keys: &Keys<'_>, experts: u32) -> Result<(), GgufError> {
    let name = "expert_group_count";
    let groups = keys.count(name, EXPERTS_MOST)?.unwrap_or(0);
    if groups > 0 && groups >= experts {
        return Err(keys.refuse(name, groups, "it must be less than expert_count"));
    }
    if groups > 1 {
        if !experts.is_multiple_of(groups) {
            return Err(keys.refuse(name, groups, "it must divide expert_count"));
        }
        let used = keys.count("expert_group_used_count", INT_MOST)?.unwrap_or(0);
        if used == 0 || used >= groups {
            let why = "it must be at least 1 and less than expert_group_count";
            return Err(keys.refuse("expert_group_used_count", used, why));
        }
    }
    Ok(())
}

/// Attention heads of every layer, and those of its keys and values; at least one layer long.
fn check_heads(keys: &Keys<'_>, blocks: u32) -> Result<(Vec<u32>, Vec<u32>), GgufError> {
    let name = "attention.head_count";
    let heads = keys.per_layer(name, blocks, WIDTH_MOST)?.unwrap_or_else(|| vec![0; blocks as usize]);
    if heads[0] == 0 && !keys.arch.may_lack_attention() {
        return Err(keys.refuse(name, 0, "it must be at least 1"));
    }
    let name = "attention.head_count_kv";
    let kv_heads = keys.per_layer(name, blocks, WIDTH_MOST)?.unwrap_or_else(|| heads.clone());
    for (heads, kv_heads) in heads.iter().zip(&kv_heads) {
        if *heads > 0 && *kv_heads > 0 && !heads.is_multiple_of(*kv_heads) {
            return Err(keys.refuse(name, *kv_heads, "it must divide attention.head_count"));
        }
        if *heads > 0 && *kv_heads == 0 && !keys.arch.may_skip_attention() {
            return Err(keys.refuse(name, 0, "it must be at least 1 in every layer"));
        }
    }
    Ok((heads, kv_heads))
}

fn check_head_len(keys: &Keys<'_>, embedding_len: u32, heads: u32) -> Result<(u32, u32), GgufError> {
    if heads == 0 {
        return Ok((0, 0));
    }
    let default = embedding_len / heads;
    if default == 0 {
        return Err(keys.refuse("attention.head_count", heads, "it must not exceed embedding_length"));
    }
    let key_len = keys.positive("attention.key_length", WIDTH_MOST)?.unwrap_or(default);
    let value_len = keys.positive("attention.value_length", WIDTH_MOST)?.unwrap_or(default);
    let name = "attention.indexer.key_length";
    let indexer_len = keys.count(name, WIDTH_MOST)?;
    if keys.arch.confuses_indexer() && indexer_len == Some(key_len) {
        return Err(keys.refuse(name, key_len, "it must differ from attention.key_length"));
    }
    Ok((key_len, value_len))
}

/// ggml rotates pairs, and asserts that on a worker thread, where the failure cannot be caught.
fn check_rope(keys: &Keys<'_>, key_len: u32) -> Result<(), GgufError> {
    let key = keys.key("rope.scaling.type");
    if let Some(found) = keys.metadata.text(&key)?
        && !["none", "linear", "yarn", "longrope"].contains(&found)
    {
        return Err(GgufError::Choice { key, found: found.to_owned(), choices: "none, linear, yarn, longrope" });
    }
    if key_len == 0 || !keys.arch.rotates() {
        return Ok(());
    }
    let name = "rope.dimension_count";
    let rotated = key_len;
    let dims = keys.positive(name, WIDTH_MOST)?.unwrap_or(key_len);
    check_rope_dims(keys, name, dims, key_len)?;
    // Layers with a sliding window may have their own head length.
    let key_len = keys.positive("attention.key_length_swa", WIDTH_MOST)?.unwrap_or(key_len);
    let name = "rope.dimension_count_swa";
    let dims = keys.positive(name, WIDTH_MOST)?.unwrap_or(dims);
    check_rope_dims(keys, name, dims, key_len)?;
    for name in ["rope.freq_base", "rope.freq_base_swa"] {
        if let Some(base) = keys.metadata.f32(&keys.key(name))?.filter(|base| *base <= 0.0) {
            return Err(keys.refuse(name, base, "it must be above 0"));
        }
    }
    check_rope_sections(keys, rotated)
}

fn check_rope_dims(keys: &Keys<'_>, name: &str, dims: u32, key_len: u32) -> Result<(), GgufError> {
    if !dims.is_multiple_of(2) {
        return Err(keys.refuse(name, dims, "rotated dimensions must be even"));
    }
    if dims > key_len {
        return Err(keys.refuse(name, dims, "it must not exceed attention.key_length"));
    }
    Ok(())
}

/// Models of text and images distribute the rotated dimensions over sections; ggml divides by the sum of the sections.
fn check_rope_sections(keys: &Keys<'_>, key_len: u32) -> Result<(), GgufError> {
    let name = "rope.dimension_sections";
    let shares = match keys.metadata.get(&keys.key(name)) {
        Some(Value::Array { numbers, .. }) => numbers.as_slice(),
        _ if keys.arch.rotates_sections() => {
            return Err(GgufError::MissingKey { key: keys.key(name) });
        }
        _ => return Ok(()),
    };
    if let Some(share) = shares.iter().find(|share| **share < 0.0) {
        return Err(keys.refuse(name, *share, "a share of the rotated dimensions cannot be negative"));
    }
    let sum = shares.iter().sum::<f64>();
    if sum > f64::from(key_len) {
        return Err(keys.refuse(name, sum, "the shares must not exceed attention.key_length together"));
    }
    if sum == 0.0 && keys.arch.rotates_sections() {
        return Err(keys.refuse(name, 0, "the shares must not all be 0"));
    }
    Ok(())
}

/// Keys that llama.cpp divides by if they are present.
fn check_divisors(keys: &Keys<'_>) -> Result<(), GgufError> {
    for name in keys.arch.divisors() {
        keys.positive(name, INT_MOST)?;
    }
    for name in keys.arch.required_counts() {
        keys.required(name, INT_MOST)?;
    }
    Ok(())
}

fn check_choices(keys: &Keys<'_>) -> Result<(), GgufError> {
    // none, mean, first token, last token, rank
    if let Some(pooling) = keys.metadata.u32(&keys.key("pooling_type"))?.filter(|pooling| *pooling > 4) {
        return Err(keys.refuse("pooling_type", pooling, "it must be 0 to 4"));
    }
    // softmax, sigmoid, softmax of the chosen ones, square root of softplus; 0 is the architecture's own
    keys.count("expert_gating_func", 4)?;
    keys.count("decoder_block_count", BLOCKS_MOST)?;
    keys.positive("attention.group_norm_groups", GROUPS_MOST)?;
    keys.count("hyper_connection.sinkhorn_iterations", ITERATIONS_MOST)?;
    Ok(())
}

/// Checks every number of the architecture: it must be finite, and counts must fit C's `int`.
fn check_numbers(keys: &Keys<'_>) -> Result<(), GgufError> {
    let prefix = keys.key("");
    for (key, value) in keys.metadata.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let Value::Number(_, value) = value else {
            continue;
        };
        let refuse = |why| GgufError::Hyperparameter { key: key.to_owned(), value: *value, why };
        if !value.is_finite() {
            return Err(refuse("it must be finite"));
        }
        if key.ends_with("epsilon") && *value < 0.0 {
            return Err(refuse("it must not be negative"));
        }
        // The largest number means "none" for ids.
        if *value > f64::from(INT_MOST) && !key.ends_with("_id") && keys.metadata.u32(key).is_ok() {
            return Err(GgufError::TooLarge { key: key.to_owned(), value: *value, most: INT_MOST });
        }
    }
    Ok(())
}
