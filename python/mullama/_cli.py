"""The command `mullama`: parses its arguments, calls the package, and returns the exit code of the error."""

# Typer evaluates the annotations when the command starts, so they are not postponed.
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import typer

from mullama import ContextParams, MullamaError, StreamConfig, __version__
from mullama import _options as option
from mullama._exceptions import InvalidConfigError
from mullama._help import Command, Group
from mullama._output import OutputError, discard, plain, say, write_event, write_line
from mullama._prompt import TextError, read_prompt, read_text
from mullama._run import Job, run
from mullama._settings import DEFAULTS, changed

FAILED = 1
"""Exit code of a failure that is neither the model's nor the prompt's, such as a full disk."""

MIN_SECONDS, MAX_SECONDS = 0.05, 3600.0
"""Bounds of `--seconds`: less measures nothing, and nobody waits longer."""

EXAMPLES = """
mullama run demo                            start a conversation with the demo model
mullama run model.gguf "Why is the sky blue?"
cat notes.txt | mullama run model.gguf summarize this
mullama bench model.gguf                    measure speed on this machine
mullama doctor model.gguf                   check the machine and the model
mullama --install-completion                let Tab complete commands and options in this shell
"""
RUN_EXAMPLES = """
mullama run model.gguf                      start a conversation
mullama run model.gguf Write a poem about rain
cat notes.txt | mullama run model.gguf "Summarize this."
mullama run model.gguf --raw "Once upon a time" -n 100 -T 0.7
mullama run model.gguf "List three colors." --json | tail -n 1
"""
BENCH_EXAMPLES = """
mullama bench model.gguf
mullama bench model.gguf --threads 4 --json > four-threads.json
"""
DOCTOR_EXAMPLES = """
mullama doctor
mullama doctor model.gguf --json
"""

app = typer.Typer(name="mullama", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})


