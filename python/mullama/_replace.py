"""Writes files in one step: another program sees the old text or the new one, and a full disk leaves the old one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Writes a file, through a temporary file in the same folder. A link stays, and what it names is written.

    Args:
        path: The file.
        content: All of its bytes.
        mode: Its permissions; None keeps those that it has, or gives those of a new file.

    Raises:
        OSError: The file cannot be written, or it exists and is not a regular file.
    """
    target = path.resolve()
    before = regular_status(target)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:60]}.", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before is not None:
                with contextlib.suppress(OSError):  # only the owner of both may do that
                    os.chown(draft, before.st_uid, before.st_gid)
            draft.chmod((_new_mode() if before is None else stat.S_IMODE(before.st_mode)) if mode is None else mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def regular_status(path: Path) -> os.stat_result | None:
    """What the system says of a regular file; None if there is no file.

    Raises:
        OSError: The path names something else.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return status


def _new_mode() -> int:
    """Permissions of a new file."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
