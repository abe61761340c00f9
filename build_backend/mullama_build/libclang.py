"""Finds a libclang on this machine that bindgen can use."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

OLDEST = 14  # the oldest that llama.cpp's headers were tried with

FOLDERS = (
    "/usr/lib/llvm-*/lib",
    "/usr/lib/*-linux-gnu*",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/usr/local/llvm*/lib",
    "/opt/homebrew/opt/llvm/lib",
    "/Library/Developer/CommandLineTools/usr/lib",
)
NAMES = ("libclang.so", "libclang-*.so", "libclang.so.*", "libclang-*.so.*", "libclang.dylib")


class _String(ctypes.Structure):
    """libclang's CXString."""

    _fields_ = (("data", ctypes.c_void_p), ("flags", ctypes.c_uint))


def find() -> Path | None:
    """The newest usable libclang, or None."""
    candidates = {path.resolve() for folder in _folders() for name in NAMES for path in folder.glob(name)}
    # libclang-cpp is clang's C++ interface, under a name that the patterns match too.
    candidates = {path for path in candidates if not path.name.startswith("libclang-cpp")}
    newest_first = sorted(candidates, key=_numbers, reverse=True)
    return next((path for path in newest_first if _version(path) >= OLDEST), None)


def _folders() -> list[Path]:
    root = Path("/")
    folders = [folder for pattern in FOLDERS for folder in root.glob(pattern.lstrip("/"))]
    try:
        asked = subprocess.run(["llvm-config", "--libdir"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        asked = ""
    return [Path(asked), *folders] if asked else folders


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]


def _version(path: Path) -> int:
    """The major version of the libclang at `path`; 0 where it does not load."""
    try:
        library = ctypes.CDLL(str(path))
        library.clang_getClangVersion.restype = _String
        library.clang_getCString.argtypes = [_String]
        library.clang_getCString.restype = ctypes.c_char_p
        words = library.clang_getCString(library.clang_getClangVersion())
    except (OSError, AttributeError):
        return 0
    version = re.search(rb"version (\d+)", words)
    return int(version[1]) if version else 0
