"""Builds a wheel for 64-bit Arm with Linux on another machine, with zig as the compiler of C and C++: `make aarch64`.

llama.cpp is linked in, compiled for the oldest 64-bit Arm processors: mullama does not choose among ggml's variants
there (crates/mullama-ffi/src/library/processor.rs). Three things of `make release` are missing: the wheel is not run,
which takes an emulated system with Python for Arm; paths of this machine stay in its messages; no second build is
compared.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mullama_build import processor, toolchain
from release import build, notices, sbom, symbols, wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIPLE = "aarch64-unknown-linux-gnu"
GLIBC = "manylinux_2_28"  # of RHEL 8 and Debian 10; zig has the symbols of every version
PROGRAMS = ("python-zig", "cargo-zigbuild", "maturin")
LIBRARIES = {"ld-linux-aarch64.so.1", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"}


def main(folder: Path) -> Path:
    """Builds the wheel into the folder and returns its path."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        sys.exit(f"programs are missing: {', '.join(missing)} (pip install ziglang cargo-zigbuild maturin)")
    settle_environment()
    scratch = build.TARGET.with_name("aarch64") / "wheel"
    shutil.rmtree(scratch, ignore_errors=True)
    with features_of_target():
        command = ["maturin", "build", "--release", "--locked", "--strip", "--zig", "--target", TRIPLE]
        command += ["--compatibility", GLIBC, "--auditwheel", "skip", "--out", str(scratch)]
        subprocess.run(command, cwd=build.ROOT, check=True)
    folder.mkdir(parents=True, exist_ok=True)
    return finished(next(scratch.glob("*.whl")), folder)


def settle_environment() -> None:
    """The tools of this checkout, no flags of this machine, and zig's headers for bindgen, which is clang here."""
    toolchain.settle(build.ROOT)
    about = subprocess.run(["python-zig", "env"], capture_output=True, text=True, check=True).stdout
    found = re.search(r'"?\blib_dir"?[ =:]+"([^"]+)"', about)
    if found is None:
        sys.exit(f"zig does not say where its headers are:\n{about}")
    kinds = ("aarch64-linux-gnu", "aarch64-linux-any", "generic-glibc", "any-linux-any")
    headers = ["include", *(f"libc/include/{kind}" for kind in kinds)]
    os.environ |= {
        "BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu": " ".join(
            f"-isystem {found[1]}/{name}" for name in headers
        ),
        "CARGO_TARGET_DIR": str(build.TARGET.with_name("aarch64")),
        "RUSTFLAGS": "",
    }


@contextmanager
def features_of_target() -> Iterator[None]:
    """Records what the wheel needs of a processor; afterwards the checkout is as its editable installation needs it."""
    written = build.PACKAGE / "_build.py"
    kept = written.read_bytes() if written.exists() else None
    os.environ["CARGO_BUILD_TARGET"] = TRIPLE
    try:
        processor.record(build.ROOT)
        del os.environ["CARGO_BUILD_TARGET"]
        yield
    finally:
        os.environ.pop("CARGO_BUILD_TARGET", None)
        if kept is not None:
            written.write_bytes(kept)
        else:
            written.unlink(missing_ok=True)


def finished(built: Path, folder: Path) -> Path:
    """The wheel with the notices, if it needs no newer system than its tag says."""
    files = wheels.read(built)
    name = next(name for name in files if name.endswith(".so"))
    library = built.with_name(Path(name).name)
    library.write_bytes(files[name])
    foreign = symbols.foreign([library]) - LIBRARIES
    needed = symbols.needed_glibc(library)
    if foreign or needed > int(GLIBC.rpartition("_")[2]):
        sys.exit(
            f"the wheel needs glibc 2.{needed} and {', '.join(sorted(foreign)) or 'no other library'}, not {GLIBC}"
        )
    for path in [path for path in files if "/sboms/" in path]:
        files[path] = sbom.settled(files[path], build.ROOT, build_id())
    wheels.add_licence(files, "NOTICES.txt", notices.text(notices.linked(build.ROOT)).encode())
    wheels.add_licence(files, "RUST-STANDARD-LIBRARY.html", notices.standard_library())
    wheels.write(folder / built.name, files)
    return folder / built.name


def build_id() -> str:
    """The versions of llama.cpp and ggml that were compiled, as CMake states them."""
    installed = build.TARGET.with_name("aarch64") / TRIPLE / "release" / "build"
    found = []
    for title, name in (("llama.cpp", "llama"), ("ggml", "ggml")):
        stated = max(
            installed.glob(f"*/out/lib/cmake/{name}/{name}-config-version.cmake"), key=lambda path: path.stat().st_mtime
        )
        version = re.search(r'set\(PACKAGE_VERSION "([^"]+)"', stated.read_text(encoding="utf-8"))
        found.append(f"{title} {version[1] if version else ''}")
    return ", ".join(found)


if __name__ == "__main__":
    wheel = main(Path(sys.argv[1]))
    print(f"{wheel} ({wheel.stat().st_size:,} bytes)")
