"""The program `mullama`, outside the package of that name so that Ctrl-C has a quiet end before that is imported."""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended."""

BROKEN = 1
"""What is installed here cannot run here."""


def main() -> int:
    """Runs the command and returns its exit code. From here to the last line Ctrl-C ends it without a traceback."""
    before = signal.getsignal(signal.SIGINT)
    heard = before is signal.default_int_handler  # a shell has its background jobs ignore Ctrl-C
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from mullama._cli import main as command  # noqa: PLC0415  # takes a tenth of a second, in which Ctrl-C may come
    except ImportError as error:
        # A processor that lacks what the package was compiled for, or a package that is not there.
        if sys.stderr is not None:
            sys.stderr.write(f"mullama: {error}\n")
        return BROKEN

    try:
        if heard:
            signal.signal(signal.SIGINT, before)
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        # What runs at the interpreter's exit would show a traceback.
        if heard:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
