//! Checks tensors that llama.cpp treats as optional when it loads a model, but uses when it computes.

use std::collections::HashSet;

use super::GgufError;
use super::arch::Arch;
use super::tensors::Tensor;

/// If a tensor's name ends with `first`, all tensors of one of the sets must exist, with the same prefix.
struct Rule {
    archs: &'static [&'static str],
    first: &'static str,
    sets: &'static [&'static [&'static str]],
}

const RULES: &[Rule] = &[
    Rule {
        archs: &["phi3", "pockettts"],
        first: "attn_output.weight",
        sets: &[&["attn_qkv.weight"], &["attn_q.weight", "attn_k.weight", "attn_v.weight"]],
    },
    Rule {
        archs: &["falcon-h1", "granitehybrid", "nemotron_h", "nemotron_h_moe"],
        first: "ssm_conv1d.weight",
        sets: &[&["ssm_conv1d.bias"]],
    },
    Rule {
        archs: &["qwen35", "qwen35moe", "clef"],
        first: "ssm_conv1d.weight",
        sets: &[&["attn_qkv.weight", "attn_gate.weight"]],
    },
    // The first block of the encoder and of the decoder represents all others.
    Rule { archs: &["t5", "t5encoder"], first: "blk.0.attn_q.weight", sets: &[&["blk.0.attn_rel_b.weight"]] },
    Rule {
        archs: &["qwen3next"],
        first: "ssm_conv1d.weight",
        sets: &[&["attn_qkv.weight", "attn_gate.weight"], &["ssm_in.weight"]],
    },
];

/// Checks that each block has all tensors that its other tensors need.
pub(super) fn check(tensors: &[Tensor], arch: &Arch) -> Result<(), GgufError> {
    let rules = || RULES.iter().filter(|rule| arch.is_of(rule.archs));
    if rules().next().is_none() {
        return Ok(());
    }
    let names: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    for Tensor { name, .. } in tensors {
        for rule in rules() {
            let Some(block) = name.strip_suffix(rule.first) else {
                continue;
            };
            let lacks = |set: &&[&str]| {
                set.iter().map(|part| format!("{block}{part}")).find(|name| !names.contains(name.as_str()))
            };
            let missing: Vec<Option<String>> = rule.sets.iter().map(lacks).collect();
            if missing.iter().all(Option::is_some) {
                let tensor = missing.into_iter().flatten().next().unwrap_or_default();
                return Err(GgufError::MissingTensor { tensor });
            }
        }
    }
    Ok(())
}
