"""How the command `mullama` reports a failure: a line on stderr, an exit code, and an event if `--json` is given."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import COMMAND, INTERRUPTED_LOAD, mullama

from mullama._cli import asks_for_json

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text(encoding="utf-8")

FAILURES = {
    "an unknown command": (["walk"], 2, "USAGE"),
    "no model": (["run"], 2, "USAGE"),
    "an unknown option": (["run", "demo", "A", "--no-such-option"], 2, "USAGE"),
    "an option without its value": (["run", "demo", "A", "--max-tokens"], 2, "USAGE"),
    "options that exclude each other": (["run", "demo", "A", "--raw", "-S", "B"], 2, "USAGE"),
    "too many arguments": (["doctor", "demo", "demo"], 2, "USAGE"),
    "a number that is none": (["run", "demo", "A", "-T", "hot"], 2, "INVALID_CONFIG"),
    "a setting that is unknown": (["run", "demo", "A", "--set", "temprature=1"], 2, "INVALID_CONFIG"),
    "a setting out of range": (["run", "demo", "A", "--set", "top_k=-1"], 2, "INVALID_CONFIG"),
    "a context out of range": (["run", "demo", "A", "--ctx-size", "0"], 2, "INVALID_CONFIG"),
    "a measurement out of range": (["bench", "demo", "--seconds", "nan"], 2, "INVALID_CONFIG"),
    "a template that is missing": (["run", "demo", "A", "--chat-template", "/nowhere"], 2, "FILE"),
    "a template that is a folder": (["run", "demo", "A", "--chat-template", "/"], 2, "FILE"),
    "a template that is no text": (["run", "demo", "A", "--chat-template", sys.executable], 2, "FILE"),
    "a template that is empty": (["run", "demo", "A", "--chat-template", "/dev/null"], 2, "FILE"),
    "a template that is too large": (["run", "demo", "A", "--chat-template", "/dev/zero"], 2, "FILE"),
    "a template without a name": (["run", "demo", "A", "--chat-template", ""], 2, "FILE"),
    "a template that does not parse": (["run", "demo", "A", "--chat-template", "BROKEN"], 2, "TEMPLATE_ERROR"),
    "a model that is missing": (["run", "/nowhere/model.gguf", "A"], 3, "MODEL_NOT_FOUND"),
    "a model that is a folder": (["run", "/", "A"], 3, "MODEL_LOAD"),
    "a model that is none": (["run", __file__, "A"], 3, "MODEL_LOAD"),
    "a model that doctor cannot load": (["doctor", __file__], 3, "MODEL_LOAD"),
    "a model that bench cannot load": (["bench", "/nowhere/model.gguf"], 3, "MODEL_NOT_FOUND"),
    "a prompt that is empty": (["run", "demo", ""], 2, "INVALID_PROMPT"),
    "a prompt that is too long": (["run", "demo", "A B C D E F G H", "--ctx-size", "4"], 2, "CONTEXT_OVERFLOW"),
    "a deadline": (["run", "demo", "A", "--set", "stream_delay_ms=1000", "--timeout", "50"], 4, "STREAM_TIMEOUT"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line_on_stderr_and_with_json_one_event_on_stdout(name: str, tmp_path: Path) -> None:
    arguments, exit_code, code = FAILURES[name]
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% if", encoding="utf-8")
    words = [str(broken) if word == "BROKEN" else word for word in arguments]
    done = mullama(*words[:1], "--json", *words[1:])
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, events[-1]["type"], events[-1]["code"]) == (exit_code, "error", code)
    assert set(events[-1]) == {"type", "code", "message"}
    assert all(event["type"] == "token" for event in events[:-1])
    assert done.stderr.decode() == f"mullama: {events[-1]['message']}\n"
    # Help is offered only where it helps.
    assert ("--help)" in events[-1]["message"]) == (code == "USAGE")
    assert f"| `{code}` | {exit_code} |" in PAGE


def test_a_command_that_is_closed_off_reports_the_system_and_its_code_is_documented() -> None:
    program = """
import sys
from mullama import _cli

def fail(*_):
    raise OSError(24, "Too many open files")

