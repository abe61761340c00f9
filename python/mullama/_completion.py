"""Completions: streams that were read to their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mullama._display import Displayed, prose, shortened
from mullama._token import Token
from mullama._usage import Timings, Usage

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

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of the assistant, to append to the messages of a chat.

        The content is the whole text. Where the model calls tools, its template's own notation of that is part of it.
        """
        return {"role": "assistant", "content": self.text}

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
