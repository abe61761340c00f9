"""Runs a section of a page as its reader does: the commands one after the other, against the server that it starts."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from guide import Block, blocks, run_in_shell
from http_server import LIMIT, Serving, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SERVE = "mullama serve "


class Section(NamedTuple):
    """A heading and the blocks below it, up to the next heading."""

    page: Path
    title: str
    blocks: list[tuple[str, Block]]


class Place(NamedTuple):
    """Where the blocks of a section run.

    Attributes:
        folder: The working directory.
        environment: The variables.
        server: The server for blocks before which the section starts none.
    """

    folder: Path
    environment: Mapping[str, str]
    server: Serving


def sections(*pages: Path) -> list[Section]:
    """The sections that have blocks of the languages `sh` or `python`."""
    found = []
    for page in pages:
        lines = page.read_text(encoding="utf-8").splitlines()
        fences = [number for number, line in enumerate(lines) if line.startswith("```")]
        inside = {number for begin, end in zip(fences[::2], fences[1::2], strict=True) for number in range(begin, end)}
        heads = [number for number, line in enumerate(lines) if line.startswith("#") and number not in inside]
        run = [(language, block) for language in ("sh", "python") for block in blocks(language, page)]
        for head, end in zip(heads, [*heads[1:], len(lines)], strict=True):
            own = sorted((each for each in run if head < each[1].line <= end), key=lambda each: each[1].line)
            if own:
                found.append(Section(page, lines[head].lstrip("# "), own))
    return found


def run(section: Section, place: Place) -> None:
    """Runs the blocks of a section.

    Raises:
        AssertionError: A block failed, wrote nothing or wrote an error.
    """
    with contextlib.ExitStack() as servers:
        server = place.server
        for language, block in section.blocks:
            where = f"{block.page.name}:{block.line}"
            if language == "python":
                _check(_run_python(at(server, block.code), place), where)
                continue
            before, options = _split(block.code)
            if before:
                done = run_in_shell(at(server, before), folder=place.folder, environment=_environment(place, server))
                _check(done, where, writes=options is None)
            if options is not None:
                server = servers.enter_context(started(options, place))
        if server is not place.server:
            assert server.stop() == 0, server.lines


@contextlib.contextmanager
def started(options: str, place: Place) -> Iterator[Serving]:
    """The server that a page starts, on a port of its own."""
    words = shlex.split(re.sub(r"--port \d+", "", options))
    with serving(*words, env=place.environment, folder=place.folder) as running:
        yield running


def at(server: Serving, code: str) -> str:
    """The block for the server's own port in place of the page's."""
    if server.url.startswith("unix:"):
        return code
    if own := re.search(r"\bport=(\d+)", code):  # the block starts a server of its own
        with socket.create_server(("127.0.0.1", 0)) as free:
            code = code.replace(own[1], str(free.getsockname()[1]))
    return re.sub(r"(?<=localhost:)\d+", server.url.rpartition(":")[2], code)


def _split(code: str) -> tuple[str, str | None]:
    """The commands of a block before the one that starts a server, and that one's options if there is one."""
    lines = code.replace("\\\n", " ").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(SERVE)]
    if not starts:
        return code, None
    assert starts == [len(lines) - 1], "a server runs until it is stopped, so nothing can follow it in its block"
    return "\n".join(lines[:-1]), lines[-1].removeprefix(SERVE)


def _environment(place: Place, server: Serving) -> dict[str, str]:
    return {**place.environment, "MULLAMA_URL": server.url}


def _run_python(code: str, place: Place) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=place.folder,
        env=dict(place.environment),
    )


def _check(done: subprocess.CompletedProcess[str], where: str, *, writes: bool = True) -> None:
    assert done.returncode == 0, f"{where}: {done.stderr}"
    assert done.stdout.strip() or not writes, f"{where} wrote nothing; stderr: {done.stderr}"
    assert '"error"' not in done.stdout, f"{where}: {done.stdout}"
