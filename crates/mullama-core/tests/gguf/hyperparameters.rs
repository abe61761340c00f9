//! Hyperparameters that llama.cpp asserts on, divides by or indexes with, and tensors whose shapes do not match them.

use mullama::gguf::GgufError;

use crate::structure::refuses;
use crate::writer::{F32, Model, Value};

/// Asserts that a llama model with this value is refused because of this key.
fn refuses_key(key: &str, value: &Value) {
    let key = format!("llama.{key}");
    match Model::llama().with(&key, value.clone()).check() {
        Err(GgufError::Hyperparameter { key: found, .. } | GgufError::TooLarge { key: found, .. }) if found == key => {}
        other => panic!("{key} = {value:?}: {other:?}"),
    }
}

fn accepts_key(key: &str, value: &Value) {
    let key = format!("llama.{key}");
    let result = Model::llama().with(&key, value.clone()).check();
    assert!(result.is_ok(), "{key} = {value:?}: {result:?}");
}

#[test]
fn keys_of_every_model_are_required() {
    for key in ["context_length", "embedding_length", "block_count"] {
        let key = format!("llama.{key}");
        refuses!(Model::llama().without(&key).check(), GgufError::MissingKey { key: found } if found == key);
        refuses!(Model::llama().with(&key, Value::I32(1)).check(), GgufError::WrongKeyType { found: "i32", .. });
    }
    refuses!(Model::llama().without("general.architecture").check(), GgufError::MissingKey { .. });
}

#[test]
fn a_count_that_is_too_large_is_refused_with_the_maximum() {
    let refused = Model::llama().with("llama.block_count", Value::U32(513)).check();
    let error = refused.expect_err("llama.cpp has arrays of 512 layers");
    assert_eq!(error.to_string(), "key llama.block_count is 513: must be at most 512");
}

#[test]
fn counts_are_neither_zero_nor_too_large() {
    for key in ["context_length", "embedding_length", "block_count"] {
        refuses_key(key, &Value::U32(0));
        refuses_key(key, &Value::U32(u32::MAX));
    }
    refuses_key("block_count", &Value::U32(513));
    refuses_key("feed_forward_length", &Value::U32(1 << 30));
    refuses_key("any_count_of_a_model_to_come", &Value::U32(1 << 31));
    accepts_key("any_token_id", &Value::U32(u32::MAX));
    refuses_key("nextn_predict_layers", &Value::U32(2));
}

#[test]
fn head_counts_divide_the_dimensions_that_they_share() {
    refuses_key("attention.head_count", &Value::U32(0));
    refuses_key("attention.head_count", &Value::U32(64));
    refuses_key("attention.head_count_kv", &Value::U32(3));
    refuses_key("attention.key_length", &Value::U32(0));
    refuses_key("attention.value_length", &Value::U32(0));
    refuses_key("attention.head_count", &Value::I32s(vec![-4]));
    let model = Model::llama().with("llama.attention.head_count", Value::U32s(vec![4, 4]));
    refuses!(model.check(), GgufError::ArrayLength { found: 2, wanted: 1, .. });
    accepts_key("attention.head_count", &Value::U32s(vec![4]));
}

#[test]
fn layers_without_attention_need_no_heads() {
    let model = Model::llama().renamed("mamba").without("mamba.attention.head_count_kv");
    model.clone().with("mamba.attention.head_count", Value::U32(0)).check().unwrap();
    model.without("mamba.attention.head_count").check().unwrap();
    let none = Value::U32s(vec![0]);
    refuses_key("attention.head_count_kv", &none);
    let hybrid = Model::llama().renamed("jamba").with("jamba.attention.head_count_kv", none);
    hybrid.check().unwrap();
}

