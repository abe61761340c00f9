"""The command `mullama`: reads its arguments, calls the package, and ends with the exit code of the error table."""

# Typer looks at the annotations when the command starts, so none is put off.
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import typer

from mullama import ContextParams, MullamaError, StreamConfig, __version__
from mullama import _options as option
from mullama._output import mute, plain, say, write_event, write_line
from mullama._run import Job, run

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

SHORTEST, LONGEST = 0.05, 3600.0
"""Seconds of a measurement: below, it tells nothing; above, nobody waits."""

# What Click refuses has one root, but no name that all versions of Typer share: the newer bring a Click of their own.
Refusal: type[typer.BadParameter] = typer.BadParameter.__mro__[2]

app = typer.Typer(name="mullama", add_completion=False)


@dataclass(frozen=True, slots=True)
class Order:
    """A command as it was asked for.

    Attributes:
        carry_out: Does it.
        json: Whether a failure is to be an event too.
    """

    carry_out: Callable[[], None]
    json: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Text goes to stdout, everything else to stderr."""
    if sys.stdout is None:
        say("mullama: standard output is closed")
        return FAILED_OUTPUT
    warnings.showwarning = lambda message, *_: say(f"mullama: warning: {message}")
    try:
        return attempt(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        # Nobody reads any more, which is no error.
        mute(sys.stdout)
        return 0
    except OSError as error:
        mute(sys.stdout)
        say(f"mullama: cannot write to standard output: {error.strerror}")
        return FAILED_OUTPUT


def attempt(arguments: Sequence[str]) -> int:
    """Does what the arguments say. A failure is told on stderr, and as an event where events were asked for."""
    try:
        order = parse(arguments)
    except Refusal as refusal:
        say(f"mullama: {refusal.format_message()} (--help tells what there is)")
        return refusal.exit_code
    if isinstance(order, int):
        return order
    try:
        order.carry_out()
    except MullamaError as error:
        say(plain(f"mullama: {error}"))
        if order.json:
            write_event(type="error", code=error.code, message=str(error))
        return EXIT_CODES[error.code]
    return 0


def parse(arguments: Sequence[str]) -> Order | int:
    """What the arguments ask for; the exit code where that is done already, as help is."""
    try:
        order: Order | int | None = app(list(arguments), prog_name="mullama", standalone_mode=False)
    except SystemExit:
        return 0  # nobody reads the help any more
    return 0 if order is None else order


@app.callback(invoke_without_command=True)
def command(context: typer.Context, *, version: option.Version = False) -> Order | None:
    """Text from language models, streamed on this machine."""
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
    """Writes what follows a prompt. Without one, on a terminal: a conversation."""
    text = read_prompt(prompt, context)
    if text is None and json:
        context.fail("--json needs a PROMPT: a conversation is no line an event.")
    options = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed, "stop_sequences": stop}
    options |= {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    given = {name: value for name, value in options.items() if value is not None}
    output = {"stream": not no_stream, "json": json, "verbose": verbose}

    def start() -> None:
        # A setting that is out of its range is refused here, before the model is loaded.
        config = replace(StreamConfig(timeout_ms=timeout), **given)  # type: ignore[arg-type]  # names of its fields
        params = ContextParams(n_ctx=ctx_size, n_threads=threads)
        begin(
            Job(model=model, prompt=text, system=system, config=config, params=params, gpu_layers=gpu_layers, **output)
        )

    return Order(start, json)


def begin(job: Job) -> None:
    """Runs a prompt, or begins a conversation."""
    if job.prompt is not None:
        run(job, job.prompt)
        return
    from mullama._talk import talk  # noqa: PLC0415  # a prompt needs none of it

    talk(job)


def read_prompt(prompt: str | None, context: typer.Context) -> str | None:
    """The prompt of the command line, or all of standard input without its last line end; none from a terminal."""
    if prompt is not None and prompt != "-":
        return prompt
    if sys.stdin is None:
        context.fail("a prompt is missing: give it as PROMPT, or pipe it in")
    if prompt is None and sys.stdin.isatty():
        return None
    try:
        given = sys.stdin.buffer.read()
    except OSError as error:
        context.fail(f"cannot read the prompt from standard input: {error.strerror}")
    # What is no UTF-8 becomes lone surrogates, and those are refused as what they are: no text.
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
    """Measures a model on this machine: speed, first token, what Python costs, memory."""
    if not SHORTEST <= seconds <= LONGEST:  # nor is it one that is no number
        context.fail(f"--seconds is {seconds}, but must be {SHORTEST} to {LONGEST}")

    def start() -> None:
        from mullama._bench import Bench, bench  # noqa: PLC0415  # a prompt needs none of it

        params = ContextParams(n_ctx=ctx_size, n_threads=threads)
        bench(Bench(model=model, params=params, gpu_layers=gpu_layers, seconds=seconds, json=json))

    return Order(start, json)


@app.command("doctor")
def doctor_command(model: option.MaybeModelName = None) -> Order:
    """Tells what this machine is, what of it mullama uses, and what is wrong with a model."""

    def start() -> None:
        from mullama._doctor import doctor  # noqa: PLC0415  # a prompt needs none of it

        doctor(model)

    return Order(start)
