"""`mullama serve`, `mullama.serve` and `mullama launch`: their beginning, their orderly end, and mistakes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from command import COMMAND
from http_server import LIMIT, Serving, serving
from patience import eventually
from raw_http import Address, chat_request, dechunked, streamed

import mullama
from mullama import InvalidConfigError, ServerOptions, _launch, _model, _serve, _serve_command, _server

if TYPE_CHECKING:
    from collections.abc import Iterator
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
def unread(server: Serving, max_tokens: int) -> Iterator[socket.socket]:
    """A client that has received the first bytes of an answer, and does not read the rest: the answer waits for it."""
    request = chat_request(max_tokens=max_tokens, ignore_eos=True, stream=True, buffer_size=4)
    address = Address(server.url)
    with contextlib.closing(address.open(request, receive_buffer=4096)) as peer:
        assert peer.recv(1) == b"H"
        assert eventually(lambda: address.load()["paused"] == 1, LIMIT)
        yield peer


def rest_of(peer: socket.socket) -> bytes:
    """What comes until the connection ends, in order or not."""
    rest = b"H"
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(65_536):
            rest += data
    return rest


def is_stopping(server: Serving) -> bool:
    """Whether the server says that it stops."""
    return any("another signal" in line for line in server.lines)


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
    with serving() as running, unread(running, 300) as peer:
        running.process.send_signal(number)
        assert eventually(lambda: is_stopping(running), LIMIT)
        head, _, body = rest_of(peer).partition(b"\r\n\r\n")
        assert b'"predicted_n":300' in dechunked(body), "the answer was cut short"
        assert streamed(int(head.split()[1]), dechunked(body))
        assert running.process.wait(LIMIT) == 0


@pytest.mark.parametrize("number", ["INT", "TERM"])
def test_a_background_job_of_a_script_drains_at_a_signal(number: str) -> None:
    # Such a shell has its background jobs ignore SIGINT.
    serve = shlex.join([sys.executable, "-m", "mullama", "serve", "demo", "--port", "0"])
    script = f"{serve} 2>&1 & read -r _; kill -{number} $!; wait $!"
    sh = shutil.which("sh") or "sh"
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sh, "-c", script], start_new_session=True, **pipes) as shell:
        try:
            assert shell.stdout is not None
            assert "serving demo at" in shell.stdout.readline()
            rest, _ = shell.communicate("\n", timeout=LIMIT)
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(shell.pid, signal.SIGKILL)
    assert "another signal stops at once" in rest
    assert shell.returncode == 0


@pytest.mark.parametrize("words", [["demo", "small=demo"], ["demo", "-m", "small=demo"], ["-m", "small=demo", "demo"]])
def test_models_are_arguments_or_options(words: list[str]) -> None:
    with serving(*words) as running:
        found = httpx.get(f"{running.url}/v1/models", timeout=LIMIT).json()["data"]
    assert [each["id"] for each in found] == ["demo", "small"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_closes_everything_at_once(number: int) -> None:
    with serving("--drain-timeout", "3000") as running, unread(running, 300) as peer:
        running.process.send_signal(number)
        assert eventually(lambda: is_stopping(running), LIMIT)
        running.process.send_signal(number)
        assert running.process.wait(LIMIT) == 0
        assert b"[DONE]" not in rest_of(peer)


def test_signals_after_the_second_do_nothing() -> None:
    with serving("--drain-timeout", "3000") as running, unread(running, 300):
        running.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: is_stopping(running), LIMIT)
        for number in [signal.SIGINT, signal.SIGTERM] * 5:
            running.process.send_signal(number)
        assert running.process.wait(LIMIT) in {0, -signal.SIGINT, -signal.SIGTERM}  # which end a process that is done


def test_answers_that_outlast_the_drain_timeout_are_cut_off() -> None:
    with serving("--drain-timeout", "0.2") as running, unread(running, 300) as peer:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(LIMIT) == 0
        assert b'"finish_reason":"length"' not in rest_of(peer)


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        ([], "MODEL is missing: say what to serve, such as mullama serve demo", 2),
        (["-m", "demo", "--listen", "nowhere"], "--listen is nowhere, but must be unix:PATH, HOST:PORT or systemd", 2),
        (["-m", "demo", "--listen", "[::1]:65536"], "--listen is '[::1]:65536', but must be", 2),
        (["-m", "demo", "--listen", "127.0.0.1:80", "--port", "81"], "--port is 81, but must be left out", 2),
        (["-m", "demo", "--listen", "127.0.0.1:80", "--host", "::1"], "--host is '::1', but must be left out", 2),
        (["-m", "demo", "--listen", "systemd", "--port", "8080"], "because --listen is systemd", 2),
        (["-m", "demo", "--listen", "unix:x.sock", "--host", "127.0.0.1"], "because --listen is 'unix:x.sock'", 2),
        (["-m", "demo", "--drain-timeout", "-1"], "--drain-timeout is -1.0, but must be 0 to 86400", 2),
        (["-m", "demo", "--idle-unload", "0"], "--idle-unload is 0.0, but must be 0.1 to 31536000", 2),
        (["-m", "demo", "--max-loaded", "-1"], "--max-loaded is -1, but must be 0 to 1024", 2),
        (["-m", "demo", "-m", "demo"], "write NAME=MODEL", 2),
        (["demo", "-m", "demo"], "MODEL is demo, but must be named otherwise", 2),
        (["demo", ""], "MODEL is empty, but must be a model, or NAME=MODEL", 2),
        (["demo", "--host", "::"], "--api-key is missing, but must be given, because other machines", 2),
        (["demo", "--listen", "0.0.0.0:0"], "can reach 0.0.0.0; --allow-no-keys lets everybody in", 2),
        (["demo", "--listen", "[::]:0"], "can reach ::; --allow-no-keys lets everybody in", 2),
        (["-m", "demo", "--port", "70000"], "--port is 70000, but must be 0 to 65535", 2),
        (["-m", "demo", "--max-connections", "0"], "--max-connections is 0, but must be 1 to 65536", 2),
        (["-m", "demo", "--timeout", "nan"], "--timeout is nan, but must be 0.001 to 31536000", 2),
        (["-m", "demo", "--tls-cert", "missing.pem", "--tls-key", "missing.key"], "missing.pem", 1),
        (["-m", "demo", "--tls-cert", "server.pem"], "--tls-key is missing, but must be given", 2),
        (["-m", "demo", "--listen", "systemd"], "LISTEN_FDS", 1),
        (["-m", "demo", "--allow-origin", "junk"], '--allow-origin is "junk", but must be *', 2),
        (["-m", "demo", "--allow-host", "my.box:80"], '--allow-host is "my.box:80"', 2),
        (["-m", "demo", "--api-key", "two words"], "--api-key is a list whose key 1 has other characters", 2),
        (["-m", "demo", "-m", "./missing.gguf"], "missing.gguf", 3),
    ],
)
def test_what_cannot_be_served_is_named(words: list[str], message: str, code: int) -> None:
    done = command("serve", *words)
    assert (message in done.stderr, done.returncode) == (True, code), done.stderr


def test_an_address_in_use_is_an_error(server: Serving) -> None:
    address = server.url.rpartition("/")[2]
    done = command("serve", "-m", "demo", "--port", address.rpartition(":")[2])
    assert (done.returncode, "in use" in done.stderr, address in done.stderr) == (1, True, True), done.stderr


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


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (None, "models must be a str, not NoneType"),
        (b"demo", "models must be a str, not bytes"),
        ([1], r"models\[0\] must be a str, not int"),
        ({1: "demo"}, "a name in models must be a str, not int"),
        ({"a": None}, r"models\[a\] must be a str, not NoneType"),
        ([], "models is empty, but must be one model or more"),
        ({}, "models is empty, but must be one model or more"),
        ("", "models is empty, but must be a model with a name"),
        (["demo", ""], r"models\[1\] is empty"),
        (["demo", "demo"], r"models\[1\] is demo, but must be named otherwise: demo is taken"),
        (["a/x.gguf", "b/x.gguf"], r"models\[1\] is 'b/x.gguf', but must be named otherwise: x is taken"),
        ({"": "demo"}, r"models\[empty\] is demo, but must be a model with a name"),
    ],
)
def test_models_that_cannot_be_served_are_named(models: Any, message: str) -> None:  # noqa: ANN401  # of wrong types
    with pytest.raises(TypeError if "must be a str" in message else InvalidConfigError, match=message):
        asyncio.run(mullama.serve(models, port=0))


def test_a_port_may_be_given_twice_if_it_is_the_same() -> None:
    assert _serve._listen("[::1]:81", {"host": "::1", "port": 81}) == {"host": "::1", "port": 81}


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


def test_the_event_loop_is_free_while_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    is_free = threading.Event()
    start = _server.started

    def started_late(*words: Any) -> Any:  # noqa: ANN401  # as they are
        assert is_free.wait(LIMIT), "the loop waits for the server"
        return start(*words)

    async def serve_until_cancelled() -> None:
        task = asyncio.create_task(mullama.serve("demo", port=0))
        await asyncio.sleep(0)
        is_free.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(_server, "started", started_late)
    asyncio.run(serve_until_cancelled())


def test_a_server_that_is_cancelled_while_it_starts_leaves_its_port_free(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on = threading.Event(), threading.Event()
    start = _server.started

    def started_late(*words: Any) -> Any:  # noqa: ANN401  # as they are
        begun.set()
        assert may_go_on.wait(LIMIT), "the start is never let go on"
        return start(*words)

    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        loop = asyncio.get_running_loop()
        cancelled = asyncio.create_task(mullama.serve("demo", port=port))
        assert await asyncio.to_thread(begun.wait, LIMIT)
        cancelled.cancel()
        loop.call_later(0.1, may_go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(cancelled, LIMIT)
        assert may_go_on.is_set(), "the call ended before the server did"
        again = asyncio.create_task(mullama.serve("demo", port=port))
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=10), timeout=LIMIT) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).json() == {"status": "ok"}
        again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(again, LIMIT)

    monkeypatch.setattr(_server, "started", started_late)
    asyncio.run(main())


@pytest.mark.parametrize("client", sorted(_launch.CLIENTS))
def test_a_client_is_pointed_at_the_server(client: str, server: Serving) -> None:
    done = command("launch", client, "--print", "--url", server.url, SHELL="/bin/sh")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("export ")] == []
    assert any(server.url in line for line in lines)


SDKS = {
    "openai": "from openai import OpenAI; print(OpenAI().models.list().data[0].id)",
    "anthropic": "from anthropic import Anthropic; print(Anthropic().messages.create(model='demo', max_tokens=1, "
    "messages=[{'role': 'user', 'content': 'Hi'}]).model)",
    "ollama": "import ollama; print(ollama.list().models[0].model)",
    "langchain": "from langchain_openai import ChatOpenAI; "
    "print(ChatOpenAI(model='demo', max_tokens=1).invoke('Hi').response_metadata['model_name'])",
}
"""Programs that name neither a server nor a key, and print the name of its model."""


@pytest.mark.parametrize("client", sorted(SDKS))
def test_an_sdk_finds_the_server_and_its_key_in_its_environment(client: str) -> None:
    with serving("--api-key", "secret") as running:
        asked = ["--url", running.url, "--api-key", "secret", sys.executable, "-c", SDKS[client]]
        done = command("launch", client, *asked)
    assert done.stdout.strip().removesuffix(":latest") == "demo", done.stderr


HOSTILE = "a'b\\'c\\\\d\\ \"$HOME\" `id` $(id) %s \n!\u2019;\\"
"""What a shell might change or run: quotes, backslashes in front of them and at the end, and a line break."""


SHELLS = ["sh", "bash", *filter(shutil.which, ["zsh", "fish"])]
"""The shells that the command writes lines for, as far as they are installed; the first two must be."""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_sets_a_variable_to_what_its_line_says(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which(shell)
    assert program is not None, f"{shell} is not installed"
    monkeypatch.setenv("SHELL", program)
    lines = "\n".join(_launch.assignment(name, value) for name, value in {"A": HOSTILE, "B": "", "C": "plain"}.items())
    show = [sys.executable, "-c", "import os, json; print(json.dumps([os.environ[name] for name in 'ABC']))"]
    script = f'eval "$LINES_TO_RUN"\n{shlex.join(show)}'
    environment = {**os.environ, "LINES_TO_RUN": lines}
    done = subprocess.run(
        [program, "-c", script], capture_output=True, text=True, timeout=LIMIT, check=True, env=environment
    )
    assert json.loads(done.stdout) == [HOSTILE, "", "plain"]


def test_a_line_for_powershell_ends_its_text_at_no_quote_of_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/pwsh")
    assert _launch.assignment("A", "a'b\u2019c$d") == "$env:A = 'a''b\u2019\u2019c$d'"


def test_a_client_that_needs_tools_is_told_that_they_are_refused(server: Serving) -> None:
    done = command("launch", "claude", "--print", "--url", server.url)
    assert "does not support yet" in done.stderr
    assert "does not support yet" not in command("launch", "openai", "--url", server.url).stderr


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["claude"], "cannot run claude: it was not found in PATH; mullama launch claude --print shows", 127),
        (["openai", "./missing", "word"], "cannot run './missing': No such file or directory; mullama launch", 127),
        (["openai", "/"], "cannot run '/': Permission denied; mullama launch openai --print shows", 126),
    ],
)
def test_a_program_that_cannot_be_run_is_named(words: list[str], message: str, code: int, server: Serving) -> None:
    done = command("launch", *words, MULLAMA_URL=server.url, PATH="/nowhere")
    assert (message in done.stderr, done.returncode) == (True, code), done.stderr


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
        (["openai", "--url", "http://127.0.0.1:80 80"], "must be an address such as", 1),
        (["openai", "--url", "http://127.0.0.1:port"], "must be an address such as", 1),
        (["openai", "--url", "http://[::1"], "must be an address such as", 1),
        (["openai", "--url", "http://"], "must begin with http:// or https://", 1),
        (["openai", "--api-key", "a b"], "--api-key must consist of printable ASCII", 1),
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