#[test]
fn rotated_dimensions_are_pairs_within_a_head() {
    let name = "rope.dimension_count";
    refuses_key(name, &Value::U32(7));
    refuses_key(name, &Value::U32(16));
    accepts_key(name, &Value::U32(8));
    // The width is 32 with 4 heads of 8; a head of 3 is odd even if the rotary dimension is not given.
    let model = Model::llama().with("llama.attention.key_length", Value::U32(3));
    refuses!(model.check(), GgufError::Hyperparameter { key, value: 3.0, .. } if key == "llama.rope.dimension_count");
    for base in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        refuses_key("rope.freq_base", &Value::F32(base));
    }
    let model = Model::llama().with("llama.rope.scaling.type", Value::Text("cubic"));
    refuses!(model.check(), GgufError::Choice { found, .. } if found == "cubic");
    accepts_key("rope.scaling.type", &Value::Text("yarn"));
}

#[test]
fn sliding_window_layers_rotate_within_their_own_heads() {
    let name = "rope.dimension_count_swa";
    refuses_key(name, &Value::U32(0));
    refuses_key(name, &Value::U32(16));
    accepts_key(name, &Value::U32(4));
    let model = Model::llama().with("llama.attention.key_length_swa", Value::U32(4));
    refuses!(model.clone().check(), GgufError::Hyperparameter { key, .. } if key == "llama.rope.dimension_count_swa");
    model.with("llama.rope.dimension_count_swa", Value::U32(4)).check().unwrap();
}

#[test]
fn rotary_sections_do_not_sum_to_zero() {
    let model = Model::llama().renamed("qwen2vl");
    refuses!(model.clone().check(), GgufError::MissingKey { .. });
    let with = |sections| model.clone().with("qwen2vl.rope.dimension_sections", Value::I32s(sections)).check();
    with(vec![1, 1, 2, 0]).unwrap();
    refuses!(with(vec![8, 1, 0, 0]), GgufError::Hyperparameter { value: 9.0, .. });
    refuses!(with(vec![0; 4]), GgufError::Hyperparameter { .. });
    refuses!(with(vec![2, -2, 2, 2]), GgufError::Hyperparameter { value: -2.0, .. });
}

#[test]
fn numbers_are_finite() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        refuses_key("attention.layer_norm_rms_epsilon", &Value::F32(value));
    }
    refuses_key("logit_scale", &Value::F32(f32::NAN));
    refuses_key("pooling_type", &Value::U32(5));
    accepts_key("pooling_type", &Value::U32(4));
}

#[test]
fn experts_used_are_among_those_that_exist() {
    let experts = |experts, used, groups, groups_used| {
        Model::llama()
            .with("llama.expert_count", Value::U32(experts))
            .with("llama.expert_used_count", used)
            .with("llama.expert_group_count", Value::U32(groups))
            .with("llama.expert_group_used_count", Value::U32(groups_used))
            .check()
    };
    experts(0, Value::U32(0), 0, 0).unwrap();
    experts(8, Value::U32(2), 0, 0).unwrap();
    experts(8, Value::U32(2), 4, 2).unwrap();
    let bad = [
        (8, 9, 0, 0),
        (8, 0, 0, 0),
        (2000, 2, 0, 0),
        (0, 1, 0, 0),
        (8, 2, 8, 1),
        (8, 2, 3, 1),
        (8, 2, 4, 4),
        (8, 2, 4, 0),
    ];
    for (count, used, groups, groups_used) in bad {
        refuses!(
            experts(count, Value::U32(used), groups, groups_used),
            GgufError::Hyperparameter { .. } | GgufError::TooLarge { .. }
        );
    }
    refuses!(experts(8, Value::U32s(vec![2, 2]), 0, 0), GgufError::ArrayLength { .. });
    refuses_key("expert_gating_func", &Value::U32(5));
}

#[test]
fn every_layer_with_experts_uses_some() {
    let model = |used: &[u32]| {
        Model::llama()
            .with("llama.block_count", Value::U32(2))
            .with("llama.expert_count", Value::U32(4))
            .with("llama.expert_used_count", Value::U32s(used.to_vec()))
            .tensor("blk.1.ffn_gate_inp.weight", &[32, 4], F32)
            .check()
    };
    model(&[2, 2]).unwrap();
    refuses!(model(&[0, 2]), GgufError::Hyperparameter { value: 0.0, .. });
    refuses!(model(&[2, 0]), GgufError::Hyperparameter { value: 0.0, .. });
}

