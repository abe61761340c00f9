"""The command `mullama run` with a prompt: writes one stream as it arrives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mullama import Context, Model
from mullama._output import say, write_event, write_pieces, write_rest

if TYPE_CHECKING:
    from mullama import ContextParams, StreamConfig, TokenStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to run, and how to write its output.

    Attributes:
        model: A GGUF file, or "demo".
        prompt: The prompt, or the user's message if there is a `system` message; None is a conversation.
        system: The system message.
        config: Settings of the streams.
        params: Layout of the engine.
        gpu_layers: Number of layers to put on a GPU.
        stream: Whether each piece is written as it arrives.
        json: Whether events are written instead of text.
        verbose: Whether a summary of each stream is printed to stderr.
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
        """Loads the model and starts an engine."""
        return Context(Model.load(self.model, n_gpu_layers=self.gpu_layers), self.params)

    def first_messages(self) -> list[dict[str, str]]:
        """The messages that a conversation starts with."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]


def run(job: Job, prompt: str) -> None:
    """Loads the model and writes what it generates from the prompt."""
    context = job.load()
    with open_stream(context, job, prompt) as stream:
        if job.json:
            write_events(stream)
        else:
            write_text(stream, at_once=job.stream)
        if job.verbose:
            say(summary(stream))


def open_stream(context: Context, job: Job, prompt: str) -> TokenStream:
    """Opens a stream for the prompt, or for the reply to it if there is a system message."""
    if job.system is None:
        return context.generate_stream(prompt, config=job.config)
    return context.chat_stream([*job.first_messages(), {"role": "user", "content": prompt}], config=job.config)


def write_text(stream: TokenStream, *, at_once: bool) -> None:
    """Writes the text, in pieces or as a whole, and ends the last line however the stream ends."""
    try:
        write_pieces(stream, at_once=at_once)
    finally:
        write_rest(stream, at_once=at_once)


def write_events(stream: TokenStream) -> None:
    """Writes one JSON object per line: a `token` event per token, then `done`. The caller reports errors."""
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
    """Token counts, speed and times of the stream, in one line."""
    usage, timings = stream.usage, stream.timings
    return (
        f"{usage.completion_tokens} tokens, {stream.tokens_per_second():.1f} tokens/s; "
        f"first token after {timings.first_token * 1000:.0f} ms; "
        f"prompt: {usage.prompt_tokens} tokens, {usage.cached_tokens} cached; "
        f"finish reason: {stream.finish_reason}; seed: {stream.seed}"
    )
