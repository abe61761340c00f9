"""The log of `mullama serve`: what has failed, and why, can be found in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from http_server import serving
from patience import eventually
from websockets.sync.client import connect

from mullama._model import DEMO

if TYPE_CHECKING:
    from http_server import Serving

LIMIT = 60.0
CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True}


def line_of(running: Serving, text: str) -> str:
    """The first line of the log that contains a text."""
    assert eventually(lambda: any(text in line for line in list(running.lines))), running.lines
    return next(line for line in running.lines if text in line)


def test_why_a_model_cannot_be_loaded_is_in_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(DEMO).read_bytes()[:3000])
    with serving("--model", f"broken={broken}", "--model", "demo") as running:
        answer = httpx.post(running.url + CHAT, json=BODY | {"model": "broken"}, timeout=LIMIT)
        assert "its log says why" in answer.json()["error"]["message"]
        line = line_of(running, "broken cannot be loaded")
    assert " ERROR " in line
    assert len(line.partition("broken cannot be loaded: ")[2]) > len("broken"), line


def test_a_line_of_the_log_has_the_id_and_the_error_of_its_request() -> None:
    with serving("--model", "demo", "--ctx-size", "32768") as running:
        good = httpx.post(running.url + CHAT, json=BODY | {"max_tokens": 3}, timeout=LIMIT)
        refused = httpx.post(running.url + CHAT, json=BODY | {"top_k": "many"}, timeout=LIMIT)
        # The first token comes at once, and the second one not before the timeout.
        late = BODY | {"stream": True, "stream_delay_ms": 3_600_000, "timeout_ms": 5000}
        failed = httpx.post(running.url + CHAT, json=late, timeout=LIMIT)
        lines = [line_of(running, f"request_id={answer.headers['x-request-id']}") for answer in (good, refused, failed)]
    assert "STREAM_TIMEOUT" in failed.text
    assert " INFO " in lines[0]
    assert "status=200" in lines[0]
    assert "tokens=3" in lines[0]
    assert "error=" not in lines[0]
    assert "status=400" in lines[1]
    assert "error=INVALID_REQUEST" in lines[1]
    # A stream that fails midway has begun with 200.
    assert " WARNING " in lines[2]
    assert "status=200" in lines[2]
    assert "error=STREAM_TIMEOUT" in lines[2]


def test_each_request_over_a_websocket_has_a_line() -> None:
    with serving("--websocket") as running:
        with connect(running.url.replace("http", "ws") + "/ws") as socket:
            socket.send(json.dumps({"id": 1, "prompt": "Secret words", "max_tokens": 5, "ignore_eos": True}))
            while json.loads(socket.recv(LIMIT))["type"] == "token":
                pass
            socket.send(json.dumps({"id": 2, "prompt": "Secret words", "model": "unknown"}))
            assert json.loads(socket.recv(LIMIT))["type"] == "error"
        assert "status=200" in line_of(running, "tokens=5")
        assert "WS /ws status=404" in line_of(running, "error=")
        assert "ecret" not in str(running.lines)
