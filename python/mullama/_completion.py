"""Completions: streams that were read to their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mullama._display import Displayed, prose, shortened
from mullama._exceptions import MullamaError
from mullama._token import Token  # noqa: TC001  # so that annotations can be read at run time
from mullama._usage import Timings, Usage  # noqa: TC001  # the same

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mullama._stream import TokenStream

_FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Completion(Displayed):
    """The result of `generate` or `chat`: a stream that was read to its end. `str()` returns the text.

    Attributes:
        text: The joined text of all tokens.
        tokens: The tokens.
        finish_reason: Why the stream ended.
        stop_sequence: The stop sequence that ended the stream, if one did.
        usage: Token counts.
        timings: Where the time went.
        seed: The sampling seed, either given or chosen.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: _FinishReason
    stop_sequence: str | None
    usage: Usage
    timings: Timings
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, down to values that JSON can hold."""
        return {
            "text": self.text,
            "tokens": [token.to_dict() for token in self.tokens],
            "finish_reason": self.finish_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage.to_dict(),
            "timings": self.timings.to_dict(),
            "seed": self.seed,
        }

    def __str__(self) -> str:
        """The text."""
        return self.text

    def __repr__(self) -> str:
        """How it ended, its length, and how it begins."""
        return f"<Completion {self._summary()}: {shortened(self.text)!r}>"

    def _repr_html_(self) -> str:
        return prose(self.text, self._summary())

    def _summary(self) -> str:
        count = len(self.tokens)
        return f"{self.finish_reason}, {count} token{'' if count == 1 else 's'}"


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
