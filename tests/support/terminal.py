"""The command on a terminal of its own, as a user sees it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT = 20
"""Seconds that anything may take on a machine that is busy elsewhere."""

CTRL_C, CTRL_D, CTRL_P, BACKSPACE, TAB, UP = b"\x03", b"\x04", b"\x10", b"\x7f", b"\t", b"\x1b[A"
PASTE, PASTED = b"\x1b[200~", b"\x1b[201~"

READY = "<ready>"
"""Stands where the command asks the terminal to mark what is pasted, which is when it starts to read a message."""

ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*\x07|[=>78])")
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*)?$")

# Ctrl-C reaches whoever has the terminal, as a shell would give it.
PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import _mullama_command
sys.exit(_mullama_command.main())
"""


class Terminal:
    """A terminal with the command in it."""

    def __init__(
        self, *arguments: str, command: str = "run", columns: int = 200, stdout: int | None = None, **environment: str
    ) -> None:
        """Starts `mullama run`, or another command; its output goes to the terminal, or stdout elsewhere."""
        self._primary, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, columns, 0, 0))
        words = [sys.executable, "-c", PROGRAM, command, *arguments]
        self._state = tempfile.TemporaryDirectory()
        given = {"TERM": "xterm-256color", "INPUTRC": os.devnull, "PYTHONUTF8": "1", "XDG_STATE_HOME": self._state.name}
        self.child = subprocess.Popen(
            words,
            stdin=terminal,
            stdout=terminal if stdout is None else stdout,
            stderr=terminal,
            env={**os.environ, **given, **environment},
            start_new_session=True,
        )
        os.close(terminal)
        is_plain = environment.get("TERM") == "dumb" or stdout is not None
        self.ready = ">>> " if is_plain else READY
        self.raw = ""
        self._unread = ""
        self._held = ""
        self._screen = pyte.Screen(columns, 50)
        self._stream = pyte.Stream(self._screen)
        self.reads = 0

    def press(self, keys: bytes) -> None:
        """Presses keys."""
        os.write(self._primary, keys)

    def press_in_rest(self, keys: bytes) -> None:
        """Presses keys once the command waits for some, which is a moment after its prompt is seen."""
        until = time.monotonic() + LIMIT
        while self._process_state() != "S":
            assert time.monotonic() < until, "it never waited"
            time.sleep(0.001)
        self.press(keys)

    def _process_state(self) -> str:
        """What Linux says of the main thread: R runs or would like to, S waits."""
        return Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]

    def until(self, words: str) -> str:
        """What is shown before the words; what is shown after them is for the next call."""
        until = time.monotonic() + LIMIT
        while words not in self._unread:
            assert self._read(until - time.monotonic()), f"{words!r} never came, but {self._unread!r}"
        before, _, self._unread = self._unread.partition(words)
        return before

    def start(self) -> str:
        """What is shown before the next prompt."""
        return self.until(self.ready)

    def say(self, *lines: str) -> str:
        """Types lines, each when it is asked for; what is shown between the last of them and the next prompt."""
        shown = ""
        for line in lines:
            self.press(line.encode() + b"\r")
            shown = self.start()
        return shown.replace("\r\n", "\n")

    def screen(self) -> list[str]:
        """The lines that the user sees."""
        return [line.rstrip() for line in self._screen.display]

    def end(self) -> tuple[int, str]:
        """The exit code, and what was shown last."""
        until = time.monotonic() + LIMIT
        while self._read(until - time.monotonic()):
            pass
        return self.child.wait(timeout=LIMIT), self._unread

    def _read(self, limit: float) -> bool:
        """Reads what is shown next; false when the command is gone."""
        ready, _, _ = select.select([self._primary], [], [], max(limit, 0))
        assert ready, f"nothing more came after {self._unread!r}"
        try:
            shown = os.read(self._primary, 65_536)
        except OSError:  # nobody has the terminal any more
            return False
        text = shown.decode(errors="replace")
        self.raw += text
        self._stream.feed(text)
        text = self._held + text
        unfinished = UNFINISHED.search(text)
        self._held = text[unfinished.start() :] if unfinished else ""
        text = text.removesuffix(self._held) if self._held else text
        self._unread += ESCAPE.sub("", text.replace("\x1b[?2004h", READY))
        self.reads += 1
        return bool(shown)

    def __enter__(self) -> Self:
        """The terminal; the end of the block ends the command."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Ends the command."""
        self.child.kill()
        self.child.wait(timeout=LIMIT)
        os.close(self._primary)
        self._state.cleanup()
