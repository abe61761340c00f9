"""Settles which cmake, libclang and make tool a checkout builds with, so that every later cargo sees the same ones.

What it finds stands in `target/build-tools/cargo.toml`, which `.cargo/config.toml` includes: builds by pip, by make and
by hand then agree, and llama.cpp is compiled once. Tools brought as Python packages are copied into cargo's target
folder, because pip deletes the environment they come in while CMake's cache keeps their paths.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from mullama_build import libclang

CMAKE_OLDEST = (3, 14)  # what llama.cpp's CMakeLists.txt asks for

# Each tool that can be brought: the requirement that brings it.
PACKAGES = {"cmake": "cmake>=3.14", "libclang": "libclang==18.1.1", "ninja": "ninja"}


def require_compilers() -> None:
    """Ends the build with a clear message where Rust or a compiler is missing: no Python package brings those."""
    if shutil.which("cargo") is None:
        _stop("cargo is missing: install the stable Rust toolchain with rustup, and have ~/.cargo/bin on PATH.")
    for language, command in (("C", _compiler("CC", "cc")), ("C++", _compiler("CXX", "c++"))):
        if shutil.which(command[0]) is None:
            _stop(f"the {language} compiler {command[0]} is missing (Debian, Ubuntu: apt install build-essential).")


def requirements(root: Path) -> list[str]:
    """The requirements that bring the tools this machine lacks."""
    if _settled(root):
        return []
    return [PACKAGES[tool] for tool, path in _tools(root).items() if path is None]


def settle(root: Path) -> None:
    """Writes the checkout's tool settings, unless those that stand there still hold."""
    if _settled(root):
        return
    for tool in PACKAGES:
        _keep(tool, _kept(root, tool))
    tools = _tools(root)
    for tool, path in tools.items():
        if path is None:
            _stop(f"{tool} is missing: install it, or let pip bring it (build without --no-build-isolation).")
    settings = {
        "CMAKE": tools["cmake"],
        "LIBCLANG_PATH": tools["libclang"],
        "BINDGEN_EXTRA_CLANG_ARGS": os.environ.get("BINDGEN_EXTRA_CLANG_ARGS") or _builtin_headers(),
    }
    if shutil.which("make") is None:
        settings |= {"CMAKE_GENERATOR": "Ninja", "CMAKE_MAKE_PROGRAM": tools["ninja"]}
    _write(root, {name: str(value) for name, value in settings.items() if value})


def remember_python(root: Path) -> None:
    """Points plain cargo at the Python description maturin built against, or each of the two would rebuild pyo3."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = list((_target(root) / "maturin").glob(f"pyo3-config-*-{version}*.txt"))
    if len(found) == 1:
        _write(root, read_settings(root) | {"PYO3_CONFIG_FILE": str(found[0])})


def _tools(root: Path) -> dict[str, Path | str | None]:
    """Where each tool is, None where it is missing."""
    return {
        "cmake": _usable_cmake(root),
        "libclang": os.environ.get("LIBCLANG_PATH") or _existing(_kept(root, "libclang")) or libclang.find(),
        "ninja": shutil.which("make") or _existing(_kept(root, "ninja")) or shutil.which("ninja"),
    }


def _usable_cmake(root: Path) -> Path | str | None:
    chosen = os.environ.get("CMAKE") or _existing(_kept(root, "cmake"))
    if chosen is not None:
        return chosen
    found = shutil.which("cmake")
    if found is None:
        return None
    version = re.search(r"version (\d+)\.(\d+)", _output(found, "--version"))
    return found if version and tuple(map(int, version.groups())) >= CMAKE_OLDEST else None


def _builtin_headers() -> str:
    """The compiler's own headers (stdbool.h and its like), which a libclang without its clang cannot find."""
    headers = Path(_output(*_compiler("CC", "cc"), "-print-file-name=include").strip())
    return shlex.join(["-isystem", str(headers)]) if (headers / "stdbool.h").exists() else ""


def _kept(root: Path, tool: str) -> Path:
    """Where a brought tool stays."""
    inside = {"cmake": "cmake/bin/cmake", "libclang": "libclang.so", "ninja": "ninja"}
    return _target(root) / "build-tools" / inside[tool]


def _keep(tool: str, kept: Path) -> None:
    """Copies a tool out of the build environment, if pip put it there."""
    inside = {"cmake": "data/bin/cmake", "libclang": "native/libclang.so", "ninja": "bin/ninja"}
    try:
        files = metadata.files(tool) or []
    except metadata.PackageNotFoundError:
        return
    brought = next((Path(str(file.locate())) for file in files if file.as_posix().endswith(inside[tool])), None)
    if brought is None or kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    if tool == "cmake":
        data = brought.parents[1]
        shutil.copytree(data, kept.parents[1], ignore=shutil.ignore_patterns("doc", "Help"), dirs_exist_ok=True)
    else:
        shutil.copy2(brought, kept)


def _settled(root: Path) -> bool:
    """Whether the checkout has settings and every file they name is still there."""
    settings = read_settings(root)
    words = [word for value in settings.values() for word in shlex.split(value)]
    return bool(settings) and all(Path(word).exists() for word in words if word.startswith("/"))


def _settings_file(root: Path) -> Path:
    return root / "target" / "build-tools" / "cargo.toml"


def read_settings(root: Path) -> dict[str, str]:
    """The settings as `_write` left them: a TOML string of ours is a JSON string too."""
    file = _settings_file(root)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    pairs = [line.split(" = ", 1) for line in lines if " = " in line and not line.startswith("#")]
    return {name: json.loads(value) for name, value in pairs}


def _write(root: Path, settings: dict[str, str]) -> None:
    lines = [
        "# Written by build_backend: the tools this checkout builds with. Without this file they are looked for again.",
        "[env]",
        *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()),
    ]
    file = _settings_file(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_suffix(".new")
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    whole.replace(file)


def _target(root: Path) -> Path:
    """Where cargo builds: the brought tools live there, because CMake's cache in it names them."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or root / "target").absolute()


def _compiler(variable: str, default: str) -> list[str]:
    """The compiler's command, which may have a launcher or flags in it."""
    return shlex.split(os.environ.get(variable) or default)


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _stop(message: str) -> NoReturn:
    sys.exit(f"mullama cannot be built: {message}")
