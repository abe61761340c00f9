"""Records the command in a pseudo-terminal as an animated picture: each piece of text appears when it was written.

python tools/record_terminal.py docs/assets/terminal.svg
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pyte

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 18
COLUMNS = 64
CELL = 8.4
LINE = 19
SECONDS = 60
"""The longest that a command may take."""

COMMANDS = (
    'mullama run demo "Write a poem:" --seed 3 --threads 1',
    'mullama run demo "Tell me about llamas:" --seed 1 --threads 1',
)
SLOWER = 20.0
"""The demo writes faster than anybody reads: from its first text on, the picture takes this many times as long."""

PLAIN = "#d7e4e0"
COLOURS = {"green": "#5cc9b4", "red": "#ff8f7a", "yellow": "#f2cc60", "cyan": "#6cc7ef"}

Cell = tuple[str, str, float]
"""A character, its colour, and when it appeared, in seconds."""


def record(commands: tuple[str, ...]) -> list[list[Cell]]:
    """Runs the commands one after another in a terminal; the cells of its last screen."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    seen: list[list[Cell]] = [[(" ", "default", 0.0)] * COLUMNS for _ in range(ROWS)]
    now = 0.0
    for command in commands:
        stream.feed(f"\033[32m$\033[0m {command}\r\n".encode())
        note(screen, seen, now)
        begun = time.monotonic()
        first = None
        for output in written(command):
            passed = time.monotonic() - begun
            first = passed if first is None else first
            stream.feed(output)
            note(screen, seen, now + first + (passed - first) * SLOWER)
        now = max(cell[2] for row in seen for cell in row) + 1
    return seen


def written(command: str) -> Iterator[bytes]:
    """What the command writes to its terminal, as it comes."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    words = shlex.split(command)
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    until = time.monotonic() + SECONDS
    try:
        while select.select([reader], [], [], max(0, until - time.monotonic()))[0]:
            try:
                output = os.read(reader, 65_536)
            except OSError:  # Linux's way to tell that the last writer has closed the terminal
                break
            yield output
        if process.wait(max(0, until - time.monotonic())):
            message = f"{command} ended with exit code {process.returncode}"
            raise RuntimeError(message)
    finally:
        process.kill()
        os.close(reader)


def note(screen: pyte.Screen, seen: list[list[Cell]], now: float) -> None:
    """Keeps when each cell got the character that it has."""
    for y in range(ROWS):
        for x in range(COLUMNS):
            shown = screen.buffer[y][x]
            if seen[y][x][:2] != (shown.data, shown.fg):
                seen[y][x] = (shown.data, shown.fg, now)
            elif shown.data == " " and x:
                # A space that was there before belongs to the text before it: a line is not cut into words.
                seen[y][x] = (" ", *seen[y][x - 1][1:])


def drawn(seen: list[list[Cell]]) -> str:
    """The screen as SVG: every run of characters appears at its time; all at once for readers who want no motion."""
    used = max(y for y, row in enumerate(seen) if any(cell[0] != " " for cell in row)) + 1
    width, height = COLUMNS * CELL + 32, used * LINE + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">',
        "<title>mullama writes a poem, token by token, in a terminal</title>",
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}",
        "@keyframes a{from{opacity:0}to{opacity:1}}text{animation:a 1ms both}",
        "@media(prefers-reduced-motion:reduce){text{animation:none}}</style>",
        f'<rect width="{width:.0f}" height="{height}" rx="8" fill="#12211e"/>',
        *(f'<circle cx="{20 + 16 * at}" cy="18" r="5" fill="#3c524c"/>' for at in range(3)),
    ]
    for y, row in enumerate(seen):
        for (colour, at), run in groupby(enumerate(row), lambda cell: cell[1][1:]):
            cells = list(run)
            words = "".join(cell[0] for _, cell in cells).rstrip()
            if words:
                spaces = len(words) - len(words.lstrip())
                x = 16 + (cells[0][0] + spaces) * CELL
                length = (len(words) - spaces) * CELL
                parts.append(
                    f'<text x="{x:.1f}" y="{48 + y * LINE}" textLength="{length:.1f}" '
                    f'fill="{COLOURS.get(colour, PLAIN)}" '
                    f'style="animation-delay:{at:.2f}s">{escape(words.lstrip())}</text>'
                )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(drawn(record(COMMANDS)), encoding="utf-8")
