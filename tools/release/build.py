"""Builds the wheel that runs on every x86-64 machine with Linux: `make release`.

The native module and llama.cpp are compiled for the oldest x86-64 processors, and ggml's CPU backend for several
generations, of which one is loaded at run time. All stays in `target/portable`, so a second build takes seconds.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mullama_build import processor, toolchain
from release import names, notices, sbom, symbols, wheels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target" / "portable"
COLLECTED = TARGET / "release" / "mullama-lib"
PACKAGE = ROOT / "python" / "mullama"

VARIANTS = ["x64", "sse42", "haswell", "alderlake", "skylakex", "icelake", "zen4"]
LIBRARIES = ["libllama.so.mullama", "libggml.so.mullama", "libggml-base.so.mullama"]
MAX_WHEEL_BYTES = 30_000_000
# What the build and its checks run, with Debian's package of each.
PROGRAMS = {"objcopy": "binutils", "objdump": "binutils", "readelf": "binutils", "qemu-x86_64": "qemu-user"}
# The date of every file in the wheel, so that two builds of one source are the same bytes.
EPOCH = 1_577_836_800


def main(folder: Path) -> Path:
    """Builds the wheel into the folder and returns its path."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        _stop(
            "it is for x86-64 Linux and built there, because mullama chooses among ggml's variants only for those "
            "processors (crates/mullama-ffi/src/library/processor.rs). `make aarch64` on x86-64 Linux builds a wheel "
            "without variants for 64-bit Arm. Elsewhere, `MULLAMA_PORTABLE=1 pip wheel . --no-deps` makes one for the "
            "oldest processors"
        )
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        _stop(f"programs are missing (Debian, Ubuntu: apt install {' '.join(missing)})")
    variants = [*VARIANTS, *(["sapphirerapids"] if amx_works() else [])]
    _bring_tools()
    cargo_environment(variants)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The first run compiles, and the second packs what was compiled. Cargo without maturin would compile pyo3 twice.
    _maturin(TARGET / "first-wheel")
    with _package_with_libraries(variants):
        _maturin(folder)
    wheel = _finished(next(folder.glob("*.whl")))
    if wheel.stat().st_size > MAX_WHEEL_BYTES:
        _stop(f"{wheel.name} has {wheel.stat().st_size:,} bytes, but must not have more than {MAX_WHEEL_BYTES:,}")
    return wheel


def amx_works() -> bool:
    """Whether the compiler stores an AMX tile configuration as a whole (GCC bug 114098); fixed ones have a builtin."""
    program = "#if !__has_builtin(__builtin_ia32_ldtilecfg)\n#error\n#endif\n"
    compiler = os.environ.get("CXX", "c++").split()
    command = [*compiler, "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0


def _bring_tools() -> None:
    """Finds libclang and CMake as a source build does, and installs what is missing into this environment."""
    missing = toolchain.requirements(ROOT)
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *missing], check=True)
    toolchain.settle(ROOT)


def cargo_environment(variants: list[str]) -> None:
    """The settings of every cargo call; another value would compile llama.cpp again."""
    cargo_home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo").resolve()
    renamed = TARGET / "names.h"
    names.write_header(notices.package(ROOT, "llama-cpp-sys-2") / "llama.cpp", renamed)
    # Paths of this machine would be in the messages of assertions and panics.
    flags = f"-U__AVX512FP16__ -fvisibility=hidden -ffile-prefix-map={cargo_home}=/cargo -include {renamed}"
    headers = toolchain.read_settings(ROOT).get("BINDGEN_EXTRA_CLANG_ARGS", "")
    os.environ |= {
        "BINDGEN_EXTRA_CLANG_ARGS": f"{headers} -include {renamed}".strip(),
        "CARGO_TARGET_DIR": str(TARGET),
        "RUSTFLAGS": f"-C target-cpu=x86-64 --remap-path-prefix={cargo_home}=/cargo",
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "CMAKE_PROJECT_INCLUDE": str(ROOT / "tools" / "release" / "libraries.cmake"),
        "CMAKE_MULLAMA_CPU_VARIANTS": ";".join(variants),
        "CMAKE_SHARED_LINKER_FLAGS": "-Wl,-Bsymbolic",
        "CMAKE_MODULE_LINKER_FLAGS": "-Wl,-Bsymbolic",
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
        # CMake would link with the path of its folder, and write the other one over it at the installation.
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    if shutil.which("ccache"):
        # Another folder finds the objects as well: its path is not a part of the key.
        os.environ |= {"CC": "ccache cc", "CXX": "ccache c++", "CCACHE_BASEDIR": str(ROOT)}


def _maturin(folder: Path) -> None:
    command = ["maturin", "build", "--release", "--locked", "--strip", "--features", "portable", "--auditwheel", "skip"]
    subprocess.run([*command, "--out", str(folder)], cwd=ROOT, check=True)


@contextmanager
def _package_with_libraries(variants: list[str]) -> Iterator[None]:
    """The package with the libraries in it; afterwards the checkout is as its editable installation needs it."""
    record, libraries = PACKAGE / "_build.py", PACKAGE / "lib"
    kept = record.read_bytes() if record.exists() else None
    try:
        shutil.rmtree(libraries, ignore_errors=True)
        libraries.mkdir()
        for name in [*LIBRARIES, *(f"libggml-cpu-{variant}.so" for variant in variants), "build-id"]:
            shutil.copy2(COLLECTED / name, libraries / name)
        processor.record(ROOT)
        yield
    finally:
        shutil.rmtree(libraries, ignore_errors=True)
        if kept is not None:
            record.write_bytes(kept)


def _finished(built: Path) -> Path:
    """The wheel with the notices, under the tag of the oldest systems that all its libraries run on."""
    files = wheels.read(built)
    minor = _needed_glibc(files)
    platform_tag = f"manylinux_2_{minor}_x86_64"
    wheels.retag(files, platform_tag)
    for name in [name for name in files if "/sboms/" in name]:
        files[name] = sbom.settled(files[name], ROOT, files["mullama/lib/build-id"].decode())
    wheels.add_licence(files, "NOTICES.txt", notices.text(notices.linked(ROOT)).encode())
    wheels.add_licence(files, "RUST-STANDARD-LIBRARY.html", notices.standard_library())
    path = built.with_name(f"{built.stem.rpartition('-')[0]}-{platform_tag}.whl")
    built.unlink()
    wheels.write(path, files)
    return path


def _needed_glibc(files: Mapping[str, bytes]) -> int:
    """The minor version of the glibc that the libraries need, all of which must be there."""
    unpacked = TARGET / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    libraries = []
    for name, content in files.items():
        if re.search(r"\.so(\.\w+)*$", name):
            libraries.append(unpacked / Path(name).name)
            libraries[-1].write_bytes(content)
    missing = symbols.foreign(libraries)
    if missing:
        _stop(f"the wheel lacks {', '.join(sorted(missing))}")
    exposed = symbols.exposed(libraries)
    if exposed:
        _stop(f"another llama.cpp in the process could replace {', '.join(sorted(exposed)[:5])}")
    needs = {library.name: symbols.needed_glibc(library) for library in libraries}
    for name, minor in sorted(needs.items()):
        print(f"{name}: glibc 2.{minor}")
    return max(needs.values())


def _stop(message: str) -> NoReturn:
    sys.exit(f"the release cannot be built: {message}")


if __name__ == "__main__":
    wheel = main(Path(sys.argv[1]))
    print(f"{wheel} ({wheel.stat().st_size:,} bytes)")
