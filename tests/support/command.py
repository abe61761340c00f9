"""The command `mullama`, run as a shell runs it, with its output in pipes."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

COMMAND = [str(Path(sysconfig.get_path("scripts")) / "mullama")]


def mullama(*arguments: str | bytes, text: str | bytes = "", limit: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Runs the command with its output in pipes."""
    given = text.encode() if isinstance(text, str) else text
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, timeout=limit, check=False)
