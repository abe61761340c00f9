//! Models that are split into several files, named and numbered as llama.cpp expects.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::GgufError;
use super::header::Header;
use super::metadata::Metadata;

/// Adds the tensors of all further shards to the first one's header; returns the number of shards.
pub(super) fn join(first: &Path, header: &mut Header) -> Result<u16, GgufError> {
    let shards = header.metadata.u16("split.count")?.unwrap_or(1);
    if shards <= 1 {
        return Ok(1);
    }
    check_number(&header.metadata, 0)?;
    let paths = paths(first, shards)?;
    for (number, path) in (1..shards).zip(&paths[1..]) {
        let in_shard = |source| GgufError::Shard { path: path.clone(), source: Box::new(source) };
        let shard = Header::read(path).map_err(in_shard)?;
        check_number(&shard.metadata, number).map_err(in_shard)?;
        header.tensors.extend(shard.tensors);
        header.file_len += shard.file_len;
    }
    check_tensors(header)?;
    Ok(shards)
}

fn check_number(metadata: &Metadata, wanted: u16) -> Result<(), GgufError> {
    let key = "split.no";
    match metadata.u16(key)? {
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(GgufError::ShardNumber { found: found.into(), wanted: wanted.into() }),
        None => Err(GgufError::MissingKey { key: key.to_owned() }),
    }
}

/// Checks that the shards have the declared number of tensors, and none of them twice.
fn check_tensors(header: &Header) -> Result<(), GgufError> {
    let mut names = HashSet::with_capacity(header.tensors.len());
    for tensor in &header.tensors {
        if !names.insert(tensor.name.as_str()) {
            return Err(GgufError::DuplicateTensor { tensor: tensor.name.clone() });
        }
    }
    let found = header.tensors.len();
    let key = "split.tensors.count";
    match header.metadata.i32(key)? {
        Some(wanted) if usize::try_from(wanted) == Ok(found) => Ok(()),
        Some(wanted) => Err(GgufError::ShardTensors { found, wanted }),
        None => Err(GgufError::MissingKey { key: key.to_owned() }),
    }
}

/// The paths of all shards, given the first one's.
pub(super) fn paths(first: &Path, shards: u16) -> Result<Vec<PathBuf>, GgufError> {
    let end = |number: u16| format!("-{number:05}-of-{shards:05}.gguf");
    let suffix = end(1);
    let name = first.file_name().and_then(|name| name.to_str());
    match name.and_then(|name| name.strip_suffix(&suffix)) {
        Some(prefix) => {
            Ok((1..=shards).map(|number| first.with_file_name(format!("{prefix}{}", end(number)))).collect())
        }
        None => Err(GgufError::ShardName { path: first.to_owned(), shards, suffix }),
    }
}
