"""Usage counts and timings of a stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mullama._exact import Exact


@dataclass(frozen=True, slots=True)
class Usage(Exact):
    """Token counts of a stream.

    Attributes:
        prompt_tokens: Tokens in the prompt, including those that the model adds.
        cached_tokens: Prompt tokens that were reused from the prefix cache instead of being recomputed.
        completion_tokens: Tokens generated after the prompt, including one that ended the stream.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Timings(Exact):
    """Where the time of a stream went, in seconds.

    Attributes:
        queue: From the call until the stream first ran.
        prefill: From then until the last token of the prompt was computed.
        first_token: From the call to the first generated token.
        decode: From the first to the latest generated token.
        reader_wait: Time for which the stream was paused because its buffer was full.
    """

    queue: float
    prefill: float
    first_token: float
    decode: float
    reader_wait: float

    def to_dict(self) -> dict[str, float]:
        """The times by name, in seconds."""
        return asdict(self)
