//! Link arguments of a Node.js addon, which differ between systems, and where a portable one finds llama.cpp's libraries.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    napi_build::setup();
    if env::var_os("CARGO_FEATURE_PORTABLE").is_some() && env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-rpath,$ORIGIN/lib");
        // RPATH comes before LD_LIBRARY_PATH, and RUNPATH after it: no variable of the environment replaces a library.
        println!("cargo:rustc-link-arg-cdylib=-Wl,--disable-new-dtags");
    }
}
