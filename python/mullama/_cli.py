"""The command `mullama`: parses its arguments, calls the package, and returns the exit code of the error."""

# Typer evaluates the annotations when the command starts, so they are not postponed.
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import typer

from mullama import __version__
from mullama import _options as option
from mullama import _serve_command as serve_option
from mullama._failure import FAILED, Ended, ReportedError, failure_of, told, write_error
from mullama._help import Command, Group
from mullama._models import register
from mullama._output import OutputError, say, write_line
from mullama._prompt import is_stdin, read_prompt, read_template
from mullama._run import Job, run
from mullama._settings import configured, duration, layers, params
from mullama._shell_words import whole_words

EXAMPLES = """
mullama run demo                # have a conversation
mullama run model.gguf "Why is the sky blue?"
cat notes.txt | mullama run model.gguf summarize this
mullama pull llama3.2:1b        # download a model
mullama list                    # models on this machine
mullama serve demo              # an HTTP server
mullama bench model.gguf        # measure speed
mullama doctor model.gguf       # check machine and model
mullama --install-completion    # for Tab in this shell
"""
RUN_EXAMPLES = """
mullama run model.gguf          # have a conversation
mullama run model.gguf Write a poem about rain
cat notes.txt | mullama run model.gguf "Summarize this."
mullama run model.gguf --raw "Once upon a time" -n 100
mullama run model.gguf "Hello!" --json | tail -n 1
"""
BENCH_EXAMPLES = """
mullama bench model.gguf
mullama bench model.gguf --threads 4 --json > speed.json
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
    """

    run: Callable[[], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Text goes to stdout, everything else to stderr."""
    if sys.stdout is None:
        say("mullama: standard output is closed")
        return FAILED
    warnings.showwarning = lambda message, *_: say(f"mullama: warning: {message}")
    try:
        return attempt(sys.argv[1:] if arguments is None else arguments)
    except OutputError as error:
        # A reader that has seen enough is not an error.
        return FAILED if told(error) else 0


def attempt(arguments: Sequence[str]) -> int:
    """Runs what the arguments ask for. A failure is reported on stderr, and as an event if events were asked for."""
    try:
        order = parse(arguments)
        if isinstance(order, int):
            return order
        order.run()
    except Ended:
        raise
    except ReportedError as reported:
        return reported.exit_code
    except KeyboardInterrupt:
        if asks_for_json(arguments):
            write_error("INTERRUPTED", "interrupted")
        raise
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        say(f"mullama: {failure.message}")
        if asks_for_json(arguments):
            write_error(failure.code, failure.message)
        return failure.exit_code
    return 0


def parse(arguments: Sequence[str]) -> Order | int:
    """Parses the command line. Returns an exit code if that is all there was to do, as for `--help`."""
    try:
        with whole_words():
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
    no_pull: option.NoPull = False,  # noqa: FBT002  # the same
    no_history: option.NoHistory = False,  # noqa: FBT002  # the same
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = "-1",
    no_stream: option.NoStream = False,  # noqa: FBT002  # the same
    no_wrap: option.NoWrap = False,  # noqa: FBT002  # the same
    render: option.Render = False,  # noqa: FBT002  # the same
    json: option.EventsJson = False,  # noqa: FBT002  # the same
    verbose: option.Verbose = False,  # noqa: FBT002  # the same
) -> Order:
    """Generate text from a prompt. Without one, on a terminal: start a conversation."""
    options = {
        "--max-tokens": max_tokens,
        "--temperature": temperature,
        "--top-k": top_k,
        "--top-p": top_p,
        "--min-p": min_p,
    }
    options |= {"--repeat-penalty": repeat_penalty, "--seed": seed, "--timeout": timeout}
    words: dict[str, Any] = {"raw": raw, "stream": not no_stream, "wrap": not no_wrap, "render": render, "json": json}
    words |= {"model": model, "system": system, "history": not no_history, "verbose": verbose}
    words |= {"pull": not no_pull}
    if raw and system is not None:
        context.fail("--raw and --system exclude each other: a system message is part of a chat")
    if raw and chat_template is not None:
        context.fail("--raw and --chat-template exclude each other: --raw uses no template")

    def start() -> None:
        # Settings out of range are refused before anything is read or loaded.
        named = {option: text for option, text in options.items() if text is not None}
        config, chosen = configured(named, stop, set or [])
        engine = params(ctx_size, threads)
        offloaded = layers(gpu_layers)
        template = None if chat_template is None else read_template(chat_template)
        asked = read_prompt(prompt or [], is_stdin_taken=chat_template is not None and is_stdin(chat_template))
        for name in ("json", "raw"):
            if asked is None and words[name]:
                context.fail(f"--{name} requires a PROMPT; it is not available in a conversation")
        given: dict[str, Any] = {"prompt": asked, "chat_template": template, "gpu_layers": offloaded}
        begin(Job(config=config, given=chosen, params=engine, **given, **words))

    return Order(start)


def begin(job: Job) -> None:
    """Runs a prompt, or starts a conversation."""
    if job.prompt is not None:
        run(job, job.prompt)
        return
    from mullama._talk import talk  # noqa: PLC0415  # a prompt does not need it

    talk(job)


@app.command("bench", cls=Command, epilog=BENCH_EXAMPLES)
def bench_command(  # noqa: PLR0913  # an option each
    model: option.ModelName,
    *,
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = "-1",
    no_pull: option.NoPull = False,
    seconds: option.Seconds = "2",
    json: option.Json = False,
) -> Order:
    """Measure a model on this machine: speed, time to first token, overhead of Python, memory."""

    def start() -> None:
        from mullama._bench import Bench, bench  # noqa: PLC0415  # a prompt does not need it

        engine, offloaded = params(ctx_size, threads), layers(gpu_layers)
        job = Bench(
            model=model,
            pull=not no_pull,
            params=engine,
            gpu_layers=offloaded,
            seconds=duration(seconds),
            json=json,
        )
        bench(job)

    return Order(start)


@app.command("doctor", cls=Command, epilog=DOCTOR_EXAMPLES)
def doctor_command(model: option.MaybeModelName = None, *, json: option.Json = False) -> Order:
    """Show system information, and diagnose problems with a model."""

    def start() -> None:
        from mullama._doctor import doctor  # noqa: PLC0415  # a prompt does not need it

        doctor(model, json=json)

    return Order(start)


@app.command("serve", cls=Command, epilog=serve_option.SERVE_EXAMPLES)
def serve_command(  # noqa: PLR0913  # an option each
    context: typer.Context,
    models: serve_option.Models = None,
    *,
    model: serve_option.MoreModels = None,
    max_loaded: serve_option.MaxLoaded = 0,
    idle_unload: serve_option.IdleUnload = None,
    ctx_size: option.ContextSize = None,
    threads: option.Threads = None,
    gpu_layers: option.GpuLayers = "-1",
    host: serve_option.Host = None,
    port: serve_option.Port = None,
    listen: serve_option.Listen = None,
    websocket: serve_option.Websocket = False,
    tls_cert: serve_option.TlsCert = None,
    tls_key: serve_option.TlsKey = None,
    api_key: serve_option.ApiKey = None,
    allow_no_keys: serve_option.AllowNoKeys = False,
    no_remote_pull: serve_option.NoPull = False,
    allow_origin: serve_option.AllowOrigin = None,
    allow_host: serve_option.AllowHost = None,
    no_metrics: serve_option.NoMetrics = False,
    parallel: serve_option.Parallel = None,
    max_queue: serve_option.MaxQueue = None,
    timeout: serve_option.RequestTimeout = None,
    log_level: serve_option.Level = serve_option.LogLevel.INFO,
    log_format: serve_option.Format = serve_option.LogFormat.TEXT,
    max_connections: serve_option.MaxConnections = 4096,
    drain_timeout: serve_option.DrainTimeout = 30.0,
) -> Order:
    """Serve models over HTTP: the APIs of OpenAI, Anthropic, Ollama and llama-server."""
    served = [*(models or []), *(model or [])]

    def start() -> None:
        from mullama._serve import Wanted, serve, told_as  # noqa: PLC0415  # a prompt does not need it
        from mullama._server import PAUSED, QUEUE  # noqa: PLC0415  # the same

        words: dict[str, Any] = {"max_loaded": max_loaded, "idle_unload": idle_unload}
        words |= {name: value for name, value in {"host": host, "port": port}.items() if value is not None}
        words |= {"websocket": websocket, "tls_cert": tls_cert, "tls_key": tls_key, "api_keys": api_key or ()}
        words |= {"allow_no_keys": allow_no_keys, "allow_pull": not no_remote_pull}
        words |= {"allowed_origins": allow_origin or (), "allowed_hosts": allow_host or ()}
        words |= {"metrics": not no_metrics, "request_timeout": timeout}
        words |= {"max_connections": max_connections, "drain_timeout": drain_timeout}
        as_json = log_format is serve_option.LogFormat.JSON
        with told_as(as_json=as_json):
            if not served:
                context.fail("MODEL is missing: say what to serve, such as mullama serve demo")
            engine = replace(params(ctx_size, threads, parallel, max_queue or str(QUEUE)), max_paused=PAUSED)
            words |= {"context_params": engine, "n_gpu_layers": layers(gpu_layers)}
            serve(Wanted(models=served, listen=listen, log_level=log_level.value, as_json=as_json, options=words))

    return Order(start)


@app.command(
    "launch", cls=Command, epilog=serve_option.LAUNCH_EXAMPLES, context_settings={"ignore_unknown_options": True}
)
def launch_command(  # noqa: PLR0913  # an option each
    context: typer.Context,
    client: serve_option.Client,
    program: serve_option.Program = None,
    *,
    url: serve_option.Url = "http://127.0.0.1:8080",
    api_key: serve_option.ServerKey = None,
    model: serve_option.ServerModel = None,
    only_print: serve_option.OnlyPrint = False,
    json: option.Json = False,
) -> Order:
    """Point a client at a running server: write its environment, or run a program in it."""

    def start() -> None:
        from mullama._launch import CLIENTS, Launch, launch  # noqa: PLC0415  # a prompt does not need it

        if client not in CLIENTS:
            context.fail(f"CLIENT is {client!r}, but must be one of {', '.join(CLIENTS)}")
        own = CLIENTS[client].program
        asked = program or ([own] if own else [])
        launch(
            Launch(
                client=client,
                program=[] if only_print else asked,
                url=url,
                api_key=api_key,
                model=model,
                json=json,
            )
        )

    return Order(start)


register(app, Order)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--json` is among the options, even if the arguments cannot be parsed."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    command = commands.get(next((word for word in arguments if not word.startswith("-")), ""))
    options = [] if command is None else command.params
    with_value = {name for each in options if not getattr(each, "is_flag", True) for name in each.opts}
    words = iter(arguments)
    for word in words:
        if word in {"--", "--json"}:
            return word == "--json"
        if word in with_value:
            next(words, None)
        elif word.startswith("-") and not word.startswith("--"):
            flags = list(takewhile(lambda letter: f"-{letter}" not in with_value, word[1:]))
            if "j" in flags:
                return True
            if len(flags) == len(word) - 2:  # the last letter is an option, whose value is the next word
                next(words, None)
    return False