_cli.begin = fail
sys.exit(_cli.main(["run", "demo", "A", "-vj"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False, input=b"")
    assert (done.returncode, done.stderr) == (1, b"mullama: Too many open files\n")
    assert json.loads(done.stdout) == {"type": "error", "code": "SYSTEM", "message": "Too many open files"}
    assert "| `SYSTEM` | 1 |" in PAGE


def test_ctrl_c_before_the_first_token_is_an_event_too() -> None:
    command = [sys.executable, "-c", INTERRUPTED_LOAD, "run", "demo", "A", "--json"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False, input=b"")
    assert (done.returncode, done.stderr) == (130, b"")
    assert json.loads(done.stdout) == {"type": "error", "code": "INTERRUPTED", "message": "interrupted"}
    assert "| `INTERRUPTED` | 130 |" in PAGE


def test_a_conversation_cannot_be_events_and_says_so_as_an_event() -> None:
    # The terminal of `script` is standard input, while stdout is read here.
    terminal, other = os.openpty()
    command = [*COMMAND, "run", "demo", "--json"]
    done = subprocess.run(command, stdin=other, capture_output=True, timeout=30, check=False)
    os.close(terminal)
    os.close(other)
    assert done.returncode == 2
    assert json.loads(done.stdout)["message"].startswith("--json requires a PROMPT")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run demo --json", True),
        ("--json run demo", True),
        ("run demo -vj", True),
        ("run demo -j", True),
        ("run -n 3 -j demo", True),
        ("run -vjn 3 demo", True),
        ("walk --json", True),
        ("run demo -S --json", False),
        ("run demo --system --json", False),
        ("run demo --system=--json -j", True),
        ("run demo -Sj", False),
        ("run demo -vS j", False),
        ("run demo -vS -j", False),
        ("run demo -- --json", False),
        ("run demo --jsonx", False),
        ("run demo -", False),
        ("", False),
    ],
)
def test_whether_events_are_asked_for_is_known_even_if_the_line_is_wrong(line: str, expected: object) -> None:
    assert asks_for_json(shlex.split(line)) is expected


@pytest.mark.parametrize(
    ("redirected", "code", "lines"), [(">&-", 1, 1), ("> /dev/full", 2, 2), ("| true", 2, 1), ("", 2, 1)]
)
def test_an_event_that_nobody_can_read_leaves_the_failure_its_exit_code(redirected: str, code: int, lines: int) -> None:
    line = f"set -o pipefail; {shlex.join([*COMMAND, 'walk', '--json'])} {redirected}"
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, timeout=30, check=False)
    assert done.returncode == code
    assert (done.stderr.count(b"\n"), done.stderr.count(b"mullama: ")) == (lines, lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_command_leaves_the_text_that_was_written(number: signal.Signals) -> None:
    # Who runs the tests may have them ignore a hang-up, as nohup does.
    command = [
        "env",
        f"--default-signal={number.name.removeprefix('SIG')}",
        *COMMAND,
        "run",
        "demo",
        "Tell me a story.",
    ]
    command += ["--set", "stream_delay_ms=200", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        child.send_signal(number)
        _, said = child.communicate(timeout=10)
    assert (first["type"], child.returncode, said) == ("token", -number, b"")


def test_every_exit_code_is_documented() -> None:
    rows = PAGE.partition("## Exit codes")[2]
    assert [code for code in (0, 1, 2, 3, 4, 5, 130) if f"\n| {code} |" not in rows] == []


@pytest.mark.parametrize(
    ("command", "title"), [(["doctor", "demo"], "doctor"), (["bench", "demo", "--seconds", "0.05"], "bench")]
)
def test_every_key_of_the_json_is_documented_and_no_other(command: list[str], title: str) -> None:
    done = mullama(*command, "--json")
    section = PAGE.partition(f"## mullama {title}\n")[2].partition("\n## ")[0].partition("| keys | value |")[2]
    documented = {key for row in section.splitlines() if row.startswith("| `") for key in keys(row.split("|")[1])}
    facts = json.loads(done.stdout)
    assert facts.keys() | {"model"} == documented
    if title == "doctor":
        (row,) = (row for row in section.splitlines() if row.startswith("| `model`"))
        assert facts["model"].keys() == set(keys(row.split("|")[2]))
        (row,) = (row for row in section.splitlines() if row.startswith("| `devices`"))
        assert facts["devices"][0].keys() == set(keys(row.split("|")[2]))


def keys(text: str) -> list[str]:
    """What stands in backquotes."""
    return text.split("`")[1::2]
