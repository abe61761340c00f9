//! Models that are split into several files.

use std::fs;
use std::path::Path;

use mullama::gguf::{self, Checked, GgufError};

use crate::structure::refuses;
use crate::writer::{F32, Model, Value};

/// A model in two files, each of which may be modified before it is written.
fn split(change: impl FnOnce(&mut Model, &mut Model)) -> Result<Checked, GgufError> {
    let mut first = Model::llama()
        .with("split.no", Value::U16(0))
        .with("split.count", Value::U16(2))
        .with("split.tensors.count", Value::I32(11));
    let mut second = Model { keys: Vec::new(), tensors: first.tensors.split_off(6), ..first.clone() }
        .with("split.no", Value::U16(1))
        .with("split.count", Value::U16(2));
    change(&mut first, &mut second);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |number| directory.path().join(format!("model-{number:05}-of-00002.gguf"));
    fs::write(path(1), first.bytes()).expect("written");
    fs::write(path(2), second.bytes()).expect("written");
    gguf::check(&path(1))
}

fn key(model: &mut Model, key: &str, value: Value) {
    *model = model.clone().with(key, value);
}

#[test]
fn a_split_model_passes_as_one() {
    let checked = split(|_, _| {}).unwrap();
    assert_eq!((checked.shards, checked.tensors), (2, 11));
}

#[test]
fn a_broken_shard_is_named() {
    let result = split(|_, second| second.version = 9);
    let Err(GgufError::Shard { path, source }) = result else { panic!("{result:?}") };
    assert!(path.ends_with(Path::new("model-00002-of-00002.gguf")));
    refuses!(Err::<(), _>(*source), GgufError::UnsupportedVersion { version: 9 });
}

#[test]
fn shards_are_found_by_name_and_number() {
    let model = Model::llama().with("split.no", Value::U16(0)).with("split.count", Value::U16(2));
    refuses!(model.check(), GgufError::ShardName { shards: 2, suffix, .. } if suffix == "-00001-of-00002.gguf");
    refuses!(split(|first, _| key(first, "split.no", Value::U16(1))), GgufError::ShardNumber { found: 1, wanted: 0 });
    refuses!(split(|_, second| key(second, "split.no", Value::U16(7))), GgufError::Shard { .. });
    refuses!(split(|_, second| *second = second.clone().without("split.no")), GgufError::Shard { .. });
    refuses!(split(|first, _| key(first, "split.count", Value::U32(2))), GgufError::WrongKeyType { .. });
    refuses!(split(|first, _| key(first, "split.count", Value::U16(3))), GgufError::ShardName { shards: 3, .. });
}

#[test]
fn shards_hold_the_promised_tensors_once() {
    let result = split(|first, _| key(first, "split.tensors.count", Value::I32(-1)));
    refuses!(result, GgufError::ShardTensors { found: 11, wanted: -1 });
    let result = split(|_, second| *second = second.clone().tensor("output_norm.weight", &[32], F32));
    refuses!(result, GgufError::DuplicateTensor { tensor } if tensor == "output_norm.weight");
}
