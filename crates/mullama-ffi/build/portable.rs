//! Collects llama.cpp's shared libraries in one folder, under the names that the loader looks for, and marks each with the
//! build that it belongs to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The section of each library that holds the build id; `src/library/elf.rs` reads it.
const SECTION: &str = ".mullama.build";
/// What programs are linked to.
const LIBRARIES: [&str; 3] = ["libllama.so", "libggml.so", "libggml-base.so"];
/// The folder beside the binaries that are built.
const FOLDER: &str = "mullama-lib";

/// Ends the build where nothing chooses a variant.
pub(crate) fn check_platform() {
    let (os, arch) =
        ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ARCH"].map(|name| env::var(name).unwrap_or_default()).into();
    assert!(
        (os.as_str(), arch.as_str()) == ("linux", "x86_64"),
        "mullama's feature `portable` is for x86-64 Linux, and this build is for {arch} {os}: build without it"
    );
}

/// Fills the folder `mullama-lib` of cargo's profile folder. `installed` is where llama-cpp-sys-2 put its libraries.
pub(crate) fn collect(installed: &Path) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let profile = out.ancestors().nth(3).expect("OUT_DIR is target/PROFILE/build/PACKAGE/out");
    let folder = profile.join(FOLDER);
    fs::create_dir_all(&folder).expect("the folder of the libraries cannot be created");

    let id = build_id(installed);
    let marker = out.join("build-id");
    fs::write(&marker, &id).expect("the build id cannot be written");
    fs::copy(&marker, folder.join("build-id")).expect("the build id cannot be copied");
    for library in LIBRARIES {
        let name = soname(&installed.join(library));
        mark(&installed.join(&name), &marker, &folder.join(&name));
        if library == "libggml.so" {
            println!("cargo:rustc-env=MULLAMA_GGML={}", name.display());
        }
    }
    let backends = env::var_os("DEP_LLAMA_BACKENDS_DIR").expect("llama-cpp-sys-2 exports the folder of its backends");
    for entry in fs::read_dir(backends).expect("llama-cpp-sys-2's backends cannot be listed").flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("libggml-cpu-") {
            mark(&entry.path(), &marker, &folder.join(name));
        }
    }
    remove_dangling_links(profile);
    println!("cargo:rustc-env=MULLAMA_BUILD_ID={id}");
    println!("cargo:rustc-env=MULLAMA_LIBRARIES={}", folder.display());
    println!("cargo:rerun-if-env-changed=OBJCOPY");
}

/// The name that programs are linked to: llama.cpp's own, or mullama's in a release.
fn soname(library: &Path) -> PathBuf {
    let name = fs::read_link(library).unwrap_or_else(|error| panic!("{} is no link: {error}", library.display()));
    PathBuf::from(name.file_name().expect("the link names a file"))
}

/// Removes links that llama-cpp-sys-2 puts beside the binaries: they point to nothing there, and its build script fails over
/// them when it runs again.
fn remove_dangling_links(profile: &Path) {
    for folder in [profile.to_owned(), profile.join("deps"), profile.join("examples")] {
        for link in LIBRARIES.map(|library| folder.join(library)) {
            if link.is_symlink() && !link.exists() {
                fs::remove_file(&link).unwrap_or_else(|error| panic!("{}: {error}", link.display()));
            }
        }
    }
}

/// What two libraries must agree on to be used together: they are of one release, around one ggml.
fn build_id(installed: &Path) -> String {
    let ggml = version(&installed.join("cmake/ggml/ggml-config-version.cmake"));
    let llama = version(&installed.join("cmake/llama/llama-config-version.cmake"));
    format!("mullama {}, llama.cpp {llama}, ggml {ggml}", env!("CARGO_PKG_VERSION"))
}

fn version(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = text.lines().find_map(|line| line.trim().strip_prefix("set(PACKAGE_VERSION \""));
    let version = line.and_then(|rest| rest.split('"').next());
    version.unwrap_or_else(|| panic!("{} states no version", file.display())).to_owned()
}

/// Copies a library without its debugging symbols and with the build id. The copy replaces an older one as a whole, because
/// a process may have that one mapped.
fn mark(library: &Path, marker: &Path, copy: &Path) {
    let objcopy = env::var_os("OBJCOPY").unwrap_or_else(|| "objcopy".into());
    let unfinished = marker.with_file_name(copy.file_name().expect("a library has a name"));
    let status = Command::new(&objcopy)
        .arg("--strip-unneeded")
        .arg(format!("--add-section={SECTION}={}", marker.display()))
        .arg(format!("--set-section-flags={SECTION}=noload,readonly"))
        .args([library, &unfinished])
        .status()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", objcopy.display()));
    assert!(status.success(), "{} failed for {}", objcopy.display(), library.display());
    // Cargo may run this script for two sets of features at once; each renames a file of its own.
    let beside = copy.with_extension(format!("so.{}", std::process::id()));
    fs::copy(&unfinished, &beside).expect("a library cannot be copied");
    fs::rename(&beside, copy).expect("a library cannot be replaced");
}
