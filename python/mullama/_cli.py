"""The command `mullama`: reads its arguments, calls the package, and ends with the exit code of the error table."""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import TYPE_CHECKING

from mullama import ContextParams, MullamaError, StreamConfig, __version__
from mullama._run import Job, mute, run, say, write_event

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = {
    "MODEL_NOT_FOUND": 3,
    "MODEL_LOAD": 3,
    "INVALID_CONFIG": 2,
    "INVALID_PROMPT": 2,
    "CONTEXT_OVERFLOW": 2,
    "TEMPLATE_ERROR": 2,
    "OVERLOADED": 5,
    "STREAM_TIMEOUT": 4,
    "GENERATION_ERROR": 1,
    "CLOSED": 1,
}
"""The last column of the error table."""

FAILED_OUTPUT = 1
"""What nobody can write down is no fault of the prompt or of the model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Text goes to stdout, everything else to stderr."""
    rest = command_parser().parse_args(arguments).arguments
    parser = run_parser()
    # Options may stand before, between and after MODEL and PROMPT.
    parsed = parser.parse_intermixed_args(rest)
    if sys.stdout is None:
        say("mullama: standard output is closed")
        return FAILED_OUTPUT
    warnings.showwarning = lambda message, *_: say(f"mullama: warning: {message}")
    try:
        return attempt(parsed, parser)
    except BrokenPipeError:
        # Nobody reads any more, which is no error.
        mute(sys.stdout)
        return 0
    except OSError as error:
        mute(sys.stdout)
        say(f"mullama: cannot write to standard output: {error.strerror}")
        return FAILED_OUTPUT


def attempt(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Runs what was asked for. A failure is told on stderr, and as an event where events were asked for."""
    try:
        run(job(parsed, parser))
    except MullamaError as error:
        say(f"mullama: {error}")
        if parsed.json:
            write_event(type="error", code=error.code, message=str(error))
        return EXIT_CODES[error.code]
    return 0


def command_parser() -> argparse.ArgumentParser:
    """The first word says which command; the rest is that command's own."""
    parser = argparse.ArgumentParser(
        prog="mullama",
        description="Text from language models, streamed on this machine.",
        epilog="`mullama run --help` tells the options of run.",
    )
    parser.add_argument("--version", action="version", version=f"mullama {__version__}")
    parser.add_argument("command", choices=["run"], help="run: write what follows a prompt")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def run_parser() -> argparse.ArgumentParser:
    """The options of `mullama run`. Where one is not given, the package's default holds."""
    defaults = StreamConfig()
    parser = argparse.ArgumentParser(prog="mullama run", description="Writes what follows a prompt.")
    parser.add_argument("model", metavar="MODEL", help="a GGUF file, or demo: the model inside the package")
    parser.add_argument("prompt", metavar="PROMPT", nargs="?", help="- or none: read from standard input")
    generation = parser.add_argument_group("generation")
    generation.add_argument("--max-tokens", type=int, metavar="N", help=f"most tokens ({defaults.max_tokens})")
    generation.add_argument("--temperature", type=float, metavar="T", help=f"0 is greedy ({defaults.temperature})")
    generation.add_argument("--top-k", type=int, metavar="N", help=f"0 is off ({defaults.top_k})")
    generation.add_argument("--top-p", type=float, metavar="P", help=f"1.0 is off ({defaults.top_p})")
    generation.add_argument("--min-p", type=float, metavar="P", help=f"0.0 is off ({defaults.min_p})")
    generation.add_argument("--seed", type=int, metavar="N", help="same seed, same text")
    generation.add_argument("--stop", action="append", metavar="TEXT", help="end before this text; can be repeated")
    generation.add_argument("--timeout", type=int, metavar="MS", help="most milliseconds (no limit)")
    engine = parser.add_argument_group("engine")
    engine.add_argument("--ctx-size", type=int, metavar="N", help="most tokens, the prompt's included (the model's)")
    engine.add_argument("--threads", type=int, metavar="N", help="threads that compute (one a physical core)")
    engine.add_argument("--gpu-layers", type=int, default=-1, metavar="N", help="layers on a GPU; -1 is all of them")
    output = parser.add_argument_group("output")
    output.add_argument("--no-stream", action="store_true", help="write the text when it is complete")
    output.add_argument("--json", action="store_true", help="write a JSON object a line: token, ..., done or error")
    output.add_argument("--verbose", action="store_true", help="tell tokens, speed and times on stderr")
    return parser


def job(parsed: argparse.Namespace, parser: argparse.ArgumentParser) -> Job:
    """What is to be run. A setting that is out of its range is refused here, before the model is loaded."""
    options = {
        "max_tokens": parsed.max_tokens,
        "temperature": parsed.temperature,
        "top_k": parsed.top_k,
        "top_p": parsed.top_p,
        "min_p": parsed.min_p,
        "seed": parsed.seed,
        "stop_sequences": parsed.stop,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return Job(
        model=parsed.model,
        prompt=read_prompt(parsed.prompt, parser),
        config=StreamConfig(timeout_ms=parsed.timeout, **given),
        params=ContextParams(n_ctx=parsed.ctx_size, n_threads=parsed.threads),
        gpu_layers=parsed.gpu_layers,
        stream=not parsed.no_stream,
        json=parsed.json,
        verbose=parsed.verbose,
    )


def read_prompt(prompt: str | None, parser: argparse.ArgumentParser) -> str:
    """The prompt of the command line, or all of standard input without its last line end."""
    if prompt is not None and prompt != "-":
        return prompt
    if sys.stdin is None or (prompt is None and sys.stdin.isatty()):
        parser.error("a prompt is missing: give it as PROMPT, or pipe it in")
    try:
        given = sys.stdin.buffer.read()
    except OSError as error:
        parser.error(f"cannot read the prompt from standard input: {error.strerror}")
    # What is no UTF-8 becomes lone surrogates, and those are refused as what they are: no text.
    return given.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
