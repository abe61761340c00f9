"""Reads streams to their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mullama._completion import Completion
from mullama._exceptions import MullamaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mullama._stream import TokenStream
    from mullama._token import Token


def read_to_end(stream: TokenStream) -> Completion:
    """Reads the stream to its end and closes it. An error carries what had been generated before it."""
    tokens: list[Token] = []
    with stream:
        try:
            tokens.extend(stream)
        except MullamaError as error:
            error.completion = _completion(stream, tokens)
            raise
        return _completion(stream, tokens)


async def read_to_end_async(stream: TokenStream) -> Completion:
    """As `read_to_end`, without blocking the event loop."""
    tokens: list[Token] = []
    async with stream:
        try:
            async for token in stream:
                tokens.append(token)  # noqa: PERF401  # a comprehension would lose the tokens before an error
        except MullamaError as error:
            error.completion = _completion(stream, tokens)
            raise
        return _completion(stream, tokens)


def _completion(stream: TokenStream, tokens: Sequence[Token]) -> Completion:
    return Completion(
        text=stream.text,
        tokens=tuple(tokens),
        finish_reason=stream.finish_reason or "cancelled",
        stop_sequence=stream.stop_sequence,
        usage=stream.usage,
        timings=stream.timings,
        seed=stream.seed,
    )
