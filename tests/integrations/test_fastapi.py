"""Streams over real HTTP: events arrive, the loop goes on, and whoever leaves frees the place."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, FastAPI
from httpx_sse import connect_sse
from servers import serving
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import mullama
from mullama import Completion, Context, ContextParams, Model, MullamaError
from mullama.integrations.fastapi import error_response, install_error_handlers, sse_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from starlette.requests import Request
    from starlette.types import Message

    Eventually = Callable[[Callable[[], bool]], bool]

GREEDY: dict[str, Any] = {"prompt": "Write a poem:", "temperature": 0, "max_tokens": 40}
# Waits an hour before the second token.
STUCK: dict[str, Any] = {"prompt": "A", "stream_delay_ms": 3_600_000, "timeout_ms": None}
LONG: dict[str, Any] = {"prompt": "A", "max_tokens": 60_000, "ignore_eos": True, "timeout_ms": None}


def routes(context: Context) -> list[Route]:
    """A route that streams, and one that answers at once."""

    async def stream(request: Request) -> Response:
        options = await request.json()
        keep_alive = options.pop("keep_alive", 15)
        return sse_response(context.generate_stream(**options), keep_alive_seconds=keep_alive, headers={"X-Own": "1"})

    async def heartbeat(_request: Request) -> Response:
        return JSONResponse(context.unfinished)

    return [Route("/stream", stream, methods=["POST"]), Route("/heartbeat", heartbeat)]


def application(kind: str, context: Context) -> Starlette:
    """The routes in an application of this kind."""
    app = Starlette(routes=routes(context)) if kind == "starlette" else FastAPI(routes=list(routes(context)))
    if kind == "middleware":

        async def pass_on(request: Request, call_next: Callable[[Request], Any]) -> Response:
            response: Response = await call_next(request)
            return response

        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    install_error_handlers(app)
    return app


@pytest.fixture(params=["starlette", "fastapi", "middleware"])
def client(request: pytest.FixtureRequest, context: Context) -> Iterator[httpx.Client]:
    """A client of a server that streams from the context."""
    with serving(application(request.param, context)) as client:
        yield client


def events(client: httpx.Client, **options: object) -> list[tuple[str, dict[str, Any]]]:
    """All events of a stream, as an independent reader of server-sent events finds them."""
    with connect_sse(client, "POST", "/stream", json=options) as source:
        return [(event.event, json.loads(event.data)) for event in source.iter_sse()]


async def never() -> Message:
    """Waits until it is cancelled."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


def test_each_token_is_an_event_and_the_last_tells_the_end(client: httpx.Client, context: Context) -> None:
    whole = context.generate(**GREEDY)
    *tokens, (last, told) = events(client, **GREEDY)
    assert {name for name, _ in tokens} == {"message"}
    assert "".join(data["text"] for _, data in tokens) == whole.text
    assert [data["index"] for _, data in tokens] == list(range(len(whole.tokens)))
    assert last == "done"
    assert (told["finish_reason"], told["stop_sequence"]) == (whole.finish_reason, None)
    assert told["usage"]["completion_tokens"] == whole.usage.completion_tokens
    assert told["usage"].keys() == {"prompt_tokens", "cached_tokens", "completion_tokens"}


def test_the_headers_ask_for_no_buffering(client: httpx.Client) -> None:
    with client.stream("POST", "/stream", json=GREEDY) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["x-own"] == "1"
        assert "content-length" not in response.headers


def test_a_client_that_leaves_halfway_frees_its_place(
    client: httpx.Client, context: Context, eventually: Eventually
) -> None:
    with connect_sse(client, "POST", "/stream", json=STUCK) as source:
        tokens = source.iter_sse()
        assert next(tokens).event == "message"
        assert context.unfinished == 1
    assert eventually(lambda: context.unfinished == 0)


