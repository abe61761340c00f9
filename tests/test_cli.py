"""The command `mullama`, as a shell sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mullama import Context, MullamaError, _cli

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "mullama"]
POEM = "Write a poem:"
# So wild that 1,400 tokens come before the end.
WILD = ["--temperature", "100", "--top-k", "0", "--top-p", "1", "--seed", "5"]
LONG = ["run", "demo", *WILD, "--max-tokens", "60000", "--ctx-size", "65536", POEM]


def mullama(*arguments: str, text: str | bytes = "", limit: float = 30) -> subprocess.CompletedProcess[bytes]:
    """Runs the command with its output in pipes."""
    given = text.encode() if isinstance(text, str) else text
    return subprocess.run([*COMMAND, *arguments], input=given, capture_output=True, timeout=limit, check=False)  # noqa: S603


@pytest.fixture
def poem(context: Context) -> str:
    """What the demo model writes greedily."""
    return context.generate(POEM, 30, temperature=0).text


def test_run_writes_what_generate_returns(poem: str) -> None:
    done = mullama("run", "demo", POEM, "--max-tokens", "30", "--temperature", "0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == poem.rstrip("\n") + "\n"


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_prompt_comes_from_a_pipe(poem: str, arguments: list[str]) -> None:
    done = mullama("run", "demo", *arguments, "--max-tokens", "30", "--temperature", "0", text=POEM + "\n")
    assert done.stdout.decode().rstrip("\n") == poem.rstrip("\n")


def test_without_streaming_the_text_is_the_same(poem: str) -> None:
    done = mullama("run", "demo", POEM, "--max-tokens", "30", "--temperature", "0", "--no-stream")
    assert done.stdout.decode().rstrip("\n") == poem.rstrip("\n")


def test_every_option_reaches_the_stream() -> None:
    sampling = ["--top-k", "5", "--top-p", "0.5", "--min-p", "0.1", "--temperature", "0.7", "--seed", "7"]
    engine = ["--ctx-size", "256", "--threads", "1", "--gpu-layers", "0", "--timeout", "30000"]
    stops = ["--stop", "5", "--stop", "6"]
    done = mullama("run", "demo", "Count: 1, 2, 3,", *sampling, *engine, *stops, "--verbose")
    assert done.returncode == 0
    assert b"5" not in done.stdout
    assert b"6" not in done.stdout
    assert b"ended by stop; seed 7" in done.stderr


def test_json_is_a_line_an_event() -> None:
    done = mullama("run", "demo", POEM, "--max-tokens", "3", "--json", "--seed", "7")
    *tokens, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert [token["type"] for token in tokens] == ["token"] * 3
    assert (end["type"], end["finish_reason"], end["seed"]) == ("done", "length", 7)
    assert end["usage"]["completion_tokens"] == 3
    failed = mullama("run", "demo", "-", "--json", text=b"\xff")
    (error,) = [json.loads(line) for line in failed.stdout.splitlines()]
    assert (error["type"], error["code"]) == ("error", "INVALID_PROMPT")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "/nowhere/model.gguf", "A"], 3, "no model at /nowhere/model.gguf"),
        (["run", __file__, "A"], 3, "cannot load"),
        (["run", "demo", "A", "--temperature", "-1"], 2, "temperature is -1, but must be"),
        (["run", "demo", "A", "--ctx-size", "0"], 2, "n_ctx is 0, but must be"),
        (["run", "demo", "A B C D E F G H", "--ctx-size", "4"], 2, "the context holds 4"),
        (["run", "demo", "-"], 2, "lone surrogate"),
        (["run", "demo", "A", "--temperature", "hot"], 2, "invalid float value"),
        (["run", "demo", "A", "--no-such-option"], 2, "unrecognized arguments"),
        (["run"], 2, "required: MODEL"),
        ([], 2, "required: command"),
    ],
)
def test_a_failure_has_its_exit_code_and_one_line(arguments: list[str], code: int, words: str) -> None:
    done = mullama(*arguments, text=b"\xff")
    assert (done.returncode, done.stdout) == (code, b"")
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_deadline_has_its_exit_code_after_the_text() -> None:
    done = mullama(*LONG, "--timeout", "200")
    assert done.returncode == 4
    assert done.stdout.endswith(b"\n")
    assert b"200 ms passed" in done.stderr


def test_every_error_has_an_exit_code() -> None:
    assert set(_cli.EXIT_CODES) == {error.code for error in MullamaError.__subclasses__()}


def test_without_a_prompt_a_terminal_gets_a_word_of_advice() -> None:
    primary, terminal = os.openpty()
    command = [*COMMAND, "run", "demo"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, timeout=30, check=False)  # noqa: S603
    os.close(primary)
    os.close(terminal)
    assert done.returncode == 2
    assert b"a prompt is missing" in done.stderr


def test_a_reader_that_closes_its_pipe_ends_it_quietly() -> None:
    with subprocess.Popen([*COMMAND, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(10)
        child.stdout.close()
        assert child.wait(timeout=10) == 0
        assert child.stderr.read() == b""


def test_ctrl_c_stops_the_generation() -> None:
    with subprocess.Popen([*COMMAND, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:  # noqa: S603
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(10)
        child.send_signal(signal.SIGINT)
        rest, said = child.communicate(timeout=10)
    assert (child.returncode, said) == (130, b"")
    assert rest.endswith(b"\n")


def test_a_terminal_of_few_characters_gets_question_marks(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "run", "demo", "日本語", "--max-tokens", "20", "--seed", "1"]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=environment, timeout=30, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "out").read_bytes().isascii()


def test_the_version_is_told() -> None:
    assert mullama("--version").stdout.startswith(b"mullama ")
