//! Any file is a model or a typed error: the check of a GGUF file never panics, overflows, or takes memory that the file
//! has no bytes for.
#![no_main]
#![allow(dead_code, unreachable_pub, reason = "the module is part of a crate, and this target uses one function of it")]

#[path = "../../crates/mullama-core/src/gguf/mod.rs"]
mod gguf;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

/// The header is what is fuzzed. Without room for tensor data behind it, most mutations would fail at the same check.
const TENSOR_BYTES: u64 = 64 << 20;

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("mullama-fuzz-{}.gguf", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|header: &[u8]| {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&*PATH).expect("the file opens");
    file.write_all(header).expect("the header is written");
    // A sparse tail: it takes no memory. An input with an odd last byte stays as short as it is.
    if header.last().is_none_or(|last| last % 2 == 0) {
        file.set_len(header.len() as u64 + TENSOR_BYTES).expect("the file grows");
    }
    if let Err(error) = gguf::check(&PATH) {
        assert!(!error.to_string().is_empty());
    }
});
