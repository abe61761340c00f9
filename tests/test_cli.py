"""The command `mullama`, as a shell sees it."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import COMMAND, INTERRUPTED_LOAD, STEADY, mullama

from mullama import Context, MullamaError, _cli, _model

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

DEMO = Path(_model.DEMO)

POEM = "Write a poem:"
GREEDY = ["run", "demo", POEM, "--raw", "--max-tokens", "30", "--temperature", "0"]
CUT = b"mullama: the text was cut off after 30 tokens (max_tokens)\n"
# The command, but for a stream that takes a minute: whoever interrupts it is in time on any machine.
SLOW = """
import sys
from dataclasses import replace

import _mullama_command
from mullama import _cli

begin = _cli.begin

def slow(job):
    begin(replace(job, config=replace(job.config, ignore_eos=True, stream_delay_ms=30, max_tokens=2000)))

_cli.begin = slow
sys.exit(_mullama_command.main())
"""
SLOWLY = [sys.executable, "-c", SLOW, "run", "demo", "--raw", POEM]


@pytest.fixture
def poem(steady: Context) -> str:
    """What the demo model writes greedily."""
    return steady.generate(POEM, 30, temperature=0, deterministic=True).text


def test_run_writes_what_generate_returns(poem: str) -> None:
    done = mullama(*GREEDY, *STEADY)
    assert (done.returncode, done.stderr) == (0, CUT)
    assert done.stdout.decode() == poem.rstrip("\n") + "\n"


def test_without_streaming_the_text_is_the_same(poem: str) -> None:
    done = mullama(*GREEDY, *STEADY, "--no-stream")
    assert done.stdout.decode().rstrip("\n") == poem.rstrip("\n")


def test_verbose_tells_on_stderr_what_it_cost() -> None:
    done = mullama("run", "demo", "Count: 1, 2, 3,", "-r", "-T", "0", "--stop", "6", "--seed", "7", "--verbose")
    assert (done.returncode, done.stdout) == (0, b" 4, 5, \n")
    assert b"finish reason: stop; seed: 7" in done.stderr


def test_json_is_a_line_an_event() -> None:
    done = mullama("run", "demo", POEM, "--max-tokens", "3", "--json", "--seed", "7")
    *tokens, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert [token["type"] for token in tokens] == ["token"] * 3
    assert (end["type"], end["finish_reason"], end["seed"]) == ("done", "length", 7)
    assert end["usage"]["completion_tokens"] == 3
    assert end["text"] == "".join(token["text"] for token in tokens)


def test_in_json_without_streaming_only_the_whole_text_is_an_event() -> None:
    done = mullama("run", "demo", POEM, "--max-tokens", "3", "--json", "--seed", "7", "--no-stream")
    whole = mullama("run", "demo", POEM, "--max-tokens", "3", "--json", "--seed", "7")
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (event["type"], event["text"]) == ("done", json.loads(whole.stdout.splitlines()[-1])["text"])


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["/nowhere/model.gguf", "A"], 3, "MODEL_NOT_FOUND"),
        ([__file__, "A"], 3, "MODEL_LOAD"),
        (["demo", "A", "--temperature", "-1"], 2, "INVALID_CONFIG"),
        (["demo", "A", "--ctx-size", "0"], 2, "INVALID_CONFIG"),
        (["demo", "-"], 2, "INVALID_PROMPT"),
        (["demo", ""], 2, "INVALID_PROMPT"),
        (["demo", "A B C D E F G H", "--ctx-size", "4"], 2, "CONTEXT_OVERFLOW"),
    ],
)
def test_in_json_a_failure_is_an_event_wherever_it_happens(arguments: list[str], exit_code: int, code: str) -> None:
    done = mullama("run", *arguments, "--json", text=b"\xff" if "-" in arguments else b"")
    (event,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, event["type"], event["code"]) == (exit_code, "error", code)
    assert done.stderr.decode() == f"mullama: {event['message']}\n"


def test_in_json_ctrl_c_ends_with_done() -> None:
    with subprocess.Popen([*SLOWLY, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        rest, said = child.communicate(timeout=10)
    *tokens, end = [first, *(json.loads(line) for line in rest.splitlines())]
    assert (child.returncode, said) == (130, b"")
    assert {token["type"] for token in tokens} == {"token"}
    assert (end["type"], end["finish_reason"]) == ("done", "cancelled")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "/nowhere/model.gguf", "A"], 3, "no model at /nowhere/model.gguf"),
        (["run", __file__, "A"], 3, "cannot load"),
        (["run", "demo", "A", "--temperature", "-1"], 2, "--temperature is -1, but must be"),
        (["run", "demo", "A", "--ctx-size", "0"], 2, "--ctx-size is 0, but must be"),
        (
            ["run", "demo", "A B C D E F G H", "--ctx-size", "4"],
            2,
            "the context holds 4; it needs --ctx-size 22 or more",
        ),
        (["run", "demo", "-"], 2, "lone surrogate"),
        (["run", "demo", ""], 2, "the prompt is empty"),
        (["run", "demo", "A", "--temperature", "hot"], 2, "--temperature is hot, but must be a number: 0.0 to 3.4e38"),
        (["run", "demo", "A", "--no-such-option"], 2, "No such option: --no-such-option"),
        (["run"], 2, "Missing argument 'MODEL' (see mullama run --help)"),
        (["run", "demo", "A", "--set", "temprature=1"], 2, "unknown setting temprature; did you mean temperature?"),
        (
            ["run", "demo", "A", "--set", "temperature"],
            2,
            "--set temperature has no value; write --set temperature=VALUE",
        ),
        (["run", "demo", "A", "--set", "temperature=hot"], 2, "temperature is hot, but must be a number"),
        (["run", "demo", "A", "--set", "top_k=-1"], 2, "top_k is -1, but must be"),
        (
            ["run", "demo", "A", "-k", "5", "--set", "top_k=6"],
            2,
            "top_k is given twice: with --top-k 5, and with --set top_k=6",
        ),
        (["run", "demo", "A", "--raw", "-S", "B"], 2, "--raw and --system exclude each other"),
        (["run", "demo", "A", "--raw", "--chat-template", "B"], 2, "--raw and --chat-template exclude each other"),
        (["run", "demo", "A", "--chat-template", "/nowhere"], 2, "cannot read /nowhere: No such file"),
        (["run", "demo", "A", "--chat-template", sys.executable], 2, "it is not UTF-8"),
        (["run", "demo", "A", "--chat-template", "/"], 2, "cannot read /: Is a directory"),
        (["walk"], 2, "No such command 'walk' (see mullama --help)"),
        (["run", "demo", "A", "--max-tokens"], 2, "--max-tokens"),
        (["run", "demo", "A", "--system", b"\xff"], 2, "lone surrogate"),
        (["bench", "/nowhere/model.gguf"], 3, "no model at /nowhere/model.gguf"),
        (["bench", "demo", "--seconds", "nan"], 2, "--seconds is nan, but must be a number of seconds: 0.05 to 3600"),
    ],
)
def test_a_failure_has_its_exit_code_and_one_line(arguments: list[str | bytes], code: int, words: str) -> None:
    done = mullama(*arguments, text=b"\xff" if "-" in arguments else b"")
    assert (done.returncode, done.stdout) == (code, b"")
    assert words in done.stderr.decode()
    assert done.stderr.startswith(b"mullama: ")
    assert done.stderr.count(b"\n") == 1


def test_a_deadline_has_its_exit_code_after_the_text() -> None:
    command = [*SLOWLY, "--timeout", "2000"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 4
    assert len(done.stdout) > 1
    assert done.stdout.endswith(b"\n")
    assert b"timed out after 2000 ms" in done.stderr


@pytest.mark.parametrize("error", MullamaError.__subclasses__())
def test_an_error_ends_the_command_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[MullamaError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        words = "the words"
        raise error(words)

    monkeypatch.setattr(_cli, "run", fail)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
    assert _cli.main(["run", "demo", "A"]) == error.exit_code
    assert capsys.readouterr().err == "mullama: the words\n"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "mullama: Too many open files\n"),
        (MemoryError(), "mullama: out of memory\n"),
    ],
)
def test_a_failure_of_the_system_is_not_taken_for_one_of_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failure: Exception, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(_cli, "run", fail)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which the command replaces
    assert _cli.main(["run", "demo", "A"]) == 1
    assert capsys.readouterr().err == words


@pytest.mark.parametrize(
    ("redirected", "code", "words"),
    [
        ("> /dev/full", 1, "mullama: cannot write to standard output: No space left on device"),
        ("--json > /dev/full", 1, "mullama: cannot write to standard output: No space left on device"),
        ("--no-stream > /dev/full", 1, "mullama: cannot write to standard output: No space left on device"),
        (">&-", 1, "mullama: standard output is closed"),
        ("<&-", 0, ""),
        ("0> /dev/null", 0, ""),  # as nohup has it
        ("--verbose 2>&-", 0, ""),
        ("--verbose 2> /dev/full", 0, ""),
        (">&- 2>&-", 1, ""),
    ],
)
def test_what_a_shell_redirects_ends_in_one_line_at_most(redirected: str, code: int, words: str) -> None:
    done = shell(f"{shlex.join([*COMMAND, *GREEDY])} {redirected}")
    assert done.returncode == code
    said = done.stderr.replace(CUT, b"") if "--verbose" not in redirected else b""
    assert said.decode().strip() == words


@pytest.mark.parametrize(
    ("redirected", "words"),
    [
        ("<&-", "no prompt: give it as PROMPT"),
        ("< /dev/null", "the prompt is empty"),
        ("- < /dev/null", "the prompt is empty"),
        ("< /proc/self/mem", "cannot read the prompt from standard input: Input/output error"),
    ],
)
def test_standard_input_that_holds_no_prompt_is_told(redirected: str, words: str) -> None:
    done = shell(f"{shlex.join([*COMMAND, 'run', 'demo'])} {redirected}")
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of a shell."""
    # With nothing left in a buffer, Python has nothing to complain about when it flushes it at its exit.
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, env=buffered, timeout=30, check=False)


