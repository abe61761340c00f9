"""Streams as server-sent events and errors as HTTP answers, for FastAPI and plain Starlette.

>>> from fastapi import FastAPI
>>> from mullama import AsyncModel, Model
>>> from mullama.integrations.fastapi import install_error_handlers, sse_response
>>> app = FastAPI()
>>> install_error_handlers(app)
>>> model = AsyncModel(Model.load("demo"))
>>> @app.get("/poem")
... async def poem():
...     return sse_response(model.generate_stream("Write a poem:", max_tokens=200))

What goes over the wire, each event ended by an empty line:

    data: {"text": "Once", "index": 0}

    : keep-alive

    event: done
    data: {"finish_reason": "length", "stop_sequence": null, "usage": {"prompt_tokens": 5, …}}

    event: error
    data: {"code": "STREAM_TIMEOUT", "message": "…"}

A stream ends with one `done` or one `error`. A body that ends without either was cut off.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio
from starlette.responses import JSONResponse, Response

from mullama._exceptions import MullamaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from mullama._stream import TokenStream

__all__ = ["error_response", "install_error_handlers", "sse_response"]

_STATUSES = {
    "MODEL_NOT_FOUND": 404,
    "MODEL_LOAD": 500,
    "INVALID_CONFIG": 400,
    "INVALID_PROMPT": 400,
    "CONTEXT_OVERFLOW": 400,
    "TEMPLATE_ERROR": 400,
    "OVERLOADED": 429,
    "STREAM_TIMEOUT": 504,
    "GENERATION_ERROR": 500,
    "CLOSED": 503,
}
"""The statuses that every face of mullama gives these codes."""

_RETRY_AFTER_SECONDS = 1
"""A place is free as soon as any stream ends, so the shortest wait that the header can tell."""

_KEEP_ALIVE = b": keep-alive\n\n"


def sse_response(
    stream: TokenStream, *, keep_alive_seconds: float = 15.0, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer that sends each token as a server-sent event, as soon as it exists. Never blocks the event loop.

    The stream is the answer's from here on. It is closed, and its compute free within one step, when the answer ends in
    whichever way: by itself, with an error, when the client is gone or when the server cancels it, before the first
    token too. A client that reads slowly holds up its own stream alone.

    Args:
        stream: An unread stream, from `generate_stream` or `chat_stream`. What those raise comes before the answer
            begins, and is yours: see `install_error_handlers`.
        keep_alive_seconds: After how many seconds without a token a comment is sent, which clients skip, so that
            proxies do not take a long prefill for a dead connection. Most of them wait for 60 seconds.
        headers: More headers.

    Returns:
        An answer of status 200. What goes wrong while the stream is read is its last event, `error`.

    Raises:
        ValueError: `keep_alive_seconds` is not positive.

    Example:
        >>> @app.get("/poem")
        ... async def poem():
        ...     return sse_response(model.generate_stream("Write a poem:", max_tokens=200))
    """
    if not keep_alive_seconds > 0:
        message = f"keep_alive_seconds must be above 0, not {keep_alive_seconds}"
        raise ValueError(message)
    return _EventResponse(stream, keep_alive_seconds, headers)


def error_response(error: MullamaError) -> JSONResponse:
    """The HTTP answer to an error: `{"error": {"code": …, "message": …}}` under the status of its code.

    | code | status |
    |---|---|
    | `INVALID_CONFIG`, `INVALID_PROMPT`, `CONTEXT_OVERFLOW`, `TEMPLATE_ERROR` | 400 |
    | `MODEL_NOT_FOUND` | 404 |
    | `OVERLOADED` | 429, with `Retry-After` in seconds |
    | `MODEL_LOAD`, `GENERATION_ERROR` | 500 |
    | `CLOSED` | 503 |
    | `STREAM_TIMEOUT` | 504 |

    Example:
        >>> try:
        ...     stream = model.generate_stream("Hello", temperature=-1)
        ... except MullamaError as error:
        ...     response = error_response(error)
        >>> response.status_code
        400
    """
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if error.code == "OVERLOADED" else None
    return JSONResponse({"error": _described(error)}, _STATUSES[error.code], headers)


def install_error_handlers(app: Starlette) -> None:
    """Has the app answer every `MullamaError` that leaves a route with `error_response`.

    Args:
        app: A FastAPI or Starlette application.

    Example:
        >>> install_error_handlers(app)
    """
    app.add_exception_handler(MullamaError, _answer)


def _answer(_request: Request, error: Exception) -> Response:
    if not isinstance(error, MullamaError):  # the signature is Starlette's, which calls it for these alone
        raise error
    return error_response(error)


def _described(error: MullamaError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)}


class _EventResponse(Response):
    """The answer. Starlette's own for streams hears of a client's leaving only when it sends, on newer servers."""

    media_type = "text/event-stream"

    def __init__(self, stream: TokenStream, keep_alive_seconds: float, headers: Mapping[str, str] | None) -> None:
        self._stream = stream
        self._keep_alive_seconds = keep_alive_seconds
        self.status_code = 200
        self.background = None
        # nginx gathers an answer before it passes it on, unless the second header tells it not to.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the stream ends or the client is gone."""
        with self._stream:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await self._send(send)
                group.cancel_scope.cancel()

    async def _send(self, send: Send) -> None:
        # So a server says that the client is gone; there is nobody left to be told.
        with suppress(OSError):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            more = True
            while more:
                event, more = await self._next()
                await send({"type": "http.response.body", "body": event, "more_body": more})

    async def _next(self) -> tuple[bytes, bool]:
        """An event, and whether more of them come."""
        stream = self._stream
        try:
            # A read that is given up takes no token, so the next one finds it.
            with anyio.move_on_after(self._keep_alive_seconds) as wait:
                token = await anext(stream, None)
        except MullamaError as error:
            return _event(_described(error), "error"), False
        if wait.cancelled_caught:
            return _KEEP_ALIVE, True
        if token is not None:
            return _event({"text": token.text, "index": token.index}), True
        end = {"finish_reason": stream.finish_reason, "stop_sequence": stream.stop_sequence}
        return _event({**end, "usage": asdict(stream.usage)}, "done"), False


def _event(content: Mapping[str, object], name: str | None = None) -> bytes:
    # In ASCII: some clients take U+2028 and its like, which JSON would leave as they are, for the end of a line.
    data = f"data: {json.dumps(content)}\n\n"
    return (data if name is None else f"event: {name}\n{data}").encode("ascii")
