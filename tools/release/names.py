"""Gives llama.cpp's functions names of mullama's, for libraries that share a process with another llama.cpp.

The loader binds a call from one library to another by the name alone, and looks first into libraries that were loaded
with RTLD_GLOBAL. If one of them has another llama.cpp, mullama would call that one. So each function that crosses a
library is renamed by the compiler: `ggml_init` in the sources is `mullama_ggml_init` in the libraries. Calls inside a
library are bound by `-fvisibility=hidden` and `-Bsymbolic`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "mullama_"
# What crosses libraries. The functions of ggml-cpu.h stay: only the loaded variant has them, and it is asked by name.
HEADERS = [
    "include/llama.h",
    "ggml/include/ggml.h",
    "ggml/include/ggml-alloc.h",
    "ggml/include/ggml-backend.h",
    "ggml/include/ggml-opt.h",
    "ggml/include/gguf.h",
    "ggml/src/ggml-backend-impl.h",
    "ggml/src/ggml-impl.h",
    "ggml/src/ggml-quants.h",
    "ggml/src/ggml-threading.h",
]
NOISE = re.compile(r"//[^\n]*|/\*.*?\*/|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.DOTALL | re.MULTILINE)
DECLARED = re.compile(
    r"\b(?:GGML_API|GGML_BACKEND_API|LLAMA_API)\b[^;{(]*?(?:\b(?:GGML_)?DEPRECATED\s*\([^;{(]*?)?(\w+)\s*\("
)


def declared(sources: Path) -> list[str]:
    """The names of the functions that one library of llama.cpp offers to the others."""
    texts = (NOISE.sub("", (sources / header).read_text(encoding="utf-8")) for header in HEADERS)
    return sorted({name for text in texts for name in DECLARED.findall(text)})


def write_header(sources: Path, header: Path) -> None:
    """Writes the header that every compiler call must include first; assembler files ignore it."""
    renamed = (f"#pragma redefine_extname {name} {PREFIX}{name}" for name in declared(sources))
    text = "\n".join(["#ifndef __ASSEMBLER__", *renamed, "#endif", ""])
    header.parent.mkdir(parents=True, exist_ok=True)
    # An unchanged file keeps its time, and nothing is compiled again.
    if not header.exists() or header.read_text(encoding="utf-8") != text:
        header.write_text(text, encoding="utf-8")
