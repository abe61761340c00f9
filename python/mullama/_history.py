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
            with self._open(os.O_RDONLY) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MAX_BYTES))
                lines = file.read(MAX_BYTES).splitlines()
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
            with self._open(os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o600)  # an older file may have been open to others
                file.write(line)
                size = file.seek(0, os.SEEK_END)
            if size > MAX_BYTES:
                self._shorten()
        except OSError as error:
            self._give_up(error)

    def _open(self, flags: int) -> BinaryIO:
        """Opens the file. Without waiting, because a pipe of this name may have nobody at its other end."""
        descriptor = os.open(self._file, flags | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file")
        return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "r+b")

    def _shorten(self) -> None:
        """Removes the older half, in one step: another conversation may read the file at this moment."""
        newer = self._file.read_bytes()[-MAX_BYTES // 2 :]
        draft = self._file.with_name(f"history.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(newer.partition(b"\n")[2])
        draft.replace(self._file)

    def _give_up(self, error: OSError) -> None:
        self._is_usable = False
        reason = error.strerror or error
        say(plain(f"mullama: the history cannot be kept in {self._file}: {reason} (--no-history does without)"))
