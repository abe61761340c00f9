"""Keeps the native module out of subinterpreters, which it does not support."""

from __future__ import annotations

from importlib import import_module


def check() -> None:
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
