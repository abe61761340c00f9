//! Checks tensors against hyperparameters: that the block of each tensor exists, and the shapes of a plain decoder.

use std::collections::HashMap;

use super::GgufError;
use super::arch::Arch;
use super::hparams::Hparams;
use super::tensors::Tensor;

/// Any size.
const ANY: u64 = 0;

/// Checks the shapes of the tensors of a whole model.
pub(super) fn check(
    tensors: &[Tensor],
    arch: &Arch,
    hparams: &Hparams,
    vocab_len: Option<u64>,
) -> Result<(), GgufError> {
    if tensors.is_empty() {
        return Ok(()); // a file of the vocabulary alone
    }
    let shapes: HashMap<&str, [u64; 4]> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape)).collect();
    check_blocks(tensors, arch, hparams)?;
    if arch.is_plain_decoder() {
        if !shapes.contains_key("token_embd.weight") {
            return Err(GgufError::MissingTensor { tensor: "token_embd.weight".to_owned() });
        }
        check_plain(&shapes, hparams, vocab_len.unwrap_or(ANY))?;
    }
    Ok(())
}

fn check_blocks(tensors: &[Tensor], arch: &Arch, hparams: &Hparams) -> Result<(), GgufError> {
    for Tensor { name, .. } in tensors {
        let mut parts = name.strip_prefix("blk.").unwrap_or_default().split('.');
        let Some(block) = parts.next().and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        if block >= hparams.blocks {
            let (tensor, blocks) = (name.clone(), hparams.blocks);
            return Err(GgufError::BlockBeyondCount { tensor, block, blocks });
        }
        // This is the router of a mixture of experts.
        if parts.next() == Some("ffn_gate_inp") && hparams.experts_used.get(block as usize) == Some(&0) {
            let key = format!("{}.expert_used_count", arch.name());
            return Err(GgufError::Hyperparameter { key, value: 0.0, why: "a layer with experts must use at least 1" });
        }
    }
    Ok(())
}

/// Checks the shapes of those tensors of a plain decoder that are in the file.
fn check_plain(shapes: &HashMap<&str, [u64; 4]>, hparams: &Hparams, vocab_len: u64) -> Result<(), GgufError> {
    let width = u64::from(hparams.embedding_len);
    let want = |name: &str, wanted: [u64; 4]| match shapes.get(name) {
        Some(found) if found.iter().zip(wanted).any(|(found, wanted)| wanted != ANY && *found != wanted) => {
            Err(GgufError::TensorShape { tensor: name.to_owned(), found: *found, wanted })
        }
        _ => Ok(()),
    };
    want("token_embd.weight", [width, vocab_len, 1, 1])?;
    want("output.weight", [width, vocab_len, 1, 1])?;
    want("output_norm.weight", [width, 1, 1, 1])?;
    for block in 0..hparams.blocks as usize {
        let heads = u64::from(hparams.heads[block]);
        let kv_heads = u64::from(hparams.kv_heads[block]);
        let (key_len, value_len) = (u64::from(hparams.key_len), u64::from(hparams.value_len));
        let queries = heads * key_len;
        want(&format!("blk.{block}.attn_norm.weight"), [width, 1, 1, 1])?;
        want(&format!("blk.{block}.attn_q.weight"), [width, queries, 1, 1])?;
        want(&format!("blk.{block}.attn_k.weight"), [width, kv_heads * key_len, 1, 1])?;
        want(&format!("blk.{block}.attn_v.weight"), [width, kv_heads * value_len, 1, 1])?;
        want(&format!("blk.{block}.attn_output.weight"), [queries, width, 1, 1])?;
        want(&format!("blk.{block}.ffn_norm.weight"), [width, 1, 1, 1])?;
        let hidden = hparams.feed_forward_len.get(block).map_or(ANY, |len| u64::from(*len));
        want(&format!("blk.{block}.ffn_up.weight"), [width, hidden, 1, 1])?;
        want(&format!("blk.{block}.ffn_gate.weight"), [width, hidden, 1, 1])?;
        want(&format!("blk.{block}.ffn_down.weight"), [hidden, width, 1, 1])?;
        let experts = u64::from(hparams.experts);
        for matrix in ["ffn_gate_exps", "ffn_down_exps", "ffn_up_exps"] {
            want(&format!("blk.{block}.{matrix}.weight"), [ANY, ANY, experts, 1])?;
        }
    }
    Ok(())
}
