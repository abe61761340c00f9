"""Starts `mullama serve` as a process of its own."""

from __future__ import annotations

import contextlib
import json
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


def url_in(line: str) -> str | None:
    """The address of the server, if the line has it: as text, or as JSON."""
    if line.startswith("{"):
        url = json.loads(line).get("url")
        return None if url is None else str(url)
    match = re.search(r" at (\S+)$", line)
    return match[1] if match else None


@contextlib.contextmanager
def serving(
    *options: str, env: Mapping[str, str] | None = None, folder: Path | None = None, passed: socket | None = None
) -> Iterator[Serving]:
    """`mullama serve` with these options, on a port of its own unless they say where to listen.

    Without a model among the options it serves the demo model. The process ends with the block. `env` is its whole
    environment; None is that of this process. `folder` is its working directory. `passed` is a listening socket that
    it is given as systemd gives it.
    """
    words = [*options]
    has_argument = bool(words) and not words[0].startswith("-")
    if not has_argument and not {"--model", "-m"} & set(words):
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
            if url := url_in(line.rstrip()):
                found.put(url)
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
