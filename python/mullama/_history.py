"""What was typed in earlier conversations: a file in the platform's folder for state, which only its owner can read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.history import History

from mullama._output import plain, say
from mullama._prompt import open_regular
from mullama._replace import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAX_BYTES = 1 << 20
"""Size of the file beyond which its older half is removed; also the longest entry that is kept."""


def history_file() -> Path | None:
    """Where the history is kept; None for a user without a home directory."""
    with contextlib.suppress(RuntimeError):
        return _state_folder() / "mullama" / "history"
    return None


def _state_folder() -> Path:
    if "XDG_STATE_HOME" in os.environ and Path(os.environ["XDG_STATE_HOME"]).is_absolute():
        return Path(os.environ["XDG_STATE_HOME"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path.home() / ".local" / "state"


class FileHistory(History):
    """A history with one JSON string per line. If the file cannot be used, the user is told once."""

    def __init__(self, file: Path) -> None:
        """Takes the file, which need not exist."""
        super().__init__()
        self._file = file
        self._is_usable = True

    def load_history_strings(self) -> Iterator[str]:
        """The entries, newest first."""
        try:
            lines = self._tail(MAX_BYTES).splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)
            return
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except (
                ValueError,
                RecursionError,
            ):  # half a line, or from another program
                continue
            if isinstance(entry, str):
                yield entry

    def store_string(self, string: str) -> None:
        """Adds an entry to the file."""
        line = json.dumps(string).encode() + b"\n"
        if not self._is_usable or len(line) > MAX_BYTES:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._append() as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)  # an older file may have been open to others
                file.write(line)
                size = file.seek(0, os.SEEK_END)
            if size > MAX_BYTES:
                self._shorten()
        except OSError as error:
            self._give_up(error)

    def _append(self) -> BinaryIO:
        """Opens the file to write at its end. Without waiting, as `open_regular` does."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self._file, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a regular file")
        return os.fdopen(descriptor, "r+b")

    def _shorten(self) -> None:
        """Removes the older half, in one step: another conversation may read the file at this moment."""
        write_whole(self._file, self._tail(MAX_BYTES // 2).partition(b"\n")[2], mode=0o600)

    def _tail(self, most: int) -> bytes:
        with open_regular(self._file) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            return file.read(most)

    def _give_up(self, error: OSError) -> None:
        self._is_usable = False
        reason = error.strerror or error
        say(plain(f"mullama: the history cannot be kept in {self._file}: {reason} (--no-history does without)"))
