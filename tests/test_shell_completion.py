"""Tab in a real bash: names of models, although bash takes a colon for the end of a word."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import COMMAND, mullama

from mullama._shell_words import joined

if TYPE_CHECKING:
    from hub import HubServer
    from typing_extensions import Self

LIMIT = 20
"""Seconds that anything may take on a machine that is busy elsewhere."""


class Bash:
    """A bash on a terminal of its own, with the completion of the command."""

    def __init__(self, folder: Path) -> None:
        """Starts it in the folder."""
        asked = {**os.environ, "SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        shown = subprocess.run(
            [*COMMAND, "--show-completion", "bash"], env=asked, capture_output=True, check=True, timeout=LIMIT
        )
        (folder / "completion.sh").write_bytes(shown.stdout)
        path = f"{Path(COMMAND[0]).parent}{os.pathsep}{os.environ['PATH']}"
        given = {**os.environ, "PATH": path, "TERM": "dumb", "INPUTRC": os.devnull}
        self._primary, terminal = os.openpty()
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile", "-i"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=given,
            cwd=folder,
            start_new_session=True,
        )
        os.close(terminal)
        self._unread = ""
        self._type("source completion.sh; printf '%s ' is ready\r")
        self._until("is ready ")

    def completed(self, line: str) -> list[str]:
        """The words of the line after Tab."""
        # Ctrl-A makes it a line that prints its words.
        self._type(f"{line}\t\x01printf '<%s>' \x05 end\r")
        return self._until("<end>").rpartition("<mullama>")[2].strip("<>").split("><")

    def _type(self, keys: str) -> None:
        os.write(self._primary, keys.encode())

    def _until(self, words: str) -> str:
        until = time.monotonic() + LIMIT
        while words not in self._unread:
            ready, _, _ = select.select([self._primary], [], [], max(until - time.monotonic(), 0))
            assert ready, f"{words!r} never came, but {self._unread!r}"
            self._unread += os.read(self._primary, 65_536).decode(errors="replace")
        before, _, self._unread = self._unread.partition(words)
        return before

    def __enter__(self) -> Self:
        """The shell; the end of the block ends it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Ends it."""
        self._shell.kill()
        self._shell.wait(timeout=LIMIT)
        os.close(self._primary)


@pytest.mark.slow
def test_tab_in_bash_completes_names_before_and_after_a_colon(hub: HubServer, tmp_path: Path) -> None:
    del hub
    for name in ("llama3.2:1b", "someone/tiny", "hf.co/mullama/demo-GGUF:Q8_0"):
        assert mullama("pull", name).returncode == 0
    assert mullama("cp", "llama3.2:1b", "mine:verse").returncode == 0
    with Bash(tmp_path) as bash:
        for typed, words in (
            ("mullama run ll", ["run", "llama3.2:1b"]),
            ("mullama run llama3.2:", ["run", "llama3.2:1b"]),
            ("mullama run llama3.2:1", ["run", "llama3.2:1b"]),
            ('mullama run "llama3.2:', ["run", "llama3.2:1b"]),
            ("mullama rm someone/tiny:", ["rm", "someone/tiny:latest"]),
            ("mullama rm llama3.2:1b some", ["rm", "llama3.2:1b", "someone/tiny:latest"]),
            ("mullama show hf", ["show", "hf.co/mullama/demo-GGUF:Q8_0"]),
            ("mullama pull hf.co/mullama/demo-GGUF:", ["pull", "hf.co/mullama/demo-GGUF:Q8_0"]),
            ("mullama pull hf.co/mullama/demo-GGUF:Q8", ["pull", "hf.co/mullama/demo-GGUF:Q8_0"]),
            ("mullama cp min", ["cp", "mine:verse"]),
            ("mullama run mine:v", ["run", "mine:verse"]),
            ("mullama run no-such:1", ["run", "no-such:1"]),
            ("mullama run demo --set=dry_m", ["run", "demo", "--set=dry_multiplier="]),
        ):
            assert bash.completed(typed) == words, typed


@pytest.mark.parametrize(
    ("words", "position", "last", "before"),
    [
        (["mullama", "run", "llama3.2", ":"], 3, "llama3.2:", "llama3.2:"),
        (["mullama", "run", "llama3.2", ":", "1b"], 4, "llama3.2:1b", "llama3.2:"),
        (["mullama", "run", "llama3.2", ":", ""], 4, "", ""),
        (["mullama", "run", "https", ":", "//host", ":", "80/a"], 6, "https://host:80/a", "https://host:"),
        (["mullama", "run", "a", ":", "b", "c"], 3, "a:", "a:"),
        (["mullama", "run", '"a:b'], 2, '"a:b', ""),
        (["mullama", "run", "demo", "'two\nlines'", "de"], 4, "de", ""),
        (["mullama", ""], 1, "", ""),
    ],
)
def test_words_that_bash_has_split_are_joined(words: list[str], position: int, last: str, before: str) -> None:
    found, kept = joined("\n".join(words), str(position))
    assert (found[-1], kept) == (last, before)
    assert found[0] == "mullama"
