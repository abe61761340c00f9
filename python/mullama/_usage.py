"""What a stream has cost, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from mullama._mullama import Token
    from mullama._stream import TokenStream

    _FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a stream.

    Attributes:
        prompt_tokens: Tokens of the prompt, those that the model adds included.
        cached_tokens: Tokens of the prompt that did not have to be computed again.
        completion_tokens: Tokens computed after the prompt, one that ended the stream included.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a stream went, in seconds.

    Attributes:
        queue: From the call to the first place in a batch.
        prefill: From the first place in a batch to the prompt's last token.
        first_token: From the call to the first token.
        decode: From the first token to the newest.
        reader_wait: How long the stream stood still because its reader had no room.
    """

    queue: float
    prefill: float
    first_token: float
    decode: float
    reader_wait: float


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: a stream that was read to its end. `str()` of it is the text.

    Attributes:
        text: The texts of all tokens, joined.
        tokens: The tokens.
        finish_reason: How it ended.
        stop_sequence: The stop sequence that ended it, if one did.
        usage: What it cost in tokens.
        timings: Where its time went.
        seed: The seed in use, chosen or given.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: _FinishReason
    stop_sequence: str | None
    usage: Usage
    timings: Timings
    seed: int

    def __str__(self) -> str:
        """The text."""
        return self.text


def read_to_end(stream: TokenStream) -> Completion:
    """Folds a stream into a completion. However it ends, the stream is closed."""
    from mullama._stream import warn_of_a_blocked_loop  # noqa: PLC0415  # streams know what they cost

    warn_of_a_blocked_loop(4)
    with stream:
        return _completion(stream, tuple(stream))


async def read_to_end_async(stream: TokenStream) -> Completion:
    """As `read_to_end`, while the event loop goes on."""
    async with stream:
        return _completion(stream, tuple([token async for token in stream]))


def _completion(stream: TokenStream, tokens: tuple[Token, ...]) -> Completion:
    return Completion(
        text=stream.text,
        tokens=tokens,
        finish_reason=stream.finish_reason or "cancelled",
        stop_sequence=stream.stop_sequence,
        usage=stream.usage,
        timings=stream.timings,
        seed=stream.seed,
    )
