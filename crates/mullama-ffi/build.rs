//! Builds the C++ shim against the headers that llama-cpp-sys-2 installed beside its libraries.

use std::env;
use std::path::PathBuf;

#[path = "build/portable.rs"]
mod portable;

const SOURCES: [&str; 8] =
    ["guard.cpp", "variant.cpp", "devices.cpp", "model.cpp", "context.cpp", "candidates.cpp", "dry.cpp", "sampler.cpp"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rustc-check-cfg=cfg(mullama_generic_cpu)");
    let cmake_dir =
        env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 exports the directory of its cmake files");
    let installed = PathBuf::from(cmake_dir).join("..");
    let is_portable = env::var_os("CARGO_FEATURE_PORTABLE").is_some();
    if is_portable {
        portable::check_platform();
        portable::collect(&installed);
    } else if target_cpu().is_none() && env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        warn_about_generic_cpu();
    }

    let headers = installed.join("../include");

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
    if is_portable {
        build.define("MULLAMA_PORTABLE", None);
    }
    if let Some(cpu) = target_cpu() {
        build.flag_if_supported(format!("{}={cpu}", cpu_flag()));
    }
    build.compile("mullama_shim");
}

/// Says once, at the build and at the first load, that llama.cpp is not compiled for the machine it runs on.
fn warn_about_generic_cpu() {
    println!("cargo:rustc-cfg=mullama_generic_cpu");
    println!(
        "cargo:warning=llama.cpp is compiled without a target-cpu: it needs AVX2 and leaves AVX-512 and VNNI unused, which \
         can halve its speed. Set RUSTFLAGS=\"-C target-cpu=native\" for this machine, or enable mullama's feature \
         `portable` for every x86-64 machine."
    );
}

/// The instruction set that Rust and llama.cpp are compiled for, which the shim must match.
fn target_cpu() -> Option<String> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").ok()?;
    flags
        .split('\u{1f}')
        .filter_map(|flag| {
            let option = flag.strip_prefix("--codegen=").or_else(|| flag.strip_prefix("-C")).unwrap_or(flag);
            option.trim().strip_prefix("target-cpu=")
        })
        .next_back()
        .map(str::to_owned)
}

fn cpu_flag() -> &'static str {
    match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("aarch64") => "-mcpu",
        _ => "-march",
    }
}
