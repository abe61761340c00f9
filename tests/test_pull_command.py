"""The commands for models by name, in a pipe and on a terminal, against a server on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from command import COMMAND, STEADY, mullama
from hub import DEMO, LARGE
from terminal import CTRL_C, ESCAPE, Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from hub import HubServer

pytestmark = pytest.mark.slow

TRICKLE = {"trickle": {"bytes": 1_048_576, "ms": 30}}
SLOW = {"trickle": {"bytes": 65_536, "ms": 50}}
"""A fault that makes a large model take some minutes."""


def told(done: subprocess.CompletedProcess[bytes]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_pull_in_a_pipe_writes_lines_to_stderr(hub: HubServer) -> None:
    hub.fault("/cdn/*", {"trickle": {"bytes": 65_536, "ms": 6}})
    code, out, err = told(mullama("pull", "large", limit=60))
    assert (code, out) == (0, "")
    lines = err.splitlines()
    assert lines[0].startswith("mullama: downloading large")
    assert re.fullmatch(r"mullama: large:latest is ready \(33.6 MB\): /.*/sha256-[0-9a-f]{64}", lines[-1])
    assert "\x1b" not in err
    code, out, err = told(mullama("pull", "large"))
    assert (code, out, len(err.splitlines())) == (0, "", 1)


def test_pull_as_json_writes_events_that_only_move_forward(hub: HubServer) -> None:
    hub.fault("/cdn/*", TRICKLE)
    code, out, err = told(mullama("pull", "large", "--json", limit=60))
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [each["type"] for each in events[:-1]] == ["progress"] * (len(events) - 1)
    bytes_done = [each["done"] for each in events[:-1]]
    assert bytes_done == sorted(bytes_done)
    assert bytes_done[-1] == events[-2]["total"] >= LARGE
    assert events[-1].keys() == {"type", "name", "path", "location", "size", "alias", "defaults"}
    assert events[-1]["size"] == LARGE
    assert (events[-1]["type"], events[-1]["name"]) == ("done", "large:latest")


def test_pull_on_a_terminal_draws_a_bar_with_bytes_and_rate(hub: HubServer) -> None:
    hub.fault("/cdn/*", TRICKLE)
    with Terminal("large", command="pull", columns=120) as terminal:
        terminal.until("large:latest is ready")
        assert terminal.end()[0] == 0
        shown = ESCAPE.sub("", terminal.raw)
        assert re.search(r"downloading large [━╸╺]+ [0-9.]+/33\.6 MB [0-9.]+ MB/s", shown)
        # One bar, however often it moved.
        assert len([line for line in terminal.screen() if "33.6/33.6 MB" in line]) == 1


def test_ctrl_c_on_a_terminal_ends_the_pull_and_says_how_it_goes_on(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("/cdn/*", SLOW)
    with Terminal("large", command="pull", columns=120) as terminal:
        terminal.until("MB/s")
        pressed = time.monotonic()
        terminal.press(CTRL_C)
        terminal.until("mullama: interrupted; the same command continues the download")
        code, _ = terminal.end()
        assert (code, time.monotonic() - pressed < 2) == (130, True)
    assert list(tmp_path.rglob("*.part"))
    hub.reset()
    assert mullama("pull", "large").returncode == 0


def test_run_pulls_what_is_missing_and_says_what_the_model_does(hub: HubServer) -> None:
    code, out, err = told(mullama("run", "llama3.2:1b", "Hello!", "-n", "5", "-t", "1"))
    assert code == 0, err
    assert out.strip()
    hub.reset()
    assert mullama("run", "llama3.2:1b", "Hello!", "-n", "5", "-t", "1").returncode == 0
    assert hub.requests() == []


def test_run_on_a_terminal_draws_the_bar_before_the_answer(hub: HubServer) -> None:
    hub.fault("/cdn/*", TRICKLE)
    with Terminal("large", "Hello!", "-n", "3", columns=120) as terminal:
        assert terminal.end()[0] == 0
        assert "/33.6 MB" in terminal.raw


@pytest.mark.parametrize("command", [("run", "tiny", "Hello!"), ("bench", "tiny")])
def test_without_pull_a_missing_model_is_an_error(hub: HubServer, command: tuple[str, ...]) -> None:
    code, out, err = told(mullama(*command, "--no-pull"))
    assert (code, out) == (3, "")
    assert err.startswith("mullama: no model named tiny:latest: ")
    assert hub.requests() == []


def test_doctor_asks_nobody(hub: HubServer) -> None:
    assert told(mullama("doctor", "tiny", "--json"))[0] == 3
    assert hub.requests() == []
    mullama("pull", "tiny")
    code, out, _ = told(mullama("doctor", "tiny", "--json"))
    assert (code, json.loads(out)["model"]["architecture"]) == (0, "llama")


def test_failures_have_the_exit_codes_of_the_table(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = told(mullama("pull", "no-such-model"))
    assert code == 3
    assert "no model named no-such-model" in err
    hub.fault("/v2/library/tiny/manifests/latest", {"status": {"code": 418, "body": "teapot"}})
    code, _, err = told(mullama("pull", "tiny"))
    assert code == 6
    assert "the server answered 418" in err
    code, out, _ = told(mullama("pull", "tiny", "--json"))
    assert (code, json.loads(out.splitlines()[-1])["code"]) == (6, "DOWNLOAD_ERROR")
    monkeypatch.setenv("MULLAMA_OFFLINE", "1")
    assert told(mullama("run", "tiny", "Hello!"))[0] == 6
    assert told(mullama("pull", "../../etc/passwd"))[0] in {2, 3}


def test_recommended_settings_apply_unless_an_option_says_otherwise(hub: HubServer) -> None:
    del hub
    prompt = ["Once upon a time", "--raw", "-n", "12", "-s", "1", *STEADY[2:], "--set", "ignore_eos=true"]
    recommended = told(mullama("run", "llama3.2:1b", *prompt))
    as_recommended = told(mullama("run", "demo", *prompt, "-T", "0.6"))
    plain = told(mullama("run", "demo", *prompt))
    overridden = told(mullama("run", "llama3.2:1b", *prompt, "-T", "1.0"))
    assert recommended[1] == as_recommended[1] != plain[1] == overridden[1]


def test_list_shows_the_models_and_json_the_same_as_values(hub: HubServer) -> None:
    del hub
    code, out, err = told(mullama("list"))
    assert (code, out) == (0, "")
    assert "no models on this machine" in err
    for name in ("tiny", "hf.co/mullama/demo-GGUF:Q8_0"):
        assert mullama("pull", name).returncode == 0
    code, out, err = told(mullama("list"))
    assert (code, err) == (0, "")
    head, *rows = out.splitlines()
    assert head.split() == ["NAME", "SIZE", "QUANTIZATION", "PARAMETERS", "CONTEXT", "LOCATION", "LAST", "USED"]
    assert {row.split()[0] for row in rows} == {"tiny:latest", "hf.co/mullama/demo-GGUF:Q8_0"}
    code, out, _ = told(mullama("list", "--json"))
    models = {each["name"]: each for each in json.loads(out)["models"]}
    assert models["tiny:latest"]["quantization"] == "Q8_0"
    assert models["tiny:latest"]["location"] == "mullama"
    assert models["hf.co/mullama/demo-GGUF:Q8_0"]["location"] == "hugging_face"


def test_show_tells_what_the_file_and_the_publisher_say(hub: HubServer) -> None:
    del hub
    mullama("pull", "llama3.2:1b")
    code, out, err = told(mullama("show", "llama3.2:1b", "--ctx-size", "512"))
    assert (code, err) == (0, "")
    facts: dict[str, list[str]] = {}
    for line in out.splitlines():
        facts.setdefault(line[:18].strip(), []).append(line[18:])
    assert facts["name"] == ["llama3.2:1b"]
    assert facts["quantization"] == ["Q8_0"]
    assert facts["licence"] == ["Apache-2.0"]
    assert facts["system message"] == ["You answer in verse."]
    assert "for a context of 512 tokens" in facts["memory"][0]
    assert "temperature 0.6" in facts["recommended"]
    shown: dict[str, Any] = json.loads(told(mullama("show", "llama3.2:1b", "--json"))[1])
    assert shown["defaults"]["settings"]["temperature"] == 0.6
    assert shown["metadata"]["general.architecture"] == "llama"
    assert "<|im_start|>" in told(mullama("show", "demo", "--template"))[1]


def test_cp_gives_a_second_name_and_rm_takes_names_away(hub: HubServer) -> None:
    mullama("pull", "tiny")
    assert mullama("cp", "tiny", "small").returncode == 0
    hub.reset()
    assert mullama("run", "small", "Hello!", "-n", "3").returncode == 0
    assert hub.requests() == []
    code, out, _ = told(mullama("rm", "small", "tiny", "--json"))
    events = [json.loads(line) for line in out.splitlines()]
    assert (code, [each["name"] for each in events]) == (0, ["small:latest", "tiny:latest"])
    assert events[0]["size"] == 0 < events[1]["size"]
    assert told(mullama("run", "small", "Hello!", "--no-pull"))[0] == 3
    assert told(mullama("rm", "tiny"))[0] == 3


def test_a_list_of_200_models_takes_at_most_50_ms_beyond_start_up(hub: HubServer, tmp_path: Path) -> None:
    del hub
    for number in range(200):
        folder = tmp_path / ".lmstudio" / "models" / "somebody" / f"model-{number}-GGUF"
        folder.mkdir(parents=True)
        (folder / f"model-{number}-Q8_0.gguf").symlink_to(DEMO)
    assert len(told(mullama("list"))[1].splitlines()) == 201

    # What the command does once it has started; the least of several tries, for the machine may do other things.
    program = """
import sys, time
from mullama import _cli
began = time.perf_counter()
from mullama._model_tables import write_list
write_list(json=False)
print(time.perf_counter() - began, file=sys.stderr)
"""
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True) for _ in range(5)]
    assert min(float(run.stderr) for run in runs) < 0.05


def test_completion_knows_the_names_of_local_models(hub: HubServer) -> None:
    del hub
    mullama("pull", "someone/tiny")
    environment = {**os.environ, "_MULLAMA_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "mullama run some"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert "someone/tiny" in done.stdout


def test_a_closed_pipe_ends_a_pull_with_json_silently(hub: HubServer) -> None:
    hub.fault("/cdn/*", TRICKLE)
    command = ["/bin/bash", "-c", f"{COMMAND[0]} pull large --json | head -n 1"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_sigterm_ends_a_pull_and_leaves_what_has_arrived(hub: HubServer, tmp_path: Path) -> None:
    hub.fault("/cdn/*", SLOW)
    with subprocess.Popen([*COMMAND, "pull", "large"], stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline().startswith("mullama: downloading")
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=20)
    assert list(tmp_path.rglob("*.part"))