@pytest.mark.parametrize("phase", ["queue", "prefill", "decode"])
def test_a_client_that_leaves_frees_its_place(endless: Context, eventually: Eventually, phase: str) -> None:
    with serving(application("starlette", endless)) as client:
        holder = endless.generate_stream(**LONG, buffer_size=65_536)
        next(holder)
        if phase != "queue":
            holder.close()
            assert eventually(lambda: endless.unfinished == 0)
        options = {**LONG, "prompt": [5] * 60_000} if phase == "prefill" else LONG
        before = endless.stats()
        with client.stream("POST", "/stream", json=options) as response:
            if phase == "queue":
                assert eventually(lambda: endless.stats().queued == 1)
            elif phase == "prefill":
                assert eventually(lambda: endless.stats().prefill_steps.count > before.prefill_steps.count)
            else:
                lines = response.iter_lines()
                assert next(lines).startswith("data: ")
            assert endless.unfinished == 1 + (phase == "queue")
        assert eventually(lambda: endless.unfinished == (phase == "queue"))
        holder.close()


def test_several_clients_are_served_at_once(client: httpx.Client, context: Context) -> None:
    one = events(client, **GREEDY)
    with ThreadPoolExecutor(8) as readers:
        for each in readers.map(lambda _: events(client, **GREEDY), range(8)):
            assert [data["index"] for name, data in each if name == "message"] == list(range(len(each) - 1))
            assert each[-1][0] == one[-1][0] == "done"
    assert context.unfinished == 0


def test_the_loop_goes_on_while_a_stream_waits(client: httpx.Client) -> None:
    with connect_sse(client, "POST", "/stream", json=STUCK) as source:
        tokens = source.iter_sse()
        next(tokens)
        for _ in range(5):
            assert client.get("/heartbeat").json() == 1


@pytest.mark.anyio
async def test_a_client_that_does_not_read_holds_up_nobody_else(endless: Context) -> None:
    unread = asyncio.Event()

    async def send(message: Message) -> None:
        if message.get("body"):
            unread.set()
            await never()

    response = sse_response(endless.generate_stream(**LONG))
    task = asyncio.create_task(response({"type": "http"}, never, send))
    await asyncio.wait_for(unread.wait(), 10)
    done = await asyncio.wait_for(asyncio.to_thread(endless.generate, "A", 5, ignore_eos=True), 10)
    assert len(done.tokens) == 5
    assert endless.unfinished == 1
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()


def test_comments_keep_a_silent_connection_alive(client: httpx.Client) -> None:
    with client.stream("POST", "/stream", json={**STUCK, "keep_alive": 0.02}) as response:
        lines = (line for line in response.iter_lines() if line)
        assert next(line for line in lines if line.startswith("data: "))
        assert [next(lines), next(lines)] == [": keep-alive", ": keep-alive"]


def test_a_comment_between_two_tokens_loses_none(client: httpx.Client, context: Context) -> None:
    whole = context.generate(**GREEDY)
    *tokens, _ = events(client, **GREEDY, stream_delay_ms=5, keep_alive=0.001)
    assert "".join(data["text"] for _, data in tokens) == whole.text


def test_an_error_of_the_prompt_is_the_only_event(client: httpx.Client) -> None:
    ((name, told),) = events(client, prompt=[5] * 5000)
    assert (name, told["code"]) == ("error", "CONTEXT_OVERFLOW")
    assert "5000" in told["message"]


def test_a_deadline_that_passes_is_the_last_event(client: httpx.Client) -> None:
    name, told = events(client, **{**STUCK, "timeout_ms": 50})[-1]
    assert (name, told["code"]) == ("error", "STREAM_TIMEOUT")


def test_an_error_halfway_is_the_last_event() -> None:
    model = Model.load("demo")
    with serving(application("fastapi", Context(model))) as client:
        with connect_sse(client, "POST", "/stream", json=STUCK) as source:
            read = source.iter_sse()
            assert next(read).event == "message"
            model.close()
            (last,) = read
        assert (last.event, json.loads(last.data)["code"]) == ("error", "CLOSED")
        response = client.post("/stream", json=STUCK)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "CLOSED")


def test_an_error_of_the_call_is_a_status(client: httpx.Client) -> None:
    response = client.post("/stream", json={"prompt": "A", "temperature": -1})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "INVALID_CONFIG"
    assert "temperature" in response.json()["error"]["message"]


def test_who_comes_too_much_is_told_when_to_come_again(model: Model, eventually: Eventually) -> None:
    context = Context(model, ContextParams(n_parallel=1, max_queue=0, max_paused=1))
    with serving(application("fastapi", context)) as client:
        with connect_sse(client, "POST", "/stream", json=STUCK) as source:
            tokens = source.iter_sse()
            next(tokens)
            response = client.post("/stream", json=STUCK)
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) >= 1
        assert eventually(lambda: context.unfinished == 0)
        assert events(client, **GREEDY)[-1][0] == "done"


