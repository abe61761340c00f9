"""Passes what the engine and llama.cpp say on to `logging`, under the logger `mullama`; quiet until somebody listens."""

from __future__ import annotations

import atexit
import logging
import threading

from mullama import _mullama

LOGGER = logging.getLogger("mullama")
LOGGER.addHandler(logging.NullHandler())

_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


def flush() -> None:
    """Passes on what was said so far, and listens from now on to what the logger lets through."""
    _pass_on(_mullama.take_log(_wanted()))


def _wanted() -> str:
    level = LOGGER.getEffectiveLevel()
    named = ((logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warn"), (logging.ERROR, "error"))
    return next((name for most, name in named if level <= most), "off")


def _pass_on(lines: list[tuple[str, str, str]]) -> None:
    for level, target, message in lines:
        logger = logging.getLogger(target.replace("::", "."))
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", message)


def _listen() -> None:
    while (lines := _mullama.wait_for_log()) is not None:
        _pass_on(lines)


def _stop(listener: threading.Thread) -> None:
    _mullama.close_log()
    listener.join(1.0)


def start() -> None:
    """Has a thread pass on what is said between calls. It sleeps while nothing is said."""
    flush()
    listener = threading.Thread(target=_listen, name="mullama-log", daemon=True)
    listener.start()
    atexit.register(_stop, listener)


start()
