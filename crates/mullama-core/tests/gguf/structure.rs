//! The structure of the file: magic, counts, strings, types, and the location of tensors.

use mullama::gguf::{self, GgufError};

use crate::writer::{F16, F32, I32, Model, Q8_0, Q8_K, Value, check, demo};

/// Asserts that the check refuses a model or bytes with an error of this pattern.
macro_rules! refuses {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}, found {other:?}", stringify!($pattern $(if $guard)?)),
        }
    };
}
pub(crate) use refuses;

/// Bytes with some of them replaced.
fn patched(mut bytes: Vec<u8>, at: usize, patch: &[u8]) -> Vec<u8> {
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

#[test]
fn the_demo_model_passes() {
    let checked = check(&demo()).unwrap();
    assert_eq!((checked.architecture.as_str(), checked.tensors, checked.shards), ("llama", 47, 1));
    assert_eq!((checked.context_len, checked.vocab_len), (Some(1024), Some(1024)));
}

#[test]
fn a_small_model_passes_in_both_versions() {
    for version in [2, 3] {
        let checked = Model { version, ..Model::llama() }.check().unwrap();
        assert_eq!((checked.version, checked.blocks, checked.embedding_len), (version, Some(1), Some(32)));
    }
}

#[test]
fn a_vocabulary_alone_passes() {
    let mut model = Model::llama();
    model.tensors.clear();
    assert_eq!(model.check().unwrap().vocab_len, Some(16));
}

#[test]
fn a_path_that_is_not_a_file_is_refused_without_being_opened() {
    let directory = tempfile::tempdir().unwrap();
    refuses!(gguf::check(directory.path()), GgufError::NotAFile { .. });
    refuses!(gguf::check("/dev/zero".as_ref()), GgufError::NotAFile { .. });
    refuses!(gguf::check(&directory.path().join("none")), GgufError::Io { .. });
}

#[test]
fn a_file_that_is_not_gguf_is_refused() {
    refuses!(check(b""), GgufError::Empty);
    refuses!(check(b"GG"), GgufError::Truncated { at: 0, needed: 4, file_len: 2, .. });
    refuses!(check(b"Once upon a time"), GgufError::WrongMagic { found } if &found == b"Once");
}

#[test]
fn unsupported_versions_and_byte_orders_are_refused() {
    refuses!(Model { version: 1, ..Model::llama() }.check(), GgufError::UnsupportedVersion { version: 1 });
    refuses!(Model { version: 4, ..Model::llama() }.check(), GgufError::UnsupportedVersion { version: 4 });
    refuses!(Model { version: 3 << 24, ..Model::llama() }.check(), GgufError::BigEndian { .. });
}

#[test]
fn a_file_cut_anywhere_in_its_header_or_data_is_refused() {
    let bytes = Model::llama().bytes();
    let last = bytes.len() - 1;
    for len in (0..bytes.len()).step_by(7).chain([last]) {
        refuses!(
            check(&bytes[..len]),
            GgufError::Empty
                | GgufError::Truncated { .. }
                | GgufError::TooMany { .. }
                | GgufError::TensorBeyondEnd { .. }
        );
    }
}

#[test]
fn counts_are_bounded_by_the_file() {
    let bytes = Model::llama().bytes();
    for count in [1_u64 << 20, 1 << 40, u64::MAX] {
        for (at, ticket) in [(8, "tensors"), (16, "metadata keys")] {
            let result = check(&patched(bytes.clone(), at, &count.to_le_bytes()));
            refuses!(result, GgufError::TooMany { what, count: found, .. } if what == ticket && found == count);
        }
        let array = [4_u32.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
        let model = Model::llama().with("any.array", Value::Raw(9, array));
        refuses!(model.check(), GgufError::TooMany { what: "array elements", .. });
    }
}

#[test]
fn strings_are_bounded() {
    for len in [u64::MAX, 1 << 40] {
        let model = Model::llama().with("any.text", Value::Raw(8, len.to_le_bytes().to_vec()));
        refuses!(model.check(), GgufError::TooLong { what: "a metadata string", len: found, .. } if found == len);
    }
    let model = Model::llama().with("any.text", Value::Raw(8, 100_000_u64.to_le_bytes().to_vec()));
    refuses!(model.check(), GgufError::Truncated { what: "a metadata string", needed: 100_000, .. });
    let token = vec![b'a'; 5000];
    let model = Model::llama().with("tokenizer.ggml.tokens", Value::Texts(vec![token]));
    refuses!(model.check(), GgufError::TooLong { what: "a token", len: 5000, .. });
    refuses!(Model::llama().with(&"k".repeat(70_000), Value::U32(0)).check(), GgufError::TooLong { .. });
    refuses!(Model::llama().tensor(&"t".repeat(64), &[1], F32).check(), GgufError::TooLong { len: 64, limit: 63, .. });
}

#[test]
fn names_are_text() {
    for name in ["", "a\0b"] {
        refuses!(Model::llama().with(name, Value::U32(0)).check(), GgufError::BadName { what: "a metadata key", .. });
        refuses!(Model::llama().tensor(name, &[1], F32).check(), GgufError::BadName { what: "a tensor's name", .. });
    }
    let mut bytes = Model::llama().bytes();
    let at = bytes.windows(4).position(|window| window == b"blk.").unwrap();
    bytes[at] = 0xff;
    refuses!(check(&bytes), GgufError::BadName { bytes, .. } if bytes.starts_with(b"\xfflk.0"));
}

#[test]
fn unknown_and_nested_value_types_are_refused() {
    let model = |kind, bytes: &[u8]| Model::llama().with("any.key", Value::Raw(kind, bytes.to_vec())).check();
    refuses!(model(13, &[0; 8]), GgufError::BadType { type_id: 13, .. });
    refuses!(model(9, &[13, 0, 0, 0]), GgufError::BadType { type_id: 13, .. });
    refuses!(model(9, &[9, 0, 0, 0]), GgufError::NestedArray { key } if key == "any.key");
}

#[test]
fn nothing_occurs_twice() {
    let mut model = Model::llama();
    model.keys.push(("llama.block_count".to_owned(), Value::U32(1)));
    refuses!(model.check(), GgufError::DuplicateKey { key } if key == "llama.block_count");
    let mut model = Model::llama();
    model.tensors.push(model.tensors[0].clone());
    refuses!(model.check(), GgufError::DuplicateTensor { tensor } if tensor == "token_embd.weight");
}

#[test]
fn the_alignment_is_a_power_of_two_and_tensors_keep_it() {
    for alignment in [0, 3, 48, 1 << 31] {
        let model = Model::llama().with("general.alignment", Value::U32(alignment));
        refuses!(model.check(), GgufError::BadAlignment { alignment: found, .. } if found == alignment);
    }
    let model = Model::llama().with("general.alignment", Value::I32(32));
    refuses!(model.check(), GgufError::WrongKeyType { found: "i32", wanted: "u32", .. });
    let mut model = Model::llama().with("general.alignment", Value::U32(4096));
    model.alignment = 4096;
    model.check().unwrap();
    let mut model = Model::llama().with("general.alignment", Value::U32(4)).tensor("output_norm.weight", &[31], F32);
    model.alignment = 4;
    refuses!(model.check(), GgufError::TensorMisaligned { alignment: 32, .. });
}

#[test]
fn tensors_have_shapes_and_types_that_can_be_computed_with() {
    let odd = |shape: &[u64], type_id| Model::llama().tensor("odd.weight", shape, type_id).check();
    refuses!(odd(&[1, 1, 1, 1, 1], F32), GgufError::TensorDims { dims: 5, .. });
    refuses!(odd(&[0], F32), GgufError::TensorSize { .. });
    for type_id in [4, 31, 43, u32::MAX] {
        refuses!(odd(&[256], type_id), GgufError::UnknownTensorType { type_id: found, .. } if found == type_id);
    }
    refuses!(odd(&[33, 2], Q8_0), GgufError::BlockSize { row: 33, block: 32, .. });
    refuses!(odd(&[256], F16), GgufError::TensorType { type_id: F16, .. });
    refuses!(odd(&[256], Q8_0), GgufError::TensorType { type_id: Q8_0, .. });
    refuses!(odd(&[256, 1], Q8_K), GgufError::TensorType { type_id: Q8_K, .. });
    refuses!(odd(&[256, 1], I32), GgufError::TensorType { type_id: I32, .. });
    for name in ["blk.0.attn_q.bias", "blk.0.ssm_norm.weight", "blk.0.channel_mix_lerp_k.weight", "blk.0.ssm_a"] {
        let model = Model::llama().tensor(name, &[32, 2], F16);
        refuses!(model.check(), GgufError::TensorType { type_id: F16, .. });
        model.tensor(name, &[32, 2], F32).check().unwrap();
    }
    Model::llama().tensor("ffn_gate_tid2eid.weight", &[4, 16], I32).check().unwrap();
    let mut model = Model::llama();
    for shape in [[1 << 62, 2], [u64::MAX, 1], [1 << 32, 1 << 32]] {
        let mut bytes = model.tensor("huge.weight", &[32, 16], F16).bytes();
        model = Model::llama();
        let at = bytes.windows(4).position(|window| window == b"huge").unwrap() + "huge.weight".len() + 4;
        bytes = patched(bytes, at, &shape[0].to_le_bytes());
        bytes = patched(bytes, at + 8, &shape[1].to_le_bytes());
        refuses!(check(&bytes), GgufError::TensorSize { .. });
    }
}

#[test]
fn tensors_lie_one_after_another_within_the_file() {
    let at_offset = |change: fn(u64) -> u64| {
        let mut model = Model::llama();
        let begin = 32 * 16 * 4; // the second tensor
        model.tensors[1].offset = Some(change(begin));
        model.check()
    };
    at_offset(|begin| begin).unwrap();
    refuses!(at_offset(|begin| begin - 32), GgufError::TensorsOverlap { previous_end: 2048, offset: 2016, .. });
    refuses!(at_offset(|begin| begin + 32), GgufError::TensorGap { expected: 2048, offset: 2080, .. });
    refuses!(at_offset(|begin| begin + 1), GgufError::TensorMisaligned { alignment: 32, .. });
    refuses!(at_offset(|begin| begin + (1 << 40)), GgufError::TensorBeyondEnd { .. });
    refuses!(at_offset(|_| u64::MAX - 31), GgufError::TensorBeyondEnd { end: u64::MAX, .. });
}
