"""The options of the command `mullama`: what they change, their help, and their completion in a shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import fields
from inspect import signature
from typing import TYPE_CHECKING

import pytest
from command import COMMAND, mullama

from mullama import ContextParams, StreamConfig, _cli
from mullama._options import complete_model
from mullama._run import Job
from mullama._values import UNLIMITED

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def ordered(monkeypatch: pytest.MonkeyPatch, *words: str) -> Job:
    """The job that the words ask for."""
    jobs: list[Job] = []
    monkeypatch.setattr(_cli, "begin", jobs.append)
    assert _cli.main(words) == 0
    (job,) = jobs
    return job


def test_every_option_reaches_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}", encoding="utf-8")
    sampling = ["--top-k", "5", "--top-p", "0.5", "--min-p", "0.1", "--temperature", "0.7", "--seed", "7"]
    more = ["--repeat-penalty", "1.1", "--set", "mirostat=2", "--set", 'logit-bias={"5": -1}']
    engine = ["--ctx-size", "256", "--threads", "1", "--gpu-layers", "0", "--timeout", "30000", "--system", "Be brief."]
    chat = ["--chat-template", str(template), "--no-history", "--no-pull"]
    output = ["--stop", "5", "--stop", "6", "--max-tokens", "9", "--no-stream", "--json", "--verbose", "--no-wrap"]
    words = [*sampling, "model.gguf", *engine, *more, "Count:", "1,", *chat, *output, "--render"]
    assert ordered(monkeypatch, "run", *words) == Job(
        model="model.gguf",
        pull=False,
        given=frozenset(
            {"max_tokens", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "stop_sequences"}
            | {"timeout_ms", "mirostat", "logit_bias"}
        ),
        prompt="Count: 1,",
        system="Be brief.",
        config=StreamConfig(
            max_tokens=9,
            temperature=0.7,
            top_k=5,
            top_p=0.5,
            min_p=0.1,
            repeat_penalty=1.1,
            seed=7,
            mirostat=2,
            logit_bias={5: -1},
            stop_sequences=["5", "6"],
            timeout_ms=30_000,
        ),
        params=ContextParams(n_ctx=256, n_threads=1),
        gpu_layers=0,
        chat_template="{{ messages[0].content }}",
        history=False,
        stream=False,
        wrap=False,
        render=True,
        json=True,
        verbose=True,
    )
    # An option that nobody thought of here would leave its default; --raw and --system exclude each other.
    given = {word for word in words if word.startswith("--")} | {"--raw"}
    (run,) = (command for command in _cli.app.registered_commands if command.name == "run")
    assert run.callback is not None
    parameters = signature(run.callback).parameters.keys() - {"context", "model", "prompt"}
    assert given == {f"--{name.replace('_', '-')}" for name in parameters}


def test_without_options_the_defaults_of_the_package_hold_but_for_deadline_and_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = ordered(monkeypatch, "run", "demo", "A")
    assert (job.config, job.params) == (StreamConfig(timeout_ms=None, max_tokens=UNLIMITED), ContextParams())
    assert (job.system, job.gpu_layers, job.stream, job.json, job.verbose) == (None, -1, True, False, False)
    assert (job.raw, job.chat_template, job.wrap, job.render, job.history) == (False, None, True, False, True)


def test_the_common_options_have_short_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    short = ["-n", "9", "-T", "0.5", "-k", "5", "-p", "0.5", "-s", "7", "-S", "Be brief.", "-c", "256", "-t", "1"]
    long = ["--max-tokens", "9", "--temperature", "0.5", "--top-k", "5", "--top-p", "0.5", "--seed", "7"]
    long += ["--system", "Be brief.", "--ctx-size", "256", "--threads", "1", "--gpu-layers", "0", "--verbose", "--json"]
    assert ordered(monkeypatch, "run", "demo", "A", *short, "-g", "0", "-v", "-j") == ordered(
        monkeypatch, "run", "demo", "A", *long
    )
    assert ordered(monkeypatch, "run", "demo", "A", "-r") == ordered(monkeypatch, "run", "demo", "A", "--raw")


@pytest.mark.parametrize("name", [field.name for field in fields(StreamConfig)])
def test_every_setting_is_reachable_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    values: dict[str, object] = {"seed": 5, "logprobs": 5, "logit_bias": {5: 1.5}, "stop_tokens": (5,), "mirostat": 2}
    values |= {"stop_sequences": ("a", "b"), "dry_sequence_breakers": ("a",), "timeout_ms": 5, "stream_delay_ms": 5}
    default = getattr(StreamConfig(), name)
    value = values.get(name, not default if isinstance(default, bool) else 1 if default != 1 else 0.5)
    job = ordered(monkeypatch, "run", "demo", "A", "--set", f"{name}={json.dumps(value)}")
    assert getattr(job.config, name) == value


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["-h"], ["run", "--help"], ["run", "-h"], ["bench", "-h"], ["doctor", "-h"]]
)
def test_help_goes_to_stdout(arguments: list[str]) -> None:
    done = mullama(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Usage: mullama")
    assert b"\nExamples:\n  mullama " in done.stdout


def test_help_is_grouped_and_its_metavars_are_natural() -> None:
    shown = mullama("run", "--help").stdout.decode()
    titles = ["Examples", "Arguments", "Generation", "Chat", "Engine", "Output", "Other options"]
    assert [line.removesuffix(":") for line in shown.splitlines() if line.endswith(":") and line[0] != " "] == titles
    assert "-n, --max-tokens N" in shown
    assert "Usage: mullama run MODEL [PROMPT...] [OPTIONS]" in shown
    assert not re.search(r"<\w+>|\bTEXT\]|INTEGER|FLOAT|\{", shown)
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [
        ("mullama d", 1, "doctor"),
        ("mullama run demo --max", 3, "--max-tokens"),
        ("mullama run de", 2, "demo"),
        ("mullama run demo --set dry_m", 4, "dry_multiplier="),
    ],
)
def test_the_shell_completes_commands_options_models_and_settings(words: str, position: int, expected: str) -> None:
    asked = {"_MULLAMA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(COMMAND, capture_output=True, timeout=30, check=False, env={**os.environ, **asked})
    assert done.stderr == b""
    assert expected in done.stdout.decode().split()


def test_models_are_completed_by_path(tmp_path: Path) -> None:
    (tmp_path / "llama[1].gguf").touch()
    (tmp_path / "llama.txt").touch()
    (tmp_path / "llamas").mkdir()
    assert complete_model(f"{tmp_path}/ll") == [f"{tmp_path}/llama[1].gguf", f"{tmp_path}/llamas/"]
    assert complete_model(f"{tmp_path}/none/x") == []


def test_a_shell_can_be_given_its_completion() -> None:
    environment = {**os.environ, "SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [*COMMAND, "--show-completion", "bash"], capture_output=True, timeout=30, check=False, env=environment
    )
    assert (done.returncode, b"_MULLAMA_COMPLETE" in done.stdout) == (0, True)
