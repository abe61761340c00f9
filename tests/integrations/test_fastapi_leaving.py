"""A client of FastAPI that disconnects frees the slot at once, whichever way the route streams."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from patience import p90_of
from servers import serving
from starlette.responses import Response, StreamingResponse

from mullama import Context, ContextParams, Model
from mullama.integrations.fastapi import sse_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mullama import TokenStream

    OpenStream = Callable[[], TokenStream]


def over_an_async_generator(open_stream: OpenStream) -> Response:
    async def texts() -> AsyncIterator[str]:
        async for token in open_stream():
            yield token.text or " "

    return StreamingResponse(texts())


def over_an_async_generator_with_a_variable(open_stream: OpenStream) -> Response:
    async def texts() -> AsyncIterator[str]:
        async with open_stream() as stream:
            async for token in stream:
                yield token.text or " "

    return StreamingResponse(texts())


def over_events(open_stream: OpenStream) -> Response:
    return sse_response(open_stream())


WAYS = [over_an_async_generator, over_an_async_generator_with_a_variable, over_events]


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_disconnects_frees_the_slot_within_100_ms(
    model: Model, way: Callable[[OpenStream], Response]
) -> None:
    context = Context(model, ContextParams(n_ctx=256, n_threads=1))
    app = FastAPI()

    @app.get("/")
    async def route() -> Response:  # a token every 50 ms, for ten seconds
        return way(lambda: context.generate_stream("A", 200, ignore_eos=True, stream_delay_ms=50, timeout_ms=None))

    with serving(app) as client:

        def seconds_to_free() -> float:
            with client.stream("GET", "/") as answer:
                assert answer.status_code == 200
                chunks = answer.iter_raw()  # without a reference to it, httpx would disconnect at once
                next(chunks)
                assert context.unfinished == 1
            left = time.monotonic()
            while context.unfinished and time.monotonic() < left + 10:
                time.sleep(0.001)
            return time.monotonic() - left

        assert p90_of(seconds_to_free) < 0.1
