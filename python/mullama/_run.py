"""The command `mullama run` with a prompt: one stream, written as it comes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mullama import Context, Model
from mullama._output import say, write_event, write_pieces, write_rest

if TYPE_CHECKING:
    from mullama import ContextParams, StreamConfig, TokenStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, and how it is to be written.

    Attributes:
        model: A GGUF file, or "demo".
        prompt: What the text is to follow, or a user's message if `system` is there; None is a conversation.
        system: What the model is told before the first message.
        config: How streams are generated.
        params: How the engine is laid out.
        gpu_layers: Layers that go to a GPU.
        stream: Whether each piece is written as it comes.
        json: Whether events are written instead of text.
        verbose: Whether stderr gets what a stream cost.
    """

    model: str
    prompt: str | None
    system: str | None
    config: StreamConfig
    params: ContextParams
    gpu_layers: int
    stream: bool
    json: bool
    verbose: bool

    def load(self) -> Context:
        """The model, ready to run."""
        return Context(Model.load(self.model, n_gpu_layers=self.gpu_layers), self.params)

    def beginning(self) -> list[dict[str, str]]:
        """The messages that a conversation begins with."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]


def run(job: Job, prompt: str) -> None:
    """Loads the model and writes what follows the prompt, or the answer to it."""
    context = job.load()
    with open_stream(context, job, prompt) as stream:
        if job.json:
            write_events(stream)
        else:
            write_text(stream, at_once=job.stream)
        if job.verbose:
            say(summary(stream))


def open_stream(context: Context, job: Job, prompt: str) -> TokenStream:
    """A stream of what follows the prompt; with a system message, of the answer to a user's first message."""
    if job.system is None:
        return context.generate_stream(prompt, config=job.config)
    return context.chat_stream([*job.beginning(), {"role": "user", "content": prompt}], config=job.config)


def write_text(stream: TokenStream, *, at_once: bool) -> None:
    """Writes the text, each piece at once or all of it at its end, and ends the last line however the stream ends."""
    try:
        write_pieces(stream, at_once=at_once)
    finally:
        write_rest(stream, at_once=at_once)


def write_events(stream: TokenStream) -> None:
    """Writes a JSON object a line: a `token` each, then `done`. Whoever catches a failure writes `error` instead."""
    try:
        for token in stream:
            write_event(type="token", text=token.text, id=token.id, index=token.index)
    except KeyboardInterrupt:
        stream.close()
        write_end(stream)
        raise
    write_end(stream)


def write_end(stream: TokenStream) -> None:
    """Writes the event `done`."""
    write_event(
        type="done",
        finish_reason=stream.finish_reason,
        stop_sequence=stream.stop_sequence,
        usage=asdict(stream.usage),
        timings=asdict(stream.timings),
        seed=stream.seed,
    )


def summary(stream: TokenStream) -> str:
    """What the stream cost, in one line."""
    usage, timings = stream.usage, stream.timings
    return (
        f"{usage.completion_tokens} tokens, {stream.tokens_per_second():.1f} a second; "
        f"first after {timings.first_token * 1000:.0f} ms; "
        f"prompt {usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached; "
        f"ended by {stream.finish_reason}; seed {stream.seed}"
    )
