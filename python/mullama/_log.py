"""Passes what the engine and llama.cpp say on to `logging`, under `mullama`; quiet until somebody listens."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import traceback

from mullama import _mullama

LOGGER = logging.getLogger("mullama")
LOGGER.addHandler(logging.NullHandler())
_LLAMA = logging.getLogger("mullama.llama")

_order = threading.RLock()
"""Held while lines are taken and passed on: each is there when a call returns, and after those before it. A handler may
call mullama again."""

_forked = threading.Event()
"""Set in a process that got its copy by a fork."""

_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


def flush() -> None:
    """Passes on what was said so far, and listens from now on to what the loggers let through."""
    if _forked.is_set():
        # The listener may have held a lock in the parent, and in the child nothing is said any more.
        return
    with _order:
        _pass_on(_mullama.take_log(_wanted()))


def _wanted() -> str:
    level = min(LOGGER.getEffectiveLevel(), _LLAMA.getEffectiveLevel())
    named = ((logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warn"), (logging.ERROR, "error"))
    return next((name for most, name in named if level <= most), "off")


def _pass_on(lines: list[tuple[str, str, str]]) -> None:
    for level, target, message in lines:
        logger = logging.getLogger(target.replace("::", "."))
        try:
            logger.log(_LEVELS.get(level, logging.DEBUG), "%s", message)
        except Exception:  # noqa: BLE001  # a handler's: no load fails for it, and later lines are passed on
            if logging.raiseExceptions:
                traceback.print_exc()


def _listen() -> None:
    while _mullama.wait_for_log():
        flush()


def _stop(listener: threading.Thread) -> None:
    _mullama.close_log()
    listener.join(1.0)


def start() -> None:
    """Has a thread pass on what is said between calls. It sleeps while nothing is said."""
    flush()
    listener = threading.Thread(target=_listen, name="mullama-log", daemon=True)
    listener.start()
    os.register_at_fork(after_in_child=_forked.set)
    atexit.register(_stop, listener)


start()
