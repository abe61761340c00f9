//! Builds the C++ shim against the headers that llama-cpp-sys-2 installed beside its libraries.

use std::env;
use std::path::PathBuf;

const SOURCES: [&str; 7] =
    ["guard.cpp", "devices.cpp", "model.cpp", "context.cpp", "candidates.cpp", "dry.cpp", "sampler.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    let cmake_dir =
        env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 exports the directory of its cmake files");
    let headers = PathBuf::from(cmake_dir).join("../../include");

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .pic(true)
        // This applies to debug profiles as well: the sampler scans all logits for every token.
        .opt_level(3)
        .flag_if_supported("-fexceptions")
        .flag_if_supported("-fvisibility=hidden")
        .flag_if_supported("-fno-math-errno")
        .include("shim")
        .include(headers)
        .files(SOURCES.iter().map(|file| format!("shim/{file}")));
    if let Some(cpu) = target_cpu() {
        build.flag_if_supported(format!("{}={cpu}", cpu_flag()));
    }
    build.compile("mullama_shim");
}

/// The instruction set that Rust and llama.cpp are compiled for, which the shim must match.
fn target_cpu() -> Option<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").ok()?;
    flags
        .split('\u{1f}')
        .filter_map(|flag| flag.trim_start_matches("-C").trim().strip_prefix("target-cpu="))
        .next_back()
        .map(str::to_owned)
}

fn cpu_flag() -> &'static str {
    match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => "-mcpu",
        _ => "-march",
    }
}
