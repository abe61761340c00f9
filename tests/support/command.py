"""The command `mullama`, run as a shell runs it, with its output in pipes."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

COMMAND = [str(Path(sysconfig.get_path("scripts")) / "mullama")]

STEADY = ["-T", "0", "-t", "1", "-c", "256", "--set", "deterministic=true"]
"""What makes a text the same as in another process, in which the context `steady` writes it as `deterministic`."""

INTERRUPTED_LOAD = """
import os, signal, sys
from mullama import Model
import _mullama_command

load = Model.load

def interrupt(fraction):
    os.kill(os.getpid(), signal.SIGINT)

Model.load = lambda path, **options: load(path, progress=interrupt, **options)
sys.exit(_mullama_command.main())
"""
"""The command as a program, with Ctrl-C while the model loads."""


def mullama(*arguments: str | bytes, text: str | bytes = "", limit: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Runs the command with its output in pipes."""
    given = text.encode() if isinstance(text, str) else text
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, timeout=limit, check=False)
