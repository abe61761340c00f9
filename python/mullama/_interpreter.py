"""Refuses what the native module cannot be loaded in: subinterpreters, archives, and paths that the loader changes."""

from __future__ import annotations

import re
import sys
from importlib import import_module

REPLACED = re.compile(r"\$(?:(?:ORIGIN|LIB|PLATFORM)(?!\w)|\{(?:ORIGIN|LIB|PLATFORM)\})", re.ASCII)
"""What Linux's loader replaces in the path of a library."""


def check() -> None:
    """Raises `ImportError` where the native module cannot be loaded, with the reason."""
    check_path(__file__, type(__spec__.loader).__module__)
    check_main()


def check_path(path: str, loader: str) -> None:
    """Raises `ImportError` in an archive, and in a folder whose name means another one to the system's loader.

    Args:
        path: The path of a module of this package.
        loader: The module of the Python loader that imported it.
    """
    if loader == "zipimport":
        message = (
            f"mullama has native libraries, which cannot be loaded from the archive in {path}: install it with pip"
        )
        raise ImportError(message)
    found = REPLACED.search(path)
    if found and sys.platform == "linux":
        message = f"mullama cannot be loaded from {path}: the system replaces {found[0]} in the path of a library"
        raise ImportError(message)


def check_main() -> None:
    """Raises `ImportError` in a subinterpreter: engines and the end of the process belong to the main interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # since CPython 3.13, and before
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        # Some versions return a pair whose first item is the id.
        current, main = interpreters.get_current(), interpreters.get_main()
        if current != main and (not isinstance(current, tuple) or current[0] != main[0]):
            message = "mullama does not run in a subinterpreter: import it in the process's main interpreter"
            raise ImportError(message)
        return
