"""Finds the packages that bring a GPU backend, such as mullama-vulkan, and loads their libraries."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mullama import _mullama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib import metadata

GROUP = "mullama.backends"
"""The group of entry points; each names a function that returns the path of a library."""

PREFIX = "mullama-"
"""What the name of every plug-in's package begins with."""


@dataclass(frozen=True)
class Plugin:
    """An installed plug-in.

    Attributes:
        package: The name of its package.
        version: The version of its package.
        state: What became of it, for people.
    """

    package: str
    version: str
    state: str


@functools.cache
def load() -> tuple[Plugin, ...]:
    """Loads every installed plug-in, once per process.

    Only models that are loaded afterwards use it. A plug-in that does not fit this mullama is a `UserWarning`; one that
    finds no device is a line in the log.
    """
    if not any(map(_has_plugin, sys.path)):
        return ()
    try:
        return tuple(_load(entry, *about) for entry, about in _found())
    # Whatever is installed beside mullama must not keep a model from loading.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        warnings.warn(f"the installed plug-ins cannot be listed, so none is used: {error!r}", stacklevel=4)
        return ()


def _found() -> list[tuple[metadata.EntryPoint, tuple[str, str]]]:
    """The entry points of plug-ins, each with the name and the version of its package.

    They are sorted by their name. If two backends have the same GPU, llama.cpp uses it by the one that was loaded
    first: CUDA, and not Vulkan.
    """
    from importlib import metadata  # noqa: PLC0415  # takes longer to import than a small model to load

    found = []
    for entry in metadata.entry_points(group=GROUP):
        # A package whose removal was interrupted may lack its name or its version.
        about = dict(entry.dist.metadata.json) if entry.dist is not None else {}
        name, version = str(about.get("name", "")), str(about.get("version", "without a version"))
        if name.lower().replace("_", "-").startswith(PREFIX):
            found.append((entry, (name, version)))
    return sorted(found, key=lambda plugin: plugin[0].name)


def _has_plugin(folder: object) -> bool:
    """Whether a package of a plug-in may be installed in a folder of `sys.path`, which may have anything in it."""
    if not isinstance(folder, str):
        return False
    try:
        # Importing pathlib would take longer. The empty name of the current directory is no folder here.
        with os.scandir(folder) as entries:
            return any(entry.name.startswith(f"{PREFIX[:-1]}_") for entry in entries)
    except (OSError, ValueError):
        return False


def load_if_possible() -> None:
    """Loads the plug-ins, if this build of mullama takes any. Takes some milliseconds the first time."""
    if _mullama.cpu_variant() is not None:
        load()


def described() -> Iterator[tuple[str, str]]:
    """A line about each installed plug-in."""
    for plugin in load():
        yield f"plug-in {plugin.package}", f"{plugin.version}, {plugin.state}"


def _load(entry: metadata.EntryPoint, name: str, version: str) -> Plugin:
    try:
        found = _devices(entry, version)
    # A plug-in is a package of its own: it may raise anything, and the model then runs on the CPU.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        reason = str(error) if isinstance(error, ImportError) else repr(error)
        warnings.warn(f"{name} {version} is not used: {reason}", stacklevel=6)
        return Plugin(name, version, f"refused: {reason}")
    return Plugin(name, version, f"devices found: {found}" if found else "no driver or no device, so it is not used")


def _devices(entry: metadata.EntryPoint, version: str) -> int:
    """How many devices the plug-in found on this machine."""
    if version != _mullama.__version__:
        message = f"its version must be that of mullama, {_mullama.__version__}"
        raise ImportError(message)
    library: str = entry.load()()
    return _mullama.load_plugin(library)