def test_every_error_has_the_status_of_its_code() -> None:
    # Design, section 6.
    statuses = {
        mullama.ModelNotFoundError: 404,
        mullama.DownloadError: 502,
        mullama.ModelLoadError: 500,
        mullama.InvalidConfigError: 400,
        mullama.InvalidPromptError: 400,
        mullama.ContextOverflowError: 400,
        mullama.ChatTemplateError: 400,
        mullama.OverloadedError: 429,
        mullama.StreamTimeoutError: 504,
        mullama.GenerationError: 500,
        mullama.StreamBusyError: 500,
        mullama.EngineClosedError: 503,
    }
    assert set(statuses) == set(MullamaError.__subclasses__())
    for error, status in statuses.items():
        response = error_response(error("words"))
        assert response.status_code == status
        assert json.loads(bytes(response.body)) == {"error": {"code": error.code, "message": str(error("words"))}}
        assert ("retry-after" in response.headers) == (status == 429)


@pytest.mark.anyio
@pytest.mark.parametrize("end", ["the server cancels it", "the connection breaks", "it is never sent"])
async def test_a_stream_is_freed_however_its_answer_ends(context: Context, eventually: Eventually, end: str) -> None:
    begun = asyncio.Event()

    async def send(message: Message) -> None:
        begun.set()
        if end == "the connection breaks" and message.get("body"):
            raise OSError

    response = sse_response(context.generate_stream(**STUCK))
    assert context.unfinished == 1
    if end != "it is never sent":
        task = asyncio.create_task(response({"type": "http"}, never, send))
        await asyncio.wait_for(begun.wait(), 10)
        if end == "the server cancels it":
            task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.done()
        assert task.cancelled() == (end == "the server cancels it")
        del task
    del response
    assert await asyncio.to_thread(eventually, lambda: context.unfinished == 0)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_keep_alive_must_lie_ahead(context: Context, seconds: float) -> None:
    with pytest.raises(ValueError, match="keep_alive_seconds"):
        sse_response(context.generate_stream("A"), keep_alive_seconds=seconds)


@pytest.mark.parametrize("way", ["injected", "argument", "set"])
def test_background_tasks_run_once_the_stream_is_closed(context: Context, way: str) -> None:
    unfinished: list[int] = []

    def task() -> None:
        unfinished.append(context.unfinished)

    app = FastAPI()

    @app.get("/")
    async def route(tasks: BackgroundTasks) -> Response:
        if way == "injected":
            tasks.add_task(task)
        given = BackgroundTask(task) if way == "argument" else None
        response = sse_response(context.generate_stream("A", 4), background=given)
        if way == "set":
            response.background = BackgroundTask(task)
        return response

    with serving(app) as client:
        assert "event: done" in client.get("/").text
    assert unfinished == [0]


def test_background_tasks_run_when_the_client_has_left(context: Context, eventually: Eventually) -> None:
    unfinished: list[int] = []
    app = FastAPI()

    @app.get("/")
    async def route() -> Response:
        task = BackgroundTask(lambda: unfinished.append(context.unfinished))
        return sse_response(context.generate_stream(**STUCK), background=task)

    with serving(app) as client:
        with client.stream("GET", "/") as response:
            assert next(response.iter_lines()).startswith("data: ")
        assert eventually(lambda: len(unfinished) == 1)


@pytest.mark.parametrize("annotated", [False, True])
def test_a_route_can_return_a_completion(context: Context, annotated: bool) -> None:  # noqa: FBT001  # a case
    app = FastAPI()
    # Tokens of these characters end within one of them.
    completion = context.generate("日本 🙂", 20, ignore_eos=True, logprobs=2, temperature=2.0, top_k=0, top_p=1.0)

    def route() -> Completion:
        return completion

    app.get("/", response_model=Completion if annotated else None)(route)
    with serving(app) as client:
        told = client.get("/").json()
        assert "Completion" in client.get("/openapi.json").text or not annotated
    assert told["text"] == completion.text
    assert [token["id"] for token in told["tokens"]] == [token.id for token in completion.tokens]
    assert told["usage"] == completion.usage.to_dict()
