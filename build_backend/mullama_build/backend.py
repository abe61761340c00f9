"""Chooses what computes besides the processor: `MULLAMA_BACKEND` turns one of llama.cpp's GPU backends on."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import maturin

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "MULLAMA_BACKEND"

# Each backend: the program that compiling it takes, where else that may be, and what brings it.
COMPILERS = {
    "cuda": ("nvcc", ("$CUDACXX", "$CUDA_PATH/bin/nvcc", "/usr/local/cuda/bin/nvcc"), "NVIDIA's CUDA toolkit"),
    "rocm": ("hipcc", ("$ROCM_PATH/bin/hipcc", "/opt/rocm/bin/hipcc"), "AMD's ROCm with its HIP SDK"),
    "vulkan": ("glslc", ("$VULKAN_SDK/bin/glslc",), "the Vulkan SDK (Debian, Ubuntu: apt install glslc libvulkan-dev)"),
}
CHOICES = ("cpu", "cuda", "metal", "rocm", "vulkan")


def chosen() -> str:
    """The backend that the environment names; "cpu" where it names none. An unknown one ends the build."""
    value = os.environ.get(VARIABLE, "")
    backend = value.strip().lower() or "cpu"
    if backend not in CHOICES:
        _stop(f"{VARIABLE} is {value!r}, but must be one of {', '.join(CHOICES)}.")
    return backend


def require() -> None:
    """Ends the build with a clear message where the chosen backend cannot be compiled on this machine."""
    backend = chosen()
    if backend == "metal" and platform.system() != "Darwin":
        _stop(f"{VARIABLE}=metal needs macOS, and this is {platform.system()}.")
    if backend in COMPILERS:
        program, places, source = COMPILERS[backend]
        paths = [Path(os.path.expandvars(place)) for place in places]
        if shutil.which(program) is None and not any(path.is_file() for path in paths):
            _stop(f"{VARIABLE}={backend} needs {program}, which is not on PATH: install {source}.")


def settings(given: Mapping[str, object] | None) -> dict[str, object]:
    """The settings for maturin: those that were given, with the cargo feature of the chosen backend."""
    backend = chosen()
    arguments = list(maturin.get_maturin_pep517_args(given))
    if backend != "cpu":
        arguments += ["--features", backend]
    return {**(given or {}), "maturin.build-args": arguments}


def _stop(message: str) -> NoReturn:
    sys.exit(f"mullama cannot be built: {message}")
