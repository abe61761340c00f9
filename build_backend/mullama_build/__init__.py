"""Builds mullama: maturin's PEP 517 hooks, after the C tools that compiling llama.cpp takes are settled.

Flow: requirements → toolchain → processor → backend → maturin → what the next plain cargo needs to know.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import maturin

from mullama_build import backend, processor, toolchain

if TYPE_CHECKING:
    from collections.abc import Mapping

    Settings = Mapping[str, object] | None

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parents[2]

# maturin warns about every build backend that is not maturin itself.
os.environ.setdefault("MATURIN_NO_MISSING_BUILD_BACKEND_WARNING", "1")

prepare_metadata_for_build_wheel = maturin.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = maturin.prepare_metadata_for_build_editable
build_sdist = maturin.build_sdist


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """The packages that bring what this machine lacks: often none."""
    del config_settings
    toolchain.require_compilers()
    backend.require()
    return toolchain.requirements(ROOT)


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """Nothing: a source archive is packed without compiling."""
    del config_settings
    return []


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Compiles the native module and packs it into a wheel."""
    _before_build()
    name: str = maturin.build_wheel(wheel_directory, backend.settings(config_settings), metadata_directory)
    toolchain.remember_python(ROOT)
    return name


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Compiles the native module into the checkout and packs a wheel that points there."""
    _before_build()
    name: str = maturin.build_editable(wheel_directory, backend.settings(config_settings), metadata_directory)
    toolchain.remember_python(ROOT)
    return name


def _before_build() -> None:
    if os.environ.get("MULLAMA_PORTABLE", "0") not in {"", "0"}:
        # Without a target-cpu, llama-cpp-sys-2 takes the architecture's baseline.
        level = "-C target-cpu=x86-64-v3" if platform.machine() in {"x86_64", "AMD64"} else ""
        os.environ["RUSTFLAGS"] = level
    toolchain.require_compilers()
    backend.require()
    toolchain.settle(ROOT)
    processor.record(ROOT)