def test_a_reader_that_closes_its_pipe_ends_it_quietly() -> None:
    done = shell(f"{{ {shlex.join(SLOWLY)}; echo $? >&2; }} | head -c 10")
    assert (len(done.stdout), done.stderr) == (10, b"0\n")


def test_ctrl_c_stops_the_generation() -> None:
    with subprocess.Popen(SLOWLY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read(10)
        child.send_signal(signal.SIGINT)
        rest, said = child.communicate(timeout=10)
    assert (child.returncode, said) == (130, b"")
    assert rest.endswith(b"\n")


# From where Python has read the first module of ours, or of what that imports, to where the model loads.
@pytest.mark.parametrize("module", ["mullama", "mullama._processor", "mullama._mullama", "typer", "mullama._run"])
def test_ctrl_c_while_modules_are_imported_ends_it_without_a_traceback(module: str) -> None:
    program = f"""
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

import _mullama_command
sys.meta_path.insert(0, Interrupt())
sys.exit(_mullama_command.main())
"""
    command = [sys.executable, "-c", program, *GREEDY]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    # A shell reports a program that a signal ended with 128 and the signal's number: 130 too.
    assert done.returncode == -signal.SIGINT
    assert (done.stdout, done.stderr) == (b"", b"")


def test_ctrl_c_while_the_model_loads_ends_it_without_a_traceback() -> None:
    command = [sys.executable, "-c", INTERRUPTED_LOAD, *GREEDY]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_a_warning_is_a_line_without_source_code() -> None:
    done = mullama(*GREEDY, "--ctx-size", "65536")
    assert done.returncode == 0
    assert done.stderr.startswith(b"mullama: warning: n_ctx is 65536, but the model was trained for ")
    assert done.stderr.removesuffix(CUT).count(b"\n") == 1


def test_a_terminal_of_few_characters_gets_question_marks(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*COMMAND, "run", "demo", "日本語", "--raw", "--max-tokens", "20", "--seed", "1"]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=environment, timeout=30, check=False)
    assert done.returncode == 0
    assert (tmp_path / "out").read_bytes().isascii()


def test_the_package_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "mullama", "--version"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, mullama("--version").stdout)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["doctor"], GREEDY])
def test_whoever_hung_up_before_the_first_word_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_import_mullama_imports_nothing_of_the_command_and_no_event_loop(
    script: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    unwanted = {"typer", "click", "rich", "readline", "prompt_toolkit", "asyncio"}
    done = script(f"import sys, mullama; print({unwanted} & sys.modules.keys())")
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_package_that_cannot_run_here_is_told_in_one_line() -> None:
    program = """
import sys
import _mullama_command

class Broken:
    def find_spec(self, name, *_):
        if name == "mullama":
            raise ImportError("compiled for another processor")

sys.meta_path.insert(0, Broken())
sys.exit(_mullama_command.main())
"""
    done = subprocess.run([sys.executable, "-c", program, "doctor"], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"mullama: compiled for another processor\n")


def test_the_version_is_told() -> None:
    assert mullama("--version").stdout.startswith(b"mullama ")
