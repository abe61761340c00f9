"""The command `mullama serve`: runs the server until a signal ends it."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from _mullama_command import interrupts
from mullama import _log
from mullama._exceptions import InvalidConfigError, invalid_config
from mullama._output import say
from mullama._server import ServerOptions, name_of, started
from mullama._values import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

OPTIONS = {
    "request_timeout": "--timeout",
    "api_keys": "--api-key",
    "allowed_origins": "--allow-origin",
    "allowed_hosts": "--allow-host",
}
"""The options that are called otherwise than the fields that they set."""

LAST_PORT = 65535
LONGEST_PORT = 5
"""Digits of the largest port."""


class Terminated(BaseException):
    """The signal that asks for an orderly end."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for.

    Attributes:
        models: Names and paths, or `NAME=MODEL`.
        listen: Where to listen, in place of host and port.
        log_level: The least level of the lines that are written: debug, info, warning or error.
        log_format: How they are written: text or json.
        options: The other options by name.
    """

    models: Sequence[str]
    listen: str | None
    log_level: str
    log_format: str
    options: Mapping[str, Any]


def serve(wanted: Wanted) -> None:
    """Serves until SIGINT or SIGTERM; then running requests may end. A second signal closes everything at once."""
    models = named(wanted.models)
    _write_log(wanted.log_level, as_json=wanted.log_format == "json")
    try:
        server = started(models, ServerOptions(**{**wanted.options, **_listen(wanted.listen, wanted.options)}))
    except InvalidConfigError as error:
        raise _named_as_option(error) from None
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        # A signal may come at any time from here on, and Python raises its exception wherever it then is.
        try:
            say(f"mullama: serving {', '.join(models)} at {server.url()}")
            server.wait()
        except (KeyboardInterrupt, Terminated):
            server.drain()
            interrupts.rearm()
            say("mullama: stopping when running requests have ended; another signal stops at once")
            server.wait()
    except (KeyboardInterrupt, Terminated):
        server.abort()
        server.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)


def named(models: Sequence[str]) -> dict[str, str]:
    """The models by the names that clients use.

    Raises:
        InvalidConfigError: Two models have one name, or a name or a model is empty.
    """
    found: dict[str, str] = {}
    for text in models:
        name, equals, source = text.partition("=")
        # An equals sign may be part of an address or a path; a name has neither a slash nor a colon before it.
        if not equals or "://" in name:
            name, source = name_of(text), text
        if not name or not source:
            wrong = invalid_config("--model", quoted(text), "a model, or NAME=MODEL")
            raise wrong
        if name in found:
            wrong = invalid_config(
                "--model", quoted(text), f"named otherwise: {quoted(name)} is taken; write NAME=MODEL"
            )
            raise wrong
        found[name] = source
    return found


def _write_log(level: str, *, as_json: bool) -> None:
    """Writes the log to stderr from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("mullama")
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    # What llama.cpp says about each model that it loads is of interest to those who look for a fault.
    logging.getLogger("mullama.llama").setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    _log.flush()


class _JsonLines(logging.Formatter):
    """Writes each line of the log as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: time in seconds of Unix time, level, logger and message."""
        line = {"time": record.created, "level": record.levelname.lower(), "logger": record.name}
        return json.dumps({**line, "message": record.getMessage()})


def _listen(where: str | None, others: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `--listen`.

    Raises:
        InvalidConfigError: It is none of the three forms, or `--host` or `--port` says something else.
    """
    if where is None:
        return {}
    host, colon, port = where.rpartition(":")
    wanted: dict[str, Any]
    if where == "systemd":
        wanted = {"systemd": True}
    elif where.startswith("unix:") and where != "unix:":
        wanted = {"unix": where.removeprefix("unix:")}
    elif colon and host and _is_port(port):
        wanted = {"host": host.removeprefix("[").removesuffix("]"), "port": int(port)}
    else:
        wrong = invalid_config("--listen", quoted(where), "unix:PATH, HOST:PORT or systemd")
        raise wrong
    for name in ("host", "port"):
        if name in others and others[name] != wanted.get(name):
            value = quoted(str(others[name]))
            wrong = invalid_config("--" + name, value, f"left out, because --listen is {quoted(where)}")
            raise wrong
    return wanted


def _is_port(text: str) -> bool:
    """Whether a text is a port; its length is checked before it is read as a number."""
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_PORT and int(text) <= LAST_PORT


def _named_as_option(error: InvalidConfigError) -> InvalidConfigError:
    """The error of a field of the server, with the name of its option."""
    if error.field not in ServerOptions.__dataclass_fields__:
        return error
    option = OPTIONS.get(error.field, "--" + error.field.replace("_", "-"))
    value = "missing" if error.value == "None" else error.value
    return invalid_config(option, value, error.range)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
