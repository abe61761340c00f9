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
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from mullama_build import processor, toolchain
from release import symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target" / "portable"
COLLECTED = TARGET / "release" / "mullama-lib"
PACKAGE = ROOT / "python" / "mullama"

VARIANTS = ["x64", "sse42", "haswell", "alderlake", "skylakex", "icelake", "zen4"]
LIBRARIES = ["libllama.so.0", "libggml.so.0", "libggml-base.so.0"]
MAX_WHEEL_BYTES = 30_000_000


def main(folder: Path) -> Path:
    """Builds the wheel into the folder and returns its path."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        _stop("a portable wheel is built on x86-64 Linux; elsewhere, build from source with `make install`")
    variants = [*VARIANTS, *(["sapphirerapids"] if amx_works() else [])]
    _cargo_environment(variants)
    toolchain.settle(ROOT)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # The first run compiles, and the second packs what was compiled. Cargo without maturin would compile pyo3 twice.
    _maturin(TARGET / "first-wheel")
    with _package_with_libraries(variants):
        _maturin(folder)
    wheel = _tagged(next(folder.glob("*.whl")))
    if wheel.stat().st_size > MAX_WHEEL_BYTES:
        _stop(f"{wheel.name} has {wheel.stat().st_size:,} bytes, but must not have more than {MAX_WHEEL_BYTES:,}")
    return wheel


def amx_works() -> bool:
    """Whether the compiler stores an AMX tile configuration as a whole (GCC bug 114098); fixed ones have a builtin."""
    program = "#if !__has_builtin(__builtin_ia32_ldtilecfg)\n#error\n#endif\n"
    compiler = os.environ.get("CXX", "c++").split()
    command = [*compiler, "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(command, input=program, text=True, capture_output=True, check=False).returncode == 0


def _cargo_environment(variants: list[str]) -> None:
    """The settings of every cargo call; another value would compile llama.cpp again."""
    os.environ |= {
        "CARGO_TARGET_DIR": str(TARGET),
        "RUSTFLAGS": "-C target-cpu=x86-64",
        "CMAKE_PROJECT_INCLUDE": str(ROOT / "tools" / "release" / "variants.cmake"),
        "CMAKE_MULLAMA_CPU_VARIANTS": ";".join(variants),
        "CMAKE_INSTALL_RPATH": "$ORIGIN",
    }
    if shutil.which("ccache"):
        os.environ |= {"CC": "ccache cc", "CXX": "ccache c++"}


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


def _tagged(built: Path) -> Path:
    """The wheel under the tag of the oldest systems that all its libraries run on."""
    unpacked = TARGET / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    with zipfile.ZipFile(built) as archive:
        archive.extractall(unpacked)
    libraries = [path for path in unpacked.rglob("*") if re.search(r"\.so(\.\d+)*$", path.name)]
    missing = symbols.foreign(libraries)
    if missing:
        _stop(f"the wheel lacks {', '.join(sorted(missing))}")
    needs = {library.name: symbols.needed_glibc(library) for library in libraries}
    for name, minor in sorted(needs.items()):
        print(f"{name}: glibc 2.{minor}")
    tag = f"manylinux_2_{max(needs.values())}_x86_64"
    command = [sys.executable, "-m", "wheel", "tags", "--remove", "--platform-tag", tag, str(built)]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    return built.with_name(name)


def _stop(message: str) -> NoReturn:
    sys.exit(f"the release cannot be built: {message}")


if __name__ == "__main__":
    wheel = main(Path(sys.argv[1]))
    print(f"{wheel} ({wheel.stat().st_size:,} bytes)")
