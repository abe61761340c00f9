"""The command `mullama serve`: runs the server until a signal ends it."""

from __future__ import annotations

import json
import logging
import re
import signal
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from _mullama_command import interrupts
from mullama import _log
from mullama._exceptions import InvalidConfigError, invalid_config
from mullama._failure import ReportedError, failure_of
from mullama._output import say
from mullama._server import ServerOptions, name_of, started
from mullama._values import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mullama._mullama import Server

OPTIONS = {
    "request_timeout": "--timeout",
    "api_keys": "--api-key",
    "allowed_origins": "--allow-origin",
    "allowed_hosts": "--allow-host",
}
"""The options that are called otherwise than the fields that they set."""

WITHOUT_KEYS = re.compile(r"other machines can reach (\S+), so clients need an API key there")
"""How the server refuses an address that needs keys. What follows is for programs: it names keywords."""

REQUEST = re.compile(r"(?P<method>\S+) (?P<path>\S*)(?P<facts>(?: [a-z_]+=\S+)+)")
"""The line of a request. Its path has no spaces, because it is percent-encoded, and neither has a fact about it.

The path of a CONNECT request is empty.
"""

NUMBERS = frozenset({"status", "duration_ms", "tokens", "has_ended"})
"""Facts that are numbers or truth values, written as in JSON. Others are texts."""

LAST_PORT = 65535
LONGEST_PORT = 5
"""Digits of the largest port."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asks for.

    Attributes:
        models: Names and paths, or `NAME=MODEL`.
        listen: Where to listen, in place of host and port.
        log_level: The least level of the lines that are written: debug, info, warning or error.
        as_json: Write each line of the log as a JSON object.
        options: The other options by name.
    """

    models: Sequence[str]
    listen: str | None
    log_level: str
    as_json: bool
    options: Mapping[str, Any]


def serve(wanted: Wanted) -> None:
    """Serves until SIGINT or SIGTERM; then running requests may end. A second signal closes everything at once.

    Further signals do nothing.
    """
    models = named(wanted.models)
    _write_log(wanted.log_level, as_json=wanted.as_json)
    server = _started(models, wanted)
    # A shell without job control has a background job ignore SIGINT, which stops a server all the same.
    interrupts.arm()
    with interrupts.also_by(signal.SIGTERM):
        try:
            # A signal may come at any time from here on, and Python raises its exception wherever it then is.
            try:
                serving = f"serving {', '.join(models)} at {server.url()}"
                _tell(serving, as_json=wanted.as_json, models=list(models), url=server.url())
                server.wait()
            except KeyboardInterrupt:
                server.drain()
                interrupts.rearm()
                _tell("stopping when running requests have ended; another signal stops at once", as_json=wanted.as_json)
                server.wait()
        except KeyboardInterrupt:
            server.abort()
            server.wait()


@contextmanager
def told_as(*, as_json: bool) -> Iterator[None]:
    """Within the block, failures and warnings are lines of the log if that is JSON, so that they can be parsed.

    Mistakes of this program are still tracebacks.

    Raises:
        ReportedError: Something failed, and was reported.
    """
    if not as_json:
        yield
        return
    previous = warnings.showwarning
    warnings.showwarning = lambda message, *_: _tell(str(message), "WARNING", as_json=True)
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        _tell(failure.message, "ERROR", as_json=True, code=failure.code)
        raise ReportedError(failure.exit_code) from None
    finally:
        warnings.showwarning = previous


def _tell(message: str, level: str = "INFO", *, as_json: bool, **facts: object) -> None:
    """Writes a line of the command itself, whatever the level of the log is."""
    if not as_json:
        say(f"mullama: {message}")
        return
    record = logging.makeLogRecord({"name": "mullama.command", "levelname": level})
    say(_as_json(record, message, facts))


def _started(models: Mapping[str, str], wanted: Wanted) -> Server:
    """The running server. Errors name options of the command line instead of keywords."""
    options = {**wanted.options, **_listen(wanted.listen, wanted.options)}
    try:
        return started(models, ServerOptions(**options))
    except InvalidConfigError as error:
        raise _named_as_option(error) from None
    except PermissionError as error:
        needed = WITHOUT_KEYS.search(str(error))
        if needed is None:
            raise
        because = f"given, because other machines can reach {needed[1]}; --allow-no-keys lets everybody in without one"
        wrong = invalid_config("--api-key", "missing", because)
        raise wrong from None


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
            wrong = invalid_config("MODEL", quoted(text), "a model, or NAME=MODEL")
            raise wrong
        if name in found:
            wrong = invalid_config("MODEL", quoted(text), f"named otherwise: {quoted(name)} is taken; write NAME=MODEL")
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
        """The object: time in seconds of Unix time, level, logger, message, and the facts about a request."""
        message = record.getMessage()
        found = REQUEST.fullmatch(message) if record.name == "mullama.access" else None
        if found is None:
            return _as_json(record, message, {})
        facts: dict[str, object] = {"method": found["method"], "path": found["path"]}
        for name, _, text in (fact.partition("=") for fact in found["facts"].split()):
            facts[name] = json.loads(text) if name in NUMBERS else text
        return _as_json(record, message[: found.start("facts")].rstrip(), facts)


def _as_json(record: logging.LogRecord, message: str, facts: Mapping[str, object]) -> str:
    """A line of the log as a JSON object; the facts are keys of their own."""
    line = {"time": record.created, "level": record.levelname.lower(), "logger": record.name, "message": message}
    return json.dumps({**line, **facts})


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
