"""Starts `mullama serve` as a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from queue import Queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from socket import socket

LIMIT = 60.0
"""Seconds after which a server that neither serves nor ends is a failure."""

LIKE_SYSTEMD = 'exec 3<&0; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@"'
"""A script that runs a command with the socket at its stdin passed to it, as systemd passes sockets."""


@dataclass
class Serving:
    """A running server.

    Attributes:
        url: Its address, without a slash at the end.
        process: Its process.
        lines: What it has written to stderr, line by line.
    """

    url: str
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(LIMIT)


@contextlib.contextmanager
def serving(
    *options: str, env: Mapping[str, str] | None = None, folder: Path | None = None, passed: socket | None = None
) -> Iterator[Serving]:
    """`mullama serve` with these options, on a port of its own unless they say where to listen.

    Without `--model` among the options it serves the demo model. The process ends with the block. `env` is its whole
    environment; None is that of this process. `folder` is its working directory. `passed` is a listening socket that
    it is given as systemd gives it.
    """
    words = [*options]
    if "--model" not in words and "-m" not in words:
        words += ["--model", "demo"]
    if not {"--listen", "--port", "-p"} & set(words):
        words += ["--port", "0"]
    command = [sys.executable, "-m", "mullama", "serve", *words]
    if passed is not None:
        command = ["sh", "-c", LIKE_SYSTEMD, *command]
    environment = os.environ if env is None else env
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL if passed is None else passed.fileno(),
    )
    found: Queue[str | None] = Queue()
    lines: list[str] = []

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line.rstrip())
            if match := re.search(r" at (\S+)$", line.rstrip()):
                found.put(match[1])
        found.put(None)

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        url = found.get(timeout=LIMIT)
        assert url is not None, lines
        yield Serving(url, process, lines)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(LIMIT)
        reader.join(LIMIT)
        assert process.stderr is not None
        process.stderr.close()
