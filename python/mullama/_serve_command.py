"""The commands `mullama serve` and `mullama launch`: their options."""

# Typer evaluates the annotations when the command starts, so they are not postponed.
from enum import Enum
from typing import Annotated

import typer

from mullama import _options as option
from mullama._options import in_panel

SERVE_EXAMPLES = """
mullama serve demo
mullama serve --model llama3.2:1b --websocket
mullama serve small=model.gguf demo --max-loaded 1
mullama serve -m demo --host 0.0.0.0 --api-key "$KEY"
mullama serve -m demo --listen unix:/run/mullama.sock
"""


_MODELS = "Models"
Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Serve these models: names, paths, or NAME=MODEL to choose the name for clients. The first is the "
        "default; arguments come before -m. A model is loaded when it is first used.",
        show_default=False,
        autocompletion=option.complete_model,
    ),
]
MoreModels = Annotated[
    list[str] | None,
    in_panel(
        _MODELS,
        "-m --model",
        "MODEL",
        "Serve this model, after those that are arguments. May be repeated.",
        autocompletion=option.complete_model,
    ),
]
MaxLoaded = Annotated[
    int, in_panel(_MODELS, "--max-loaded", "N", "Keep at most N models in memory; 0 is no limit (default: 0).")
]
IdleUnload = Annotated[
    float | None,
    in_panel(_MODELS, "--idle-unload", "SECONDS", "Unload a model after this time without a request (default: never)."),
]
_LISTEN = "Connections"
Host = Annotated[str | None, in_panel(_LISTEN, "--host", "HOST", "Listen on this address (default: 127.0.0.1).")]
Port = Annotated[
    int | None, in_panel(_LISTEN, "-p --port", "PORT", "Listen on this port; 0 picks one (default: 8080).")
]
Listen = Annotated[
    str | None,
    in_panel(_LISTEN, "--listen", "WHERE", "Listen on unix:PATH, on HOST:PORT, or on systemd's socket (systemd)."),
]
Websocket = Annotated[bool, in_panel(_LISTEN, "--websocket", None, "Serve WebSocket clients at /ws.")]
TlsCert = Annotated[str | None, in_panel(_LISTEN, "--tls-cert", "FILE", "Use TLS with this certificate chain (PEM).")]
TlsKey = Annotated[str | None, in_panel(_LISTEN, "--tls-key", "FILE", "Use TLS with this private key (PEM).")]
_ACCESS = "Access"
ApiKey = Annotated[
    list[str] | None,
    in_panel(_ACCESS, "--api-key", "KEY", "Require this key. May be repeated.", envvar="MULLAMA_API_KEY"),
]
AllowNoKeys = Annotated[
    bool,
    in_panel(
        _ACCESS, "--allow-no-keys", None, "Serve other machines without a key: everyone who reaches them may call."
    ),
]
NoPull = Annotated[bool, in_panel(_ACCESS, "--no-remote-pull", None, "Let no client download or remove models.")]
AllowOrigin = Annotated[
    list[str] | None,
    in_panel(_ACCESS, "--allow-origin", "ORIGIN", "Let web pages of this origin call the server. May be repeated."),
]
AllowHost = Annotated[
    list[str] | None,
    in_panel(_ACCESS, "--allow-host", "NAME", "Let clients call the server by this name. May be repeated."),
]
NoMetrics = Annotated[bool, in_panel(_ACCESS, "--no-metrics", None, "Do not serve /metrics.")]


class LogLevel(str, Enum):
    """How much is written to the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(str, Enum):
    """How the log is written."""

    TEXT = "text"
    JSON = "json"


_LOG = "Log"
Level = Annotated[
    LogLevel, in_panel(_LOG, "--log-level", "LEVEL", "Write debug, info, warning or error and above (default: info).")
]
Format = Annotated[LogFormat, in_panel(_LOG, "--log-format", "FORMAT", "Write lines as text or json (default: text).")]
_BOUNDS = "Bounds"
Parallel = Annotated[
    str | None, in_panel(_BOUNDS, "--parallel", "N", "Generate at most N streams of a model at once (default: 8).")
]
MaxQueue = Annotated[
    str | None, in_panel(_BOUNDS, "--max-queue", "N", "Let at most N streams wait for a slot (default: 2048).")
]
RequestTimeout = Annotated[
    float | None, in_panel(_BOUNDS, "--timeout", "SECONDS", "End a generation after this time (default: no limit).")
]
MaxConnections = Annotated[
    int, in_panel(_BOUNDS, "--max-connections", "N", "Keep at most N connections open (default: 4096).")
]
DrainTimeout = Annotated[
    float,
    in_panel(
        _BOUNDS, "--drain-timeout", "SECONDS", "Give running requests this time when the server stops (default: 30)."
    ),
]

LAUNCH_EXAMPLES = """
eval "$(mullama launch openai)"   # for this shell
mullama launch claude             # runs Claude Code
mullama launch openai python chat.py
"""


def complete_client(incomplete: str) -> list[str]:
    """Clients that begin with what was typed."""
    from mullama._launch import CLIENTS  # noqa: PLC0415  # a prompt does not need it

    return [name for name in CLIENTS if name.startswith(incomplete)]


Client = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT",
        help="openai, anthropic, ollama, langchain, aider, claude, goose or qwen.",
        show_default=False,
        autocompletion=complete_client,
    ),
]
Program = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROGRAM",
        help="Program to run in this environment, with its arguments. Without one, the environment is written, unless "
        "the client is a program itself.",
        show_default=False,
    ),
]
_SERVER = "Server"
Url = Annotated[
    str,
    in_panel(_SERVER, "--url", "URL", "Address of the server (default: http://127.0.0.1:8080).", envvar="MULLAMA_URL"),
]
ServerKey = Annotated[str | None, in_panel(_SERVER, "--api-key", "KEY", "Key of the server.", envvar="MULLAMA_API_KEY")]
ServerModel = Annotated[
    str | None, in_panel(_SERVER, "-m --model", "MODEL", "Model for the client (default: the server's first).")
]
OnlyPrint = Annotated[bool, in_panel(_SERVER, "--print", None, "Write the environment, and run nothing.")]
