"""Versions of what mullama is made of."""

from __future__ import annotations

LLAMA_CPP_CRATE = "0.1.161"
"""The pinned version of `llama-cpp-sys-2`, which holds llama.cpp's sources."""

LLAMA_CPP = "0.6.0"
"""The version that these sources have."""


def llama_cpp() -> str:
    """The version of the llama.cpp that is compiled in, and where its sources come from."""
    return f"{LLAMA_CPP}, compiled in from the sources of llama-cpp-sys-2 {LLAMA_CPP_CRATE}"
