"""Names of models on this machine, for completion in a shell."""

from __future__ import annotations

from mullama._exceptions import MullamaError
from mullama._hub import hub


def local_names(incomplete: str) -> list[str]:
    """Names of models on this machine that begin with what was typed. None if the stores cannot be read."""
    try:
        return [name for name in hub().names() if name.startswith(incomplete)]
    except MullamaError:
        return []
