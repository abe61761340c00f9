"""What a call raises if Python cannot import a module that only this call needs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mullama._exceptions import EngineClosedError, generation_failed

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def late_import() -> Iterator[None]:
    """A block of imports that only one call needs.

    Raises:
        EngineClosedError: The interpreter ends.
        GenerationError: No descriptor is left to read the module.
    """
    try:
        yield
    except ImportError:
        closed = EngineClosedError("the engine is closed, because the interpreter ends")
        closed.what = "engine"
        raise closed from None
    except OSError as error:
        reason = f"Python cannot read one of its modules: {error}"
        raise generation_failed(reason) from None
