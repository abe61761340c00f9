"""The command `mullama run`: one prompt, one stream, written as it comes."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mullama import Context, Model

if TYPE_CHECKING:
    from typing import TextIO

    from mullama import ContextParams, StreamConfig, TokenStream


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be run, and how it is to be written."""

    model: str
    prompt: str
    config: StreamConfig
    params: ContextParams
    gpu_layers: int
    stream: bool
    json: bool
    verbose: bool


def run(job: Job) -> None:
    """Loads the model and writes what follows the prompt."""
    model = Model.load(job.model, n_gpu_layers=job.gpu_layers)
    context = Context(model, job.params)
    with context.generate_stream(job.prompt, config=job.config) as stream:
        if job.json:
            write_events(stream)
        else:
            write_text(stream, at_once=job.stream)
        if job.verbose:
            say(summary(stream))


def write_text(stream: TokenStream, *, at_once: bool) -> None:
    """Writes the text, each piece at once or all of it at its end, and ends the last line however the stream ends."""
    # A terminal that cannot show a character gets a question mark, not a traceback.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        for token in stream:
            if at_once:
                sys.stdout.write(token.text)
                sys.stdout.flush()
    finally:
        text = stream.text
        if not at_once:
            sys.stdout.write(text)
        if text and not text.endswith("\n"):
            sys.stdout.write("\n")
        sys.stdout.flush()


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


def write_event(**event: object) -> None:
    """Writes one line of JSON."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Writes a line to stderr, if anyone takes it."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        mute(sys.stderr)


def mute(file: TextIO) -> None:
    """Sends what the file still holds nowhere: Python would complain when it flushes it at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def summary(stream: TokenStream) -> str:
    """What the stream cost, in one line."""
    usage, timings = stream.usage, stream.timings
    return (
        f"{usage.completion_tokens} tokens, {stream.tokens_per_second():.1f} a second; "
        f"first after {timings.first_token * 1000:.0f} ms; "
        f"prompt {usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached; "
        f"ended by {stream.finish_reason}; seed {stream.seed}"
    )
