"""Signals in calls that wait: reads in the queue, in prefill and in decode, whole generations, and loads."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from patience import TRIES, p90, p90_of

from mullama import _model

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]

pytestmark = pytest.mark.slow

DEMO = Path(_model.DEMO)

# A thread sends the signal once the main thread sleeps in its call, which measures how long the call still takes.
PROGRAM = """
import os, signal, threading, time
from pathlib import Path
from mullama import Context, ContextParams, Model, StreamConfig

LONG = StreamConfig(max_tokens=60_000, ignore_eos=True, buffer_size=65_536, timeout_ms=None)
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)
context = Context(Model.load("demo"), ContextParams(n_ctx=65_536, n_parallel=1, n_threads=1))
main = Path(f"/proc/self/task/{{threading.main_thread().native_id}}/stat")

def sleeps():
    return main.read_text().rpartition(")")[2].split()[0] == "S"

def interrupt(waits):
    global sent
    until, looks = time.monotonic() + 20, 0
    # It may also sleep because this thread has the interpreter, but not for several looks in a row.
    while looks < 5 and time.monotonic() < until:
        looks = looks + 1 if waits() and sleeps() else 0
        time.sleep(0.001)
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

def one(turn):
    {setup}
    calling = False
    interrupter = threading.Thread(target=interrupt, args=(lambda: calling and {waits},))
    interrupter.start()
    try:
        calling = True
        {call}
        raise SystemExit("the call came back")
    except KeyboardInterrupt:
        took = time.monotonic() - sent
    interrupter.join()
    until = time.monotonic() + 5
    while {left} and time.monotonic() < until:
        time.sleep(0.001)
    assert not {left}
    return took

print(*map(one, range({tries})))
"""

QUEUED = """
    running = context.generate_stream("A", config=LONG)
    next(running)
    stream = context.generate_stream("A")
"""
# A prompt of its own each time: a part of it is computed, and would be reused.
PREFILLED = "stream = context.generate_stream([5 + turn] * 60_000, config=LONG)"
DECODED = """
    stream = context.generate_stream("A", config=STUCK)
    next(stream)
"""

PHASES = {
    "queue": (QUEUED, "context.unfinished == 2", "next(stream)", "context.unfinished > 1"),
    "prefill": (PREFILLED, "context.stats().running", "next(stream)", "context.unfinished"),
    "decode": (DECODED, "stream.tokens_generated", "next(stream)", "context.unfinished"),
    "generate": ("", "context.unfinished", "context.generate('A', config=LONG)", "context.unfinished"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_a_wait_within_100_ms_and_frees_the_slot(script: Script, phase: str) -> None:
    setup, waits, call, left = PHASES[phase]
    done = script(PROGRAM.format(setup=setup, waits=waits, call=call, left=left, tries=TRIES))
    assert (done.returncode, done.stderr) == (0, "")
    assert p90(map(float, done.stdout.split())) < 0.1


LOAD = """
import sys
from mullama import Model

try:
    Model.load(sys.argv[1])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_load_within_100_ms_whatever_the_file_system_does(
    tmp_path: Path, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    file = tmp_path / "held.gguf"
    shutil.copy(DEMO, file)
    # Whoever opens a leased file waits until its owner, who is told, gives it back: a file system that does not answer.
    opened: list[int] = []
    before = signal.signal(signal.SIGIO, lambda *_: opened.append(1))

    def waits() -> bool:
        return eventually(lambda: bool(opened))

    try:
        assert p90_of(lambda: interrupted_load(file, waits, opened), tries=10) < 0.1
    finally:
        signal.signal(signal.SIGIO, before)


def interrupted_load(file: Path, waits: Callable[[], bool], opened: list[int]) -> float:
    """Seconds from a signal to the end of a load that the file system holds up."""
    opened.clear()
    held = os.open(file, os.O_RDWR)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        command = [sys.executable, "-c", LOAD, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert waits()
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            took = time.monotonic() - sent
            # It is still held, and the exit does not wait for it for ever.
            assert child.wait(timeout=20) == 0
    finally:
        os.close(held)
    return took


def test_a_handler_that_raises_something_else_ends_the_wait_with_that(script: Script) -> None:
    done = script("""
import signal
from mullama import Context, Model

def handler(*_):
    raise LookupError("mine")

signal.signal(signal.SIGALRM, handler)
context = Context(Model.load("demo"))
stream = context.generate_stream("A", stream_delay_ms=3_600_000, timeout_ms=None)
next(stream)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    next(stream)
except LookupError as error:
    print(error, list(stream), stream.finish_reason)
""")
    assert (done.stdout, done.stderr) == ("mine [] cancelled\n", "")


def test_a_handler_that_returns_lets_the_wait_go_on(script: Script) -> None:
    done = script("""
import signal
from mullama import Context, Model

heard = []

def handler(*_):
    heard.append(1)
    if len(heard) == 3:
        stream.cancel()

signal.signal(signal.SIGALRM, handler)
context = Context(Model.load("demo"))
stream = context.generate_stream("A", stream_delay_ms=3_600_000, timeout_ms=None)
next(stream)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
print(list(stream), len(heard) >= 3)
signal.setitimer(signal.ITIMER_REAL, 0)
""")
    assert (done.stdout, done.stderr) == ("[] True\n", "")
