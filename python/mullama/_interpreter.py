"""Keeps the native module out of subinterpreters, which it was not made for."""

from __future__ import annotations

from importlib import import_module


def check() -> None:
    """Raises `ImportError` in a subinterpreter: a process's engines and its exit belong to its main interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):  # from CPython 3.13 on, and before
        try:
            interpreters = import_module(name)
        except ImportError:
            continue
        # Some versions tell a pair, of which the first is the id.
        current, main = interpreters.get_current(), interpreters.get_main()
        if current != main and (not isinstance(current, tuple) or current[0] != main[0]):
            message = "mullama does not run in a subinterpreter: import it in the process's main interpreter"
            raise ImportError(message)
        return
