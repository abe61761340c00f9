"""The command `mullama`: parses its arguments, calls the package, and returns the exit code of the error."""

# Typer evaluates the annotations when the command starts, so they are not postponed.
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import typer

from mullama import ContextParams, MullamaError, StreamConfig, __version__
from mullama import _options as option
from mullama._output import OutputError, discard, plain, say, write_event, write_line
from mullama._run import Job, run

FAILED = 1
"""Exit code of a failure that is neither the model's nor the prompt's, such as a full disk."""

MIN_SECONDS, MAX_SECONDS = 0.05, 3600.0
"""Bounds of `--seconds`: less measures nothing, and nobody waits longer."""

app = typer.Typer(name="mullama", add_completion=False)


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
        say(f"mullama: {error.format_message()} (see --help)")
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
    except SystemExit:
        return 0  # nobody reads the help any more
    return 0 if order is None else order


@app.callback(invoke_without_command=True)
def command(context: typer.Context, *, version: option.Version = False) -> Order | None:
    """Run language models on this machine."""
    if version:
        return Order(lambda: write_line(f"mullama {__version__}"))
    if context.invoked_subcommand is None:
        context.fail("Missing command: run, bench or doctor.")
    return None


@app.command("run")
def run_command(  # noqa: PLR0913  # an option each
    context: typer.Context,
    model: option.ModelName,
    prompt: option.Prompt = None,
    *,
    max_tokens: option.MaxTokens = None,
    temperature: option.Temperature = None,
    top_k: option.TopK = None,
    top_p: option.TopP = None,
    min_p: option.MinP = None,
    seed: option.Seed = None,
    stop: option.Stop = None,
    system: option.System = None,
    timeout: option.Timeout = None,
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = -1,
    no_stream: option.NoStream = False,
    json: option.Json = False,
    verbose: option.Verbose = False,
) -> Order:
    """Generate text from a prompt. Without one, on a terminal: start a conversation."""
    text = read_prompt(prompt, context)
    if text is None and json:
        context.fail("--json requires a PROMPT; it is not available in a conversation.")
    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "stop_sequences": stop}
    options |= {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    given = {name: value for name, value in options.items() if value is not None}
    output = {"stream": not no_stream, "json": json, "verbose": verbose}

    def start() -> None:
        # Settings out of range are refused here, before the model is loaded.
        config = replace(StreamConfig(timeout_ms=timeout), **given)  # type: ignore[arg-type]  # names of its fields
        params = ContextParams(n_ctx=ctx_size, n_threads=threads)
        begin(
            Job(model=model, prompt=text, system=system, config=config, params=params, gpu_layers=gpu_layers, **output)
        )

    return Order(start, json)


def begin(job: Job) -> None:
    """Runs a prompt, or starts a conversation."""
    if job.prompt is not None:
        run(job, job.prompt)
        return
    from mullama._talk import talk  # noqa: PLC0415  # a prompt does not need it

    talk(job)


def read_prompt(prompt: str | None, context: typer.Context) -> str | None:
    """Returns the prompt argument, or standard input without its last newline; None if that is a terminal."""
    if prompt is not None and prompt != "-":
        return prompt
    if sys.stdin is None:
        context.fail("no prompt: give it as PROMPT, or pipe it to standard input")
    if prompt is None and sys.stdin.isatty():
        return None
    try:
        given = sys.stdin.buffer.read()
    except OSError as error:
        context.fail(f"cannot read the prompt from standard input: {error.strerror}")
    # Invalid UTF-8 becomes lone surrogates, which the engine refuses.
    return given.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")


@app.command("bench")
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


@app.command("doctor")
def doctor_command(model: option.MaybeModelName = None) -> Order:
    """Show system information, and diagnose problems with a model."""

    def start() -> None:
        from mullama._doctor import doctor  # noqa: PLC0415  # a prompt does not need it

        doctor(model)

    return Order(start)