#[test]
fn divisors_are_not_zero() {
    let rwkv = Model::llama().renamed("rwkv6");
    refuses!(rwkv.clone().check(), GgufError::MissingKey { key } if key == "rwkv6.wkv.head_size");
    let indexer =
        |len| Model::llama().renamed("deepseek4").with("deepseek4.attention.indexer.key_length", Value::U32(len));
    indexer(16).check().unwrap();
    refuses!(indexer(8).check(), GgufError::Hyperparameter { value: 8.0, .. });
    let afmoe = Model::llama().renamed("afmoe");
    refuses!(afmoe.check(), GgufError::MissingKey { key } if key == "afmoe.attention.sliding_window");
    refuses!(rwkv.with("rwkv6.wkv.head_size", Value::U32(0)).check(), GgufError::Hyperparameter { .. });
    let model = Model::llama().renamed("mamba2").with("mamba2.ssm.group_count", Value::U32(0));
    refuses!(model.check(), GgufError::Hyperparameter { .. });
    refuses_key("attention.group_norm_groups", &Value::U32(0));
    refuses_key("attention.group_norm_groups", &Value::U32(1 << 30));
    let moe = Model::llama().renamed("glm4moe");
    refuses!(moe.check(), GgufError::Hyperparameter { key, .. } if key == "glm4moe.expert_used_count");
}

#[test]
fn tensors_fit_the_hyperparameters() {
    let with = |name: &str, shape: &[u64]| Model::llama().tensor(name, shape, F32).check();
    let cases: [(&str, &[u64]); 8] = [
        ("token_embd.weight", &[32, 17]),
        ("token_embd.weight", &[64, 16]),
        ("output_norm.weight", &[64]),
        ("output.weight", &[32, 17]),
        ("blk.0.attn_q.weight", &[32, 64]),
        ("blk.0.attn_v.weight", &[32, 32]),
        ("blk.0.attn_output.weight", &[32, 64]),
        ("blk.0.ffn_down.weight", &[32, 32]),
    ];
    for (name, shape) in cases {
        refuses!(with(name, shape), GgufError::TensorShape { tensor, .. } if tensor == name);
    }
    refuses!(with("blk.1.attn_q.weight", &[32, 32]), GgufError::BlockBeyondCount { block: 1, blocks: 1, .. });
    let mut model = Model::llama();
    model.tensors.remove(0);
    refuses!(model.check(), GgufError::MissingTensor { tensor } if tensor == "token_embd.weight");
}

#[test]
fn tensors_that_are_used_together_exist_together() {
    let model = Model::llama().renamed("phi3");
    model.check().unwrap();
    let mut without = model.clone();
    without.tensors.retain(|tensor| tensor.name != "blk.0.attn_k.weight");
    refuses!(without.check(), GgufError::MissingTensor { tensor } if tensor == "blk.0.attn_qkv.weight");
    without.tensor("blk.0.attn_qkv.weight", &[32, 64], F32).check().unwrap();
    let mut encoder = Model::llama().renamed("t5encoder");
    encoder.tensors.clear();
    let encoder = encoder.tensor("enc.blk.0.attn_q.weight", &[32, 32], F32);
    refuses!(encoder.clone().check(), GgufError::MissingTensor { tensor } if tensor == "enc.blk.0.attn_rel_b.weight");
    encoder.tensor("enc.blk.0.attn_rel_b.weight", &[4, 32], F32).check().unwrap();
}

#[test]
fn an_architecture_that_is_not_known_is_left_to_llama_cpp() {
    assert_eq!(Model::llama().renamed("to-come").check().unwrap().architecture, "to-come");
    let encoder = Model::llama().with("general.architecture", Value::Text("clip")).check().unwrap();
    assert_eq!((encoder.context_len, encoder.blocks), (None, None));
}

#[test]
fn the_size_of_a_learned_position_table_is_reported() {
    assert_eq!(Model::llama().check().expect("valid").positions, None);
    let width = Model::llama().check().expect("valid").embedding_len.expect("a language model");
    let model = Model::llama().tensor("position_embd.weight", &[u64::from(width), 64], F32);
    assert_eq!(model.check().expect("valid").positions, Some(64));
}
