"""`mullama serve --log-format json`: each line that it writes to stderr is a JSON object, and facts are keys."""

from __future__ import annotations

import json
import logging
import subprocess
import warnings
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from command import COMMAND
from http_server import LIMIT, serving
from patience import eventually

from mullama import InvalidConfigError, _serve
from mullama._failure import ReportedError

if TYPE_CHECKING:
    from http_server import Serving

BODY = {"prompt": "Secret words", "max_tokens": 2, "ignore_eos": True}


def lines(running: Serving) -> list[dict[str, Any]]:
    """What the server has written to stderr so far."""
    return [json.loads(line) for line in list(running.lines)]


def formatted(name: str, message: str) -> dict[str, Any]:
    """A line of the log as the formatter writes it."""
    record = logging.makeLogRecord({"name": name, "levelname": "INFO", "msg": "%s", "args": (message,)})
    found: dict[str, Any] = json.loads(_serve._JsonLines().format(record))
    assert found.pop("time") == record.created
    return found


def test_all_lines_from_start_to_end_are_json() -> None:
    with serving("--log-format", "json") as running:
        assert httpx.post(f"{running.url}/v1/completions?key=secret", json=BODY, timeout=LIMIT).status_code == 200
        assert eventually(lambda: any(line.get("path") == "/v1/completions" for line in lines(running)))
        assert running.stop() == 0
        assert eventually(lambda: any("another signal" in line["message"] for line in lines(running)))
        first, last = lines(running)[0], lines(running)[-1]
    assert (first["message"], first["url"]) == (f"serving demo at {running.url}", running.url)
    assert (first["level"], first["logger"], first["models"]) == ("info", "mullama.command", ["demo"])
    assert last["message"].startswith("stopping when running requests have ended")
    assert "ecret" not in str(running.lines)


def test_the_facts_about_a_request_are_keys() -> None:
    with serving("--log-format", "json") as running:
        httpx.post(f"{running.url}/v1/completions", json=BODY, timeout=LIMIT)
        assert eventually(lambda: any("path" in line for line in lines(running)))
        [line] = [line for line in lines(running) if "path" in line]
    assert (line["method"], line["path"], line["message"]) == ("POST", "/v1/completions", "POST /v1/completions")
    assert (line["status"], line["tokens"], line["has_ended"]) == (200, 2, True)
    assert line["duration_ms"] > 0
    assert line["duration_ms"] == round(line["duration_ms"], 3)


def test_a_fact_has_the_type_that_it_is_of() -> None:
    facts = "status=404 duration_ms=0.058 tokens=0 has_ended=false error=MODEL_NOT_FOUND request_id=123"
    line = formatted("mullama.access", f"GET /a%20status=1 {facts}")
    assert line["message"] == "GET /a%20status=1"
    assert (line["status"], line["duration_ms"], line["tokens"], line["has_ended"]) == (404, 0.058, 0, False)
    assert (line["path"], line["error"], line["request_id"]) == ("/a%20status=1", "MODEL_NOT_FOUND", "123")


def test_the_path_of_a_request_may_be_empty() -> None:
    line = formatted("mullama.access", "CONNECT  status=404 has_ended=true error=NOT_FOUND")
    assert (line["message"], line["path"], line["status"]) == ("CONNECT", "", 404)


@pytest.mark.parametrize("name", ["mullama", "mullama.llama", "mullama.server.models"])
def test_a_line_that_looks_like_one_of_a_request_is_a_message(name: str) -> None:
    message = "GET /x status=200 tokens=1"
    assert formatted(name, message) == {"level": "info", "logger": name, "message": message}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "USAGE"),
        (["demo", "--parallel", "0"], "INVALID_CONFIG"),
        (["demo", "--host", "::"], "INVALID_CONFIG"),
        (["demo", "--listen", "unix:/nowhere/x.sock"], "SYSTEM"),
    ],
)
def test_why_the_server_does_not_start_is_one_line_of_json(words: list[str], code: str) -> None:
    command = [*COMMAND, "serve", "--log-format", "json", "--log-level", "error", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    [line] = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["level"], line["code"]) == ("error", code)
    assert done.returncode == (1 if code == "SYSTEM" else 2)


def test_a_warning_is_a_line_of_json_until_the_command_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = warnings.showwarning
        with _serve.told_as(as_json=True):
            warnings.warn("a plug-in is too old", stacklevel=1)
        assert warnings.showwarning is before
        with pytest.raises(ReportedError), _serve.told_as(as_json=True):
            raise MemoryError
        assert warnings.showwarning is before
    line, failure = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], line["message"]) == ("warning", "a plug-in is too old")
    assert (failure["level"], failure["code"]) == ("error", "SYSTEM")


def test_failures_are_left_to_the_command_if_the_log_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidConfigError), _serve.told_as(as_json=False):
        _serve.named([""])
    with pytest.raises(ReportedError), _serve.told_as(as_json=True):
        _serve.named([""])
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_id_of_a_stream_is_not_logged() -> None:
    with serving("--log-format", "json") as running:
        # The id is what lets a client read the stream.
        httpx.get(f"{running.url}/v1/streams/stream_Secret", timeout=LIMIT)
        assert eventually(lambda: any(line.get("path") == "/v1/streams/{id}" for line in lines(running)))
        assert "ecret" not in str(running.lines)
