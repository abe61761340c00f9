"""The help of the command `mullama`: it fits, and its examples run as they stand."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import COMMAND
from terminal import CTRL_D, Terminal

import mullama
from mullama import _cli, _model, _models

if TYPE_CHECKING:
    from hub import HubServer

pytestmark = pytest.mark.slow

NAMES = ("run", "bench", "doctor", "serve", "launch", "pull", "list", "show", "rm", "cp")
COMMANDS: list[list[str]] = [[], *([name] for name in NAMES)]
ALL = _cli.EXAMPLES + _cli.RUN_EXAMPLES + _cli.BENCH_EXAMPLES + _cli.DOCTOR_EXAMPLES
# Nobody serves a model at example.com.
ALL += _models.PULL_EXAMPLES.replace("mullama pull https://example.com/models/model.gguf", "")
ALL += _models.LIST_EXAMPLES + _models.SHOW_EXAMPLES + _models.RM_EXAMPLES + _models.CP_EXAMPLES
NAMED = ("llama3.2:1b", "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF")
# A server runs until a signal ends it; tests/test_server_command.py runs its examples.
EXAMPLES = sorted({line.strip() for line in ALL.splitlines() if line.strip() and "mullama serve" not in line})


def shown(command: list[str], columns: int, flag: str = "--help") -> str:
    """The help on a terminal of so many columns."""
    done = subprocess.run(
        [*COMMAND, *command, flag],
        capture_output=True,
        timeout=30,
        check=True,
        text=True,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    return done.stdout


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_the_terminal_and_its_lines_are_no_longer_than_can_be_read(
    command: list[str], columns: int
) -> None:
    lines = shown(command, columns).splitlines()
    assert max(map(len, lines)) <= min(columns, 100)


@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_narrow_terminal_only_what_cannot_be_broken_is_longer(command: list[str]) -> None:
    lines = shown(command, 40).splitlines()
    assert [
        line for line in lines if len(line) > 40 and not line.lstrip().startswith(("mullama", "cat", "eval", "Usage"))
    ] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_short_flag_shows_the_same(command: list[str]) -> None:
    assert shown(command, 80, "-h") == shown(command, 80)


def test_an_example_of_every_command_is_there() -> None:
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs(example: str, tmp_path: Path, hub: HubServer) -> None:
    del hub
    for name in NAMED:
        mullama.pull(name)
    if "run small" in example:
        mullama.alias_model(NAMED[0], "small")
    (tmp_path / "model.gguf").symlink_to(_model.DEMO)
    (tmp_path / "notes.txt").write_text("The llama hums.\n", encoding="utf-8")
    words = shlex.split(example, comments=True)
    if words[:2] == ["mullama", "run"] and len(words) == 3:
        with Terminal(words[2].replace("model.gguf", str(tmp_path / "model.gguf"))) as terminal:
            assert "Chatting with mullama demo" in terminal.start()
            terminal.press(CTRL_D)
            assert terminal.end()[0] == 0
        return
    quick = example.replace("mullama bench model.gguf", "mullama bench model.gguf --seconds 0.05")
    bash = shutil.which("bash") or "bash"
    path = f"{Path(COMMAND[0]).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path, "SHELL": bash}
    done = subprocess.run(
        [bash, "-c", f"set -o pipefail; {quick}\nexit $?"],  # which stays, for its name is asked for
        capture_output=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    speed = tmp_path / "speed.json"
    assert done.stdout or done.stderr or speed.stat().st_size
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "usage"),
    [("", "COMMAND [OPTIONS]"), ("list", "[OPTIONS]"), ("rm", "NAME... [OPTIONS]"), ("cp", "FROM TO [OPTIONS]")],
)
def test_the_usage_has_the_arguments_that_there_are(command: str, usage: str) -> None:
    shown = subprocess.run([*COMMAND, *command.split(), "--help"], capture_output=True, timeout=30, check=True).stdout
    assert shown.decode().splitlines()[0] == " ".join(["Usage: mullama", *command.split(), usage])
