"""The command `mullama launch`: points well-known clients at a running server through their environment."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mullama._failure import ProgramError, ServerError
from mullama._output import say, write_event, write_line
from mullama._values import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIMIT = 5.0
"""Seconds that a server has to answer."""

NOT_FOUND, NOT_RUNNABLE = 127, 126
"""Exit codes that shells use if a program does not exist, and if it exists but cannot be run."""

MOST_BYTES = 1 << 20
"""Most bytes of the list of models that are read."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client, and how it is pointed at a server.

    Attributes:
        words: What it is, in a few words.
        environment: Variables; `{url}`, `{key}` and `{model}` are filled in.
        program: The program that is run if the command line names none.
        needs_tools: Whether its requests have tools, which the server does not support yet.
    """

    words: str
    environment: Mapping[str, str]
    program: str | None = None
    needs_tools: bool = False


_OPENAI = {"OPENAI_BASE_URL": "{url}/v1", "OPENAI_API_KEY": "{key}"}

CLIENTS: dict[str, Client] = {
    "openai": Client("OpenAI's SDKs", _OPENAI),
    "anthropic": Client("Anthropic's SDKs", {"ANTHROPIC_BASE_URL": "{url}", "ANTHROPIC_API_KEY": "{key}"}),
    "ollama": Client("Ollama's SDKs and command", {"OLLAMA_HOST": "{url}", "OLLAMA_API_KEY": "{key}"}),
    "langchain": Client("LangChain's ChatOpenAI", {**_OPENAI, "OPENAI_API_BASE": "{url}/v1"}),
    "aider": Client(
        "aider", {"OPENAI_API_BASE": "{url}/v1", "OPENAI_API_KEY": "{key}", "AIDER_MODEL": "openai/{model}"}, "aider"
    ),
    "claude": Client(
        "Claude Code",
        {
            "ANTHROPIC_BASE_URL": "{url}",
            "ANTHROPIC_AUTH_TOKEN": "{key}",
            # A key of Anthropic's in the user's environment must not be sent to this server.
            "ANTHROPIC_API_KEY": "",
            "ANTHROPIC_MODEL": "{model}",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "{model}",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "{model}",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "{model}",
            # Version 1 reads this one instead of the three above.
            "ANTHROPIC_SMALL_FAST_MODEL": "{model}",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        "claude",
        needs_tools=True,
    ),
    "goose": Client(
        "goose",
        {
            "GOOSE_PROVIDER": "openai",
            "GOOSE_MODEL": "{model}",
            "OPENAI_HOST": "{url}",
            "OPENAI_BASE_PATH": "v1/chat/completions",
            "OPENAI_API_KEY": "{key}",
        },
        "goose",
        needs_tools=True,
    ),
    "qwen": Client("Qwen Code", {**_OPENAI, "OPENAI_MODEL": "{model}"}, "qwen", needs_tools=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the command line asks for.

    Attributes:
        client: The client's name.
        program: The program and its arguments; if there is none, the environment is written.
        url: The address of the server.
        api_key: The key of the server.
        model: The model; None is the server's first.
        json: Write the environment as one JSON object.
    """

    client: str
    program: Sequence[str]
    url: str
    api_key: str | None
    model: str | None
    json: bool


def launch(wanted: Launch) -> None:
    """Writes the environment of a client, or runs a program in it and exits with its exit code.

    Raises:
        ServerError: The server does not answer, or has no such model.
        ProgramError: The program cannot be run.
    """
    environment = environment_of(wanted)
    if CLIENTS[wanted.client].needs_tools:
        say(f"mullama: {wanted.client} sends tools, which the server does not support yet: it refuses such requests")
    if wanted.json:
        write_event(**environment)
    elif wanted.program:
        sys.exit(_run(wanted, {**os.environ, **environment}))
    else:
        for name, value in environment.items():
            write_line(assignment(name, value))


def _run(wanted: Launch, environment: Mapping[str, str]) -> int:
    """Runs the program to its end, and returns its exit code."""
    try:
        # The user's own program, with the user's own arguments.
        return subprocess.call([*wanted.program], env=environment)  # noqa: S603
    except OSError as error:
        program = wanted.program[0]
        is_missing = isinstance(error, FileNotFoundError)
        # A script whose interpreter is missing does exist.
        is_unknown = is_missing and os.sep not in program and shutil.which(program) is None
        reason = "it was not found in PATH" if is_unknown else error.strerror or str(error)
        message = (
            f"cannot run {quoted(program)}: {reason}; mullama launch {wanted.client} --print shows its environment"
        )
        raise ProgramError(message, NOT_FOUND if is_missing else NOT_RUNNABLE) from None


def environment_of(wanted: Launch) -> dict[str, str]:
    """The variables of the client, for this server."""
    url = wanted.url.rstrip("/")
    models = models_of(url, wanted.api_key)
    model = wanted.model or next(iter(models), "")
    if model not in models:
        names = ", ".join(models) or "none"
        message = f"the server at {url} has no model named {model}; it has {names}"
        raise ServerError(message)
    # Clients refuse to start without a key, even where the server needs none.
    facts = {"url": url, "key": wanted.api_key or "mullama", "model": model}
    return {name: text.format(**facts) for name, text in CLIENTS[wanted.client].environment.items()}


def models_of(url: str, key: str | None) -> list[str]:
    """The models of the server."""
    request = _request(url, key)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:  # noqa: S310  # checked there
            document: Any = json.loads(answer.read(MOST_BYTES))
        return [str(each["id"]) for each in document["data"]]
    except urllib.error.HTTPError as error:
        hint = "; pass its key with --api-key" if error.code == 401 else ""  # noqa: PLR2004  # HTTP's number
        message = f"the server at {url} answered with the status {error.code}{hint}"
        raise ServerError(message) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        message = f"no server answers at {url} ({reason}); start one with mullama serve, or pass --url"
        raise ServerError(message) from None
    except (http.client.HTTPException, ValueError, LookupError, TypeError):
        message = f"the server at {url} does not list its models"
        raise ServerError(message) from None


def _request(url: str, key: str | None) -> urllib.request.Request:
    """The request for the list of models."""
    if not url.startswith(("http://", "https://")):
        message = f"--url must begin with http:// or https://, not {url!r}"
        raise ServerError(message)
    if not (url.isascii() and url.isprintable() and " " not in url and _has_address(url)):
        message = f"--url must be an address such as http://127.0.0.1:8080, not {url!r}"
        raise ServerError(message)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        # The key itself is not for the screen.
        message = "--api-key must consist of printable ASCII characters without spaces"
        raise ServerError(message)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return urllib.request.Request(f"{url}/v1/models", headers=headers)  # noqa: S310  # checked above


def _has_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no address of IPv6
        return False


_PWSH_QUOTES = frozenset("'\u2018\u2019\u201a\u201b")
"""What ends a text in single quotes in PowerShell, where typographic quotes are quotes too."""


def assignment(name: str, value: str) -> str:
    """The line that sets a variable, in the language of the user's shell."""
    shell = os.path.split(os.environ.get("SHELL", ""))[1]
    if shell == "fish":
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}';"
    if shell in {"pwsh", "pwsh.exe"} or (not shell and sys.platform == "win32"):
        escaped = "".join(each * 2 if each in _PWSH_QUOTES else each for each in value)
        return f"$env:{name} = '{escaped}'"
    return f"export {name}={shlex.quote(value)}"