@dataclass(frozen=True, slots=True)
class Order:
    """A parsed command line.

    Attributes:
        run: Runs the command.
        json: Whether a failure is also reported as an event.
    """

    run: Callable[[], None]
    json: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Text goes to stdout, everything else to stderr."""
    if sys.stdout is None:
        say("mullama: standard output is closed")
        return FAILED
    warnings.showwarning = lambda message, *_: say(f"mullama: warning: {message}")
    try:
        return attempt(sys.argv[1:] if arguments is None else arguments)
    except OutputError as error:
        discard(sys.stdout)
        if isinstance(error.cause, BrokenPipeError):
            return 0  # the reader has seen enough, which is not an error
        say(f"mullama: cannot write to standard output: {error.cause.strerror}")
    except OSError as error:
        say(plain(f"mullama: {error.strerror or error}"))
    except MemoryError:
        say("mullama: out of memory")
    return FAILED


def attempt(arguments: Sequence[str]) -> int:
    """Runs what the arguments ask for. A failure is reported on stderr, and as an event if events were asked for."""
    try:
        order = parse(arguments)
    except Exception as error:
        # Newer versions of Typer bring a Click of their own, so the class of Click's errors has no name of its own.
        if not hasattr(error, "format_message"):
            raise
        say(plain(f"mullama: {error.format_message()} (see --help)"))
        return int(getattr(error, "exit_code", FAILED))
    if isinstance(order, int):
        return order
    try:
        order.run()
    except MullamaError as error:
        say(plain(f"mullama: {error}"))
        if order.json:
            write_event(type="error", code=error.code, message=str(error))
        return error.exit_code
    return 0


def parse(arguments: Sequence[str]) -> Order | int:
    """Parses the command line. Returns an exit code if that is all there was to do, as for `--help`."""
    try:
        order: Order | int | None = app(list(arguments), prog_name="mullama", standalone_mode=False)
    except SystemExit as done:
        # A shell asked for completions, whose failure counts; otherwise nobody reads the help any more.
        asked = any(word.endswith("-completion") for word in arguments)
        return done.code if asked and isinstance(done.code, int) else 0
    return 0 if order is None else order


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def command(context: typer.Context, *, version: option.Version = False) -> Order | None:
    """Run language models on this machine."""
    if version:
        return Order(lambda: write_line(f"mullama {__version__}"))
    if context.invoked_subcommand is None:
        text = context.get_help()
        return Order(lambda: write_line(text))
    return None


@app.command("run", cls=Command, epilog=RUN_EXAMPLES)
def run_command(  # noqa: PLR0913, PLR0917  # an option each
    context: typer.Context,
    model: option.ModelName,
    prompt: option.Prompt = None,
    max_tokens: option.MaxTokens = None,
    temperature: option.Temperature = None,
    top_k: option.TopK = None,
    top_p: option.TopP = None,
    min_p: option.MinP = None,
    repeat_penalty: option.RepeatPenalty = None,
    seed: option.Seed = None,
    stop: option.Stop = None,
    timeout: option.Timeout = None,
    set: option.Set = None,  # noqa: A002  # as the option
    system: option.System = None,
    raw: option.Raw = False,  # noqa: FBT002  # an option, given by name
    chat_template: option.ChatTemplate = None,
    no_history: option.NoHistory = False,  # noqa: FBT002  # the same
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = -1,
    no_stream: option.NoStream = False,  # noqa: FBT002  # the same
    no_wrap: option.NoWrap = False,  # noqa: FBT002  # the same
    render: option.Render = False,  # noqa: FBT002  # the same
    json: option.EventsJson = False,  # noqa: FBT002  # the same
    verbose: option.Verbose = False,  # noqa: FBT002  # the same
) -> Order:
    """Generate text from a prompt. Without one, on a terminal: start a conversation."""
    given: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    given |= {"repeat_penalty": repeat_penalty, "seed": seed, "stop_sequences": stop, "timeout_ms": timeout}
    words: dict[str, Any] = {"raw": raw, "stream": not no_stream, "wrap": not no_wrap, "render": render, "json": json}
    words |= {"model": model, "system": system, "gpu_layers": gpu_layers, "history": not no_history}
    words |= {"verbose": verbose} | texts(context, prompt or [], chat_template, words)

    def start() -> None:
        # Settings out of range are refused here, before the model is loaded.
        config = configured({name: value for name, value in given.items() if value is not None}, set or [])
        begin(Job(config=config, params=ContextParams(n_ctx=ctx_size, n_threads=threads), **words))

    return Order(start, json)


def texts(context: typer.Context, prompt: list[str], template: str | None, words: dict[str, Any]) -> dict[str, Any]:
    """Reads the prompt and the chat template. Refuses options that contradict each other, by name."""
    if words["raw"] and words["system"] is not None:
        context.fail("--raw and --system exclude each other: a system message is part of a chat")
    if words["raw"] and template is not None:
        context.fail("--raw and --chat-template exclude each other: --raw uses no template")
    try:
        read = {"prompt": read_prompt(prompt), "chat_template": None if template is None else read_text(template)}
    except TextError as error:
        context.fail(str(error))
    for name in ("json", "raw"):
        if read["prompt"] is None and words[name]:
            context.fail(f"--{name} requires a PROMPT; it is not available in a conversation.")
    return read


def configured(given: dict[str, Any], settings: list[str]) -> StreamConfig:
    """The settings that the options and `--set` make.

    Raises:
        InvalidConfigError: A setting is unknown, out of range, or given twice.
    """
    config = replace(DEFAULTS, **given)
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            message = f"--set {setting} has no value; write --set NAME=VALUE"
            raise InvalidConfigError(message)
        if name in given:
            message = f"{name} is given twice: as an option of its own or with --set, and with --set {setting}"
            raise InvalidConfigError(message)
        given[name] = text
        config = changed(config, name, text)
    return config


def begin(job: Job) -> None:
    """Runs a prompt, or starts a conversation."""
    if job.prompt is not None:
        run(job, job.prompt)
        return
    from mullama._talk import talk  # noqa: PLC0415  # a prompt does not need it

    talk(job)


@app.command("bench", cls=Command, epilog=BENCH_EXAMPLES)
def bench_command(  # noqa: PLR0913  # an option each
    context: typer.Context,
    model: option.ModelName,
    *,
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = -1,
    seconds: option.Seconds = 2.0,
    json: option.Json = False,
) -> Order:
    """Measure a model on this machine: speed, time to first token, overhead of Python, memory."""
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:  # NaN is refused too
        context.fail(f"--seconds is {seconds}, but must be {MIN_SECONDS} to {MAX_SECONDS}")

    def start() -> None:
        from mullama._bench import Bench, bench  # noqa: PLC0415  # a prompt does not need it

        params = ContextParams(n_ctx=ctx_size, n_threads=threads)
        bench(Bench(model=model, params=params, gpu_layers=gpu_layers, seconds=seconds, json=json))

    return Order(start, json)


@app.command("doctor", cls=Command, epilog=DOCTOR_EXAMPLES)
def doctor_command(model: option.MaybeModelName = None, *, json: option.Json = False) -> Order:
    """Show system information, and diagnose problems with a model."""

    def start() -> None:
        from mullama._doctor import doctor  # noqa: PLC0415  # a prompt does not need it

        doctor(model, json=json)

    return Order(start, json)
