"""The command `mullama`, run as a shell runs it, with its output in pipes."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

COMMAND = [str(Path(sysconfig.get_path("scripts")) / "mullama")]

STEADY = ["-T", "0", "-t", "1", "-c", "256", "--set", "deterministic=true"]
"""What makes a text the same as in another process, in which the context `steady` writes it as `deterministic`."""


def mullama(*arguments: str | bytes, text: str | bytes = "", limit: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Runs the command with its output in pipes."""
    given = text.encode() if isinstance(text, str) else text
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, timeout=limit, check=False)
