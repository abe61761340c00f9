"""The servers of the guide, with real clients: one that reads to the end, one that stalls, and some that leave."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from guide import DOCS, ROOT, SERVERS, Program
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from mullama import AsyncModel, Context, ContextParams, Model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

AN_HOUR = 3_600_000


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's program has defined when its servers are there."""
    program = Program(SERVERS)
    program.written_by("sse_response")
    program.written_by("serve(answer")
    return program.names


@pytest.fixture
def server(names: dict[str, Any], eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[str]:
    """The guide's application under uvicorn; its address."""
    served = uvicorn.Server(uvicorn.Config(names["app"], host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        assert eventually(lambda: served.started)
        port = served.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        served.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@contextmanager
def flowing(server: str, names: dict[str, Any], endless: Context) -> Iterator[Iterator[str]]:
    """The lines of an answer that goes on for longer than any test waits."""
    opened = partial(endless.generate_stream, ignore_eos=True)
    names["app"].state.model = SimpleNamespace(generate_stream=opened, stats=endless.stats)
    asked: dict[str, str | int] = {"prompt": "Once upon a time", "max_tokens": 60_000}
    with httpx.stream("GET", f"{server}/stream", params=asked, timeout=60) as answer:
        yield answer.iter_lines()


def events(body: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a body, each with its name and what its JSON says."""
    told = []
    for event in body.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith(":"))
        if fields:
            told.append((fields.get("event", "message"), json.loads(fields["data"])))
    return told


def test_every_event_is_json_as_the_guide_tells_and_the_last_one_is_done(server: str) -> None:
    answer = httpx.get(f"{server}/stream", params={"prompt": "Write a poem:", "max_tokens": 20}, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *tokens, (last, end) = events(answer.text)
    [keys] = re.findall(r'`\{("text": …, "index": …)\}` for a token', SERVERS.read_text(encoding="utf-8"))
    assert {name for name, _ in tokens} == {"message"}
    assert {tuple(token) for _, token in tokens} == {tuple(re.findall('"([a-z]+)"', keys))}
    assert [token["index"] for _, token in tokens] == list(range(20))
    assert (last, end["finish_reason"], end["usage"]["completion_tokens"]) == ("done", "length", 20)


def test_a_client_that_leaves_halfway_frees_its_place(
    server: str, names: dict[str, Any], endless: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with flowing(server, names, endless) as lines:
        assert sum(next(lines).startswith("data: ") for _ in range(10)) == 5
        assert endless.unfinished == 1
    assert eventually(lambda: endless.unfinished == 0)


def test_the_loop_beats_on_while_a_stream_flows(server: str, names: dict[str, Any], endless: Context) -> None:
    with flowing(server, names, endless) as lines:
        next(lines)
        # Each answer is a beat of the loop that the stream flows through.
        beats = [httpx.get(f"{server}/stats", timeout=10).json() for _ in range(20)]
    assert all(beat["running"] + beat["paused"] == 1 for beat in beats)


def test_an_overload_is_a_429_with_retry_after(server: str, names: dict[str, Any], model: Model) -> None:
    params = ContextParams(n_parallel=1, max_queue=0, max_paused=1)
    with (
        Context(model, params) as names["app"].state.model,
        names["app"].state.model.generate_stream("A", buffer_size=1),
    ):
        answer = httpx.get(f"{server}/stream", params={"prompt": "Write a poem:"}, timeout=60)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["code"] == "OVERLOADED"


def test_the_service_of_the_deployment_page_streams_and_tells_its_health(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Program(DOCS / "deployment.md")
    program.written_by("def lifespan")
    app = program.names["app"]

    async def ask() -> tuple[str, dict[str, int]]:
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            answer = await client.get("/stream", params={"prompt": "Write a poem:"}, timeout=60)
            return answer.text, (await client.get("/health", timeout=60)).json()

    (tmp_path / "model.gguf").symlink_to(ROOT / "python" / "mullama" / "models" / "demo.gguf")
    monkeypatch.chdir(tmp_path)
    body, health = asyncio.run(asyncio.wait_for(ask(), 60))
    assert events(body)[-1][0] == "done"
    assert health == {"queued": 0, "running": 0, "paused": 0}


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop go on until something holds."""
    while not holds():  # noqa: ASYNC110  # nothing tells when an engine's numbers change
        await asyncio.sleep(0.001)


def with_server(names: dict[str, Any], client: Callable[[str], Awaitable[None]]) -> None:
    """Runs a client against the guide's WebSocket server, for half a minute at most."""

    async def both() -> None:
        async with serve(names["answer"], "127.0.0.1", 0) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            await client(f"ws://127.0.0.1:{port}")

    run: Coroutine[Any, Any, None] = asyncio.wait_for(both(), 30)
    asyncio.run(run)


@pytest.fixture
def shared(names: dict[str, Any], model: Model, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., AsyncModel]]:
    """Has the server's streams begin with more settings than the guide's."""

    def begin(**options: Any) -> AsyncModel:  # noqa: ANN401  # settings of any type
        opened = partial(other.generate_stream, ignore_eos=True, **options)
        monkeypatch.setitem(names, "shared", SimpleNamespace(generate_stream=opened))
        return other

    with AsyncModel(model, ContextParams(n_parallel=2)) as other:
        yield begin


def test_a_client_without_credit_parks_its_stream_and_frees_it_when_it_leaves(
    names: dict[str, Any], shared: Callable[..., AsyncModel]
) -> None:
    model = shared()

    async def client(address: str) -> None:
        async with connect(address) as socket:
            await socket.send("Write a story:")
            await socket.send("3")
            frames = [json.loads(await socket.recv()) for _ in range(3)]
            assert {frame["type"] for frame in frames} == {"token"}
            await until(lambda: model.stats().paused == 1)
            assert model.stats().tokens_generated <= 3 + 64
            await socket.send("1")
            assert json.loads(await socket.recv())["type"] == "token"
            assert model.context.unfinished == 1
        await until(lambda: model.context.unfinished == 0)

    with_server(names, client)


def test_a_client_that_leaves_before_its_next_token_frees_its_place(
    names: dict[str, Any], shared: Callable[..., AsyncModel]
) -> None:
    model = shared(stream_delay_ms=AN_HOUR)

    async def client(address: str) -> None:
        async with connect(address) as socket:
            await socket.send("Write a story:")
            await socket.send("2")
            assert json.loads(await socket.recv())["type"] == "token"
            assert model.context.unfinished == 1
        await until(lambda: model.context.unfinished == 0)

    with_server(names, client)


def test_what_is_wrong_with_a_prompt_is_a_frame_with_its_code(
    names: dict[str, Any], shared: Callable[..., AsyncModel]
) -> None:
    shared()

    async def client(address: str) -> None:
        async with connect(address) as socket:
            await socket.send("")
            await socket.send("1")
            frame = json.loads(await socket.recv())
            assert (frame["type"], frame["code"]) == ("error", "INVALID_PROMPT")

    with_server(names, client)
