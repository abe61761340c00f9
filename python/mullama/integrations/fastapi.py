"""Streams as server-sent events and errors as HTTP responses, for FastAPI and plain Starlette.

>>> from fastapi import FastAPI
>>> from mullama import AsyncModel, Model
>>> from mullama.integrations.fastapi import install_error_handlers, sse_response
>>> app = FastAPI()
>>> install_error_handlers(app)
>>> model = AsyncModel(Model.load("demo"))
>>> @app.get("/poem")
... async def poem():
...     return sse_response(model.generate_stream("Write a poem:", max_tokens=200))

The wire format, in which an empty line ends each event:

    data: {"text": "Once", "index": 0}

    : keep-alive

    event: done
    data: {"finish_reason": "length", "stop_sequence": null, "usage": {"prompt_tokens": 5, …}}

    event: error
    data: {"code": "STREAM_TIMEOUT", "message": "…"}

A stream ends with one `done` or one `error` event. A body that ends without either was cut off.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from mullama._exceptions import MullamaError, OverloadedError
from mullama._stream import TokenStream

__all__ = ["error_response", "install_error_handlers", "sse_response"]

_RETRY_AFTER_SECONDS = 1
"""The shortest wait that the header can express: any stream that ends makes room for another."""

_KEEP_ALIVE = b": keep-alive\n\n"


def sse_response(
    stream: TokenStream,
    *,
    keep_alive_seconds: float = 15.0,
    headers: Mapping[str, str] | None = None,
    background: BackgroundTask | None = None,
) -> Response:
    """Returns a response that sends each token as a server-sent event as soon as it exists.

    It never blocks the event loop. The response owns the stream from here on: it closes the stream, which stops using
    compute within one step, when the response ends in whatever way: by itself, with an error, because the client
    disconnected or because the server cancelled it, even before the first token. A client that reads slowly pauses only
    its own stream.

    Args:
        stream: An unread stream from `generate_stream` or `chat_stream`. Errors of those calls are raised before the
            response exists: see `install_error_handlers`.
        keep_alive_seconds: Send a comment, which clients ignore, after this many seconds without a token, so that
            proxies do not take a long prefill for a dead connection. Most proxies wait for 60 seconds.
        headers: Additional headers.
        background: A task to run when the response has ended and the stream is closed, also if the client has
            disconnected. FastAPI adds the tasks of an injected `BackgroundTasks`.

    Returns:
        A response with status 200. Errors that occur while the stream is read are sent as its last event, `error`.

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
    return _EventResponse(stream, keep_alive_seconds, headers, background)


def error_response(error: MullamaError) -> JSONResponse:
    """Returns the HTTP response to an error: `{"error": {"code": …, "message": …}}` with the status of its class.

    | code | status |
    |---|---|
    | `INVALID_CONFIG`, `INVALID_PROMPT`, `CONTEXT_OVERFLOW`, `TEMPLATE_ERROR` | 400 |
    | `MODEL_NOT_FOUND` | 404 |
    | `OVERLOADED` | 429, with `Retry-After` in seconds |
    | `MODEL_LOAD`, `GENERATION_ERROR`, `STREAM_BUSY` | 500 |
    | `DOWNLOAD_ERROR` | 502 |
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
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if isinstance(error, OverloadedError) else None
    return JSONResponse({"error": _described(error)}, error.http_status, headers)


def install_error_handlers(app: Starlette) -> None:
    """Makes the app respond to every `MullamaError` that a route raises with `error_response`.

    Args:
        app: A FastAPI or Starlette application.

    Example:
        >>> install_error_handlers(app)
    """
    app.add_exception_handler(MullamaError, _answer)


def _answer(_request: Request, error: Exception) -> Response:
    if not isinstance(error, MullamaError):  # Starlette calls this only for MullamaError
        raise error
    return error_response(error)


def _described(error: MullamaError) -> dict[str, str]:
    return {"code": error.code, "message": str(error)}


class _EventResponse(Response):
    """The response. On newer servers, Starlette's own notices that the client disconnected only when it sends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: TokenStream,
        keep_alive_seconds: float,
        headers: Mapping[str, str] | None,
        background: BackgroundTask | None,
    ) -> None:
        self._stream = stream
        self._keep_alive_seconds = keep_alive_seconds
        self.status_code = 200
        self.background = background
        # nginx buffers a response unless the second header tells it not to.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Sends events until the stream ends or the client disconnects, then runs the background task."""
        with self._stream:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    group.cancel_scope.cancel()

                group.start_soon(watch)
                await self._send(send)
                group.cancel_scope.cancel()
        if self.background is not None:
            await self.background()

    async def _send(self, send: Send) -> None:
        # Some servers raise it when the client has disconnected. Nobody is left to be told.
        with suppress(OSError):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            more = True
            while more:
                event, more = await self._next()
                await send({"type": "http.response.body", "body": event, "more_body": more})

    async def _next(self) -> tuple[bytes, bool]:
        """The next event, and whether more will follow."""
        stream = self._stream
        try:
            # A cancelled read takes no token, so the next read finds it.
            with anyio.move_on_after(self._keep_alive_seconds) as wait:
                token = await anext(stream, None)
        except MullamaError as error:
            return _event(_described(error), "error"), False
        if wait.cancelled_caught:
            return _KEEP_ALIVE, True
        if token is not None:
            return _event({"text": token.text, "index": token.index}), True
        end = {"finish_reason": stream.finish_reason, "stop_sequence": stream.stop_sequence}
        return _event({**end, "usage": stream.usage.to_dict()}, "done"), False


def _event(content: Mapping[str, object], name: str | None = None) -> bytes:
    # In ASCII: some clients treat U+2028 and similar characters, which JSON allows, as the end of a line.
    data = f"data: {json.dumps(content)}\n\n"
    return (data if name is None else f"event: {name}\n{data}").encode("ascii")
