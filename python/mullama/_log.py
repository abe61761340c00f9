"""Passes log lines of the engine and of llama.cpp to `logging`, under `mullama`. Silent until a handler listens.

One thread calls the handlers, and no lock is held while it does, so a handler that blocks holds up nothing but the log.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import traceback

from mullama import _mullama

LOGGER = logging.getLogger("mullama")
LOGGER.addHandler(logging.NullHandler())
_LLAMA = logging.getLogger("mullama.llama")

_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}

PATIENCE = 0.5
"""How many seconds a handler may take for one line before calls stop waiting for the log."""


SECONDS_BETWEEN_LOOKS = 0.002
"""How often an async call looks whether the handlers have seen its lines, which they usually have at once."""


class _Listener:
    """The thread that calls the handlers, and how far it has got."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._progress = threading.Condition()
        self._handled = 0
        """How many lines the handlers have seen, or were dropped before they could."""
        self._line_began = 0.0
        """When the current line was given to the handlers; infinite while there is none."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, unless it runs or the system refuses one: then the lines wait for the next attempt."""
        with self._progress:
            if self._thread is not None:
                return
            self._line_began = float("inf")
            thread = threading.Thread(target=self._run, name="mullama-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started
                return
            self._thread = thread

    def wait_for(self, logged: int) -> None:
        """Waits until the handlers have seen this many lines. Gives up on a handler that is stuck in one of them."""
        if self._thread is threading.current_thread():
            return  # a handler calls mullama: its own line cannot be finished
        with self._progress:
            while self._thread is not None and self._thread.is_alive() and self._handled < logged:
                left = min(PATIENCE, self._line_began + PATIENCE - time.monotonic())
                if left <= 0:
                    return
                self._progress.wait(left)

    def is_behind(self, logged: int) -> bool:
        """Whether the handlers have not seen this many lines, but will."""
        with self._progress:
            return self._thread is not None and self._thread.is_alive() and self._handled < logged

    def stop(self) -> None:
        """Ends the thread after its current line."""
        _mullama.close_log()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while _mullama.wait_for_log():
            lines, logged = _mullama.take_log()
            for line in lines:
                self._line_began = time.monotonic()
                _handle(*line)
            self._line_began = float("inf")
            with self._progress:
                self._handled = logged
                self._progress.notify_all()


def _handle(level: str, target: str, message: str) -> None:
    logger = logging.getLogger(target.replace("::", "."))
    try:
        logger.log(_LEVELS.get(level, logging.DEBUG), "%s", message)
    except BaseException:  # noqa: BLE001  # the handler's own; later lines are passed on all the same
        if logging.raiseExceptions:
            traceback.print_exc()


def _wanted() -> str:
    """The level that the loggers let through, as the native module names it."""
    level = min(LOGGER.getEffectiveLevel(), _LLAMA.getEffectiveLevel())
    named = ((logging.DEBUG, "debug"), (logging.INFO, "info"), (logging.WARNING, "warn"), (logging.ERROR, "error"))
    return next((name for most, name in named if level <= most), "off")


_listener = _Listener()

_forked = threading.Event()
"""Set in the child of a fork, which has no listener. Nothing is logged there."""


def flush() -> None:
    """Adopts the level of the loggers, and waits until the handlers have seen what was logged so far."""
    if not _forked.is_set():
        _listener.wait_for(_adopt())


async def flush_async() -> None:
    """As `flush`, and leaves the event loop running."""
    if _forked.is_set():
        return
    import asyncio  # noqa: PLC0415  # slow to import, and the event loop has done so

    logged, until = _adopt(), time.monotonic() + PATIENCE
    while _listener.is_behind(logged) and time.monotonic() < until:  # noqa: ASYNC110  # the listener has another thread
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


def _adopt() -> int:
    """Adopts the level of the loggers; how many lines were logged so far."""
    _listener.start()
    return _mullama.listen_to_log(_wanted())


os.register_at_fork(after_in_child=_forked.set)
atexit.register(_listener.stop)
flush()
