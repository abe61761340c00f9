"""`mullama serve`, `mullama.serve` and `mullama launch`: their beginning, their orderly end, and mistakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from command import COMMAND
from http_server import LIMIT, Serving, serving

import mullama
from mullama import InvalidConfigError, ServerOptions, _launch, _model, _serve, _serve_command, _server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from hub import HubServer

pytestmark = pytest.mark.slow

ENDLESS: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
ENDLESS |= {"ignore_eos": True, "max_tokens": 100_000}

SERVE_EXAMPLES = [line.strip() for line in _serve_command.SERVE_EXAMPLES.splitlines() if line.strip()]
LAUNCH_EXAMPLES = [line.partition("#")[0].strip() for line in _serve_command.LAUNCH_EXAMPLES.splitlines() if line]


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving() as running:
        yield running


@contextlib.contextmanager
def endless(server: Serving) -> Iterator[Iterator[str]]:
    """The lines of an answer that goes on, of which the first have come."""
    url = f"{server.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=ENDLESS, timeout=LIMIT) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        yield lines


def command(*words: str, **environment: str) -> CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("example", SERVE_EXAMPLES)
def test_an_example_of_the_help_serves(example: str, hub: HubServer, tmp_path: Path) -> None:
    del hub
    (tmp_path / "model.gguf").symlink_to(_model.DEMO)
    words = example.replace("unix:/run", f"unix:{tmp_path}").replace('"$KEY"', "secret").split()[2:]
    with serving(*(word.replace("=model.gguf", f"={tmp_path}/model.gguf") for word in words)) as running:
        address = running.url
        client = httpx.Client(timeout=LIMIT)
        if address.startswith("unix:"):
            client = httpx.Client(transport=httpx.HTTPTransport(uds=address.removeprefix("unix:")), timeout=LIMIT)
            address = "http://localhost"
        with client:
            answer = client.get(re.sub(r"(http://)[\d.]+", r"\g<1>127.0.0.1", address) + "/health")
            assert answer.json() == {"status": "ok"}
        assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_running_answer_end(number: int) -> None:
    with serving() as running:
        body = {**ENDLESS, "max_tokens": 300}
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, timeout=LIMIT) as answer:
            lines = answer.iter_lines()
            next(lines)
            running.process.send_signal(number)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert running.process.wait(LIMIT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_closes_everything_at_once(number: int) -> None:
    with serving("--drain-timeout", "3000") as running, endless(running) as lines:
        running.process.send_signal(number)
        while not any("another signal" in line for line in running.lines):
            next(lines)
        running.process.send_signal(number)
        assert running.process.wait(LIMIT) == 0


def test_answers_that_outlast_the_drain_timeout_are_cut_off() -> None:
    with serving("--drain-timeout", "0.2") as running, endless(running) as lines:
        running.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(httpx.HTTPError):
            for _ in lines:
                pass
        assert running.process.wait(LIMIT) == 0


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ([], "--model is missing", 2),
        (["-m", "demo", "--listen", "nowhere"], "--listen is nowhere, but must be unix:PATH, HOST:PORT or systemd", 2),
        (["-m", "demo", "-m", "demo"], "write NAME=MODEL", 2),
        (["-m", "demo", "--port", "70000"], "port is 70000, but must be 0 to 65535", 2),
        (["-m", "demo", "--max-connections", "0"], "max_connections is 0, but must be 1 to 65536", 2),
        (["-m", "demo", "--timeout", "nan"], "request_timeout is nan", 2),
        (["-m", "demo", "--tls-cert", "missing.pem", "--tls-key", "missing.key"], "missing.pem", 1),
        (["-m", "demo", "--tls-cert", "server.pem"], "tls_key is None, but must be given", 2),
        (["-m", "demo", "--listen", "systemd"], "LISTEN_FDS", 1),
    ],
)
def test_what_cannot_be_served_is_named(words: list[str], message: str, code: int) -> None:
    done = command("serve", *words)
    assert (message in done.stderr, done.returncode) == (True, code), done.stderr


def test_an_address_in_use_is_an_error(server: Serving) -> None:
    done = command("serve", "-m", "demo", "--port", server.url.rpartition(":")[2])
    assert (done.returncode, "in use" in done.stderr) == (1, True), done.stderr


def test_the_keywords_of_serve_are_its_options() -> None:
    assert list(_server.ServerKeywords.__annotations__) == list(ServerOptions.__dataclass_fields__)


def test_names_are_those_that_clients_ask_for() -> None:
    assert _server.model_sources("a/b.gguf") == [("b", "a/b.gguf")]
    assert _server.model_sources(["demo", "hf.co/user/repo:Q4_K_M"]) == [
        ("demo", "demo"),
        ("hf.co/user/repo:Q4_K_M", "hf.co/user/repo:Q4_K_M"),
    ]
    assert _server.model_sources({"small": "demo"}) == [("small", "demo")]
    assert _serve.named(["small=demo", "https://host/a.gguf?x=1"]) == {
        "small": "demo",
        "https://host/a.gguf?x=1": "https://host/a.gguf?x=1",
    }


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"port": -1}, InvalidConfigError),
        ({"port": "80"}, TypeError),
        ({"api_keys": "key"}, TypeError),
        ({"api_keys": [1]}, TypeError),
        ({"drain_timeout": float("nan")}, InvalidConfigError),
        ({"websocket": 1}, TypeError),
        ({"context_params": 1}, TypeError),
        ({"prot": 1}, TypeError),
        ({"host": "256.1.1.1"}, OSError),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        asyncio.run(mullama.serve("demo", **options))


def test_a_cancelled_server_ends_in_order_and_leaves_its_loop_free() -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        running = asyncio.create_task(mullama.serve("demo", port=port))
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=10), timeout=LIMIT) as client:
            url = f"http://127.0.0.1:{port}"
            answer = await client.post(f"{url}/v1/chat/completions", json={**ENDLESS, "stream": False, "max_tokens": 3})
            assert answer.json()["usage"]["completion_tokens"] == 3
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(running, LIMIT)
            with pytest.raises(httpx.HTTPError):
                await httpx.AsyncClient().get(f"{url}/health")

    asyncio.run(main())


@pytest.mark.parametrize("client", sorted(_launch.CLIENTS))
def test_a_client_is_pointed_at_the_server(client: str, server: Serving) -> None:
    done = command("launch", client, "--print", "--url", server.url, SHELL="/bin/sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("export ")] == []
    assert any(server.url in line for line in lines)
    fish = command("launch", client, "--print", "--url", server.url, SHELL="/usr/bin/fish")
    assert fish.stdout.startswith("set -gx ")


def test_a_program_runs_in_the_environment_of_its_client(server: Serving) -> None:
    sh = shutil.which("sh") or "sh"
    done = command("launch", "openai", "--url", server.url, sh, "-c", 'echo "$OPENAI_BASE_URL"; exit 3')
    assert (done.stdout, done.returncode) == (f"{server.url}/v1\n", 3)
    as_json = command("launch", "openai", "--url", server.url, "--json")
    assert json.loads(as_json.stdout)["OPENAI_BASE_URL"] == f"{server.url}/v1"


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["nobody"], "must be one of openai", 2),
        (["openai", "--url", "http://127.0.0.1:1"], "no server answers at http://127.0.0.1:1", 1),
        (["openai", "--url", "ftp://host"], "must begin with http:// or https://", 1),
        (["openai", "--model", "other"], "has no model named other; it has demo", 1),
    ],
)
def test_what_cannot_be_launched_is_named(words: list[str], message: str, code: int, server: Serving) -> None:
    done = command("launch", *words, **({} if "--url" in words else {"MULLAMA_URL": server.url}))
    assert (message in done.stderr, done.returncode) == (True, code), done.stderr


@pytest.mark.parametrize("example", LAUNCH_EXAMPLES)
def test_the_examples_of_launch_name_a_client(example: str) -> None:
    words = example.replace('eval "$(', "").split()
    assert words[:2] == ["mullama", "launch"]
    assert words[2].rstrip(')"') in _launch.CLIENTS


def test_each_request_has_a_line_in_the_log_without_its_prompt(
    eventually: Callable[[Callable[[], bool]], bool],
) -> None:
    with serving("--log-format", "json") as running:
        body = {**ENDLESS, "messages": [{"role": "user", "content": "Secret words"}], "stream": False, "max_tokens": 1}
        httpx.post(f"{running.url}/v1/chat/completions?key=secret", json=body, timeout=LIMIT)
        assert eventually(lambda: any("/v1/chat/completions" in line for line in running.lines))
        [line] = [json.loads(line) for line in running.lines if "/v1/chat/completions" in line]
        assert line["level"] == "info"
        assert "ecret" not in str(running.lines)
