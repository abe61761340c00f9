"""Completions: streams that were read to their end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from mullama._display import Displayed, prose, shortened
from mullama._exact import as_count, as_instance, as_items, as_text, out_of_range, told
from mullama._token import Token
from mullama._usage import Timings, Usage

_FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "timeout", "error"]

_HIGHEST_SEED = 2**32 - 1


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

    def __post_init__(self) -> None:
        """Reads the fields once and stores exact types. Results may be given as their `to_dict` returns them.

        Raises:
            TypeError: A field has the wrong type.
            ValueError: A field is out of range.
        """
        reason = as_text("finish_reason", self.finish_reason)
        reasons = get_args(_FinishReason)
        if reason not in reasons:
            error = out_of_range("finish_reason", told(reason), f"one of {', '.join(reasons)}")
            raise error
        stop = self.stop_sequence
        exact: dict[str, object] = {
            "text": as_text("text", self.text),
            "tokens": tuple(
                as_instance(f"tokens[{at}]", token, Token) for at, token in enumerate(as_items("tokens", self.tokens))
            ),
            "finish_reason": reason,
            "stop_sequence": None if stop is None else as_text("stop_sequence", stop, "a str or None"),
            "usage": as_instance("usage", self.usage, Usage),
            "timings": as_instance("timings", self.timings, Timings),
            "seed": as_count("seed", self.seed, _HIGHEST_SEED),
        }
        for name, value in exact.items():
            object.__setattr__(self, name, value)

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message of the assistant, to append to the messages of a chat.

        The content is the whole text. Where the model calls tools, its template's own notation of that is part of it.
        """
        return {"role": "assistant", "content": self.text}

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, down to values that JSON can hold. `Completion(**fields)` is equal."""
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
