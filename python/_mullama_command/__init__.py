"""The program `mullama`. It is outside the package of that name so that Ctrl-C is quiet while that is imported."""

from __future__ import annotations

import signal
import sys

from _mullama_command import interrupts

INTERRUPTED = 130
"""Exit code that shells use for a program that Ctrl-C ended."""

UNUSABLE = 1
"""Exit code if the installed package cannot run here."""


def main() -> int:
    """Runs the command and returns its exit code. Ctrl-C ends it without a traceback, at any moment."""
    try:
        return _run()
    except KeyboardInterrupt:
        # Only one is ever raised, so none can interrupt what follows, up to the end of the interpreter.
        return INTERRUPTED


def _run() -> int:
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell has background jobs ignore Ctrl-C
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from mullama._cli import main as command  # noqa: PLC0415  # slow to import, and Ctrl-C may come meanwhile
    except (ImportError, OSError) as error:
        # The processor lacks an instruction, the package is incomplete, or no descriptor is left to read it.
        if sys.stderr is not None:
            sys.stderr.write(f"mullama: {error}\n")
        return UNUSABLE
    if heard:
        interrupts.arm()
    try:
        return command()
    finally:
        interrupts.disarm()
