"""What a call raises if Python cannot import a module that only this call needs."""

from __future__ import annotations

from mullama._exceptions import EngineClosedError, GenerationError, MullamaError


def refused(error: ImportError | OSError) -> MullamaError:
    """The error of the call: no descriptor is left to read the module, or the interpreter ends."""
    if isinstance(error, ImportError):
        closed = EngineClosedError("the engine is closed, because the interpreter ends")
        closed.what = "engine"
        return closed
    reason = f"Python cannot read one of its modules: {error}"
    failed = GenerationError(f"generation failed: {reason}")
    failed.reason = reason
    return failed
