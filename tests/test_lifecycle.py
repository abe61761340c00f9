"""Streams, contexts and models come and go: memory stays flat, and the interpreter's exit is prompt."""

from __future__ import annotations

import gc
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mullama import Context, ContextParams, Model, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]

pytestmark = pytest.mark.slow

STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)

OPEN = """
import atexit, gc, os, sys, threading, time
from contextlib import suppress
from pathlib import Path

def engine_runs():
    for task in Path("/proc/self/task").iterdir():
        # It may end while we look.
        with suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text() == "mullama-engine\\n":
                return True
    return False

@atexit.register
def look():
    # What was registered first runs last: after the package's own hook. Linux may list a thread for a moment after it
    # was joined.
    until = time.monotonic() + 5
    while engine_runs() and time.monotonic() < until:
        time.sleep(0.001)
    assert not engine_runs()

from mullama import Context, ContextParams, EngineClosedError, Model, StreamConfig
LONG = StreamConfig(max_tokens=60_000, ignore_eos=True, buffer_size=65_536, timeout_ms=None)
context = Context(Model.load("demo"), ContextParams(n_ctx=65_536, n_threads=1))
"""

EXITS = {
    "a stream that runs": """
stream = context.generate_stream("A", config=LONG)
next(stream)
""",
    "streams in every phase": """
running = [context.generate_stream("A", config=LONG) for _ in range(8)]
prefilled = context.generate_stream([5] * 60_000, config=LONG)
paused = context.generate_stream("A", 1000, ignore_eos=True, buffer_size=1)
""",
    "a stream that is all that is left": """
stream = Context(Model.load("demo")).generate_stream("A", config=LONG)
del context
""",
    "a stream in a cycle that is never collected": """
gc.disable()
class Cycle: pass
cycle = Cycle()
cycle.self, cycle.stream = cycle, context.generate_stream("A", config=LONG)
del cycle
""",
    "a daemon thread that waits for a token": """
stream = context.generate_stream("A", stream_delay_ms=3_600_000, timeout_ms=None)
next(stream)
def read():
    try:
        next(stream)
    except EngineClosedError:
        pass
threading.Thread(target=read, daemon=True).start()
""",
    "a load that was given up": """
def give_up(fraction):
    raise LookupError
try:
    Model.load("demo", progress=give_up)
except LookupError:
    pass
""",
    "a fork": """
stream = context.generate_stream("A", config=LONG)
next(stream)
import warnings
warnings.simplefilter("ignore")
child = os.fork()
if not child:
    try:
        context.generate_stream("A")
    except EngineClosedError:
        sys.exit(42)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
""",
    "an uncaught exception while a stream is read": """
for token in context.generate_stream("A", config=LONG):
    sys.exit(0)
""",
}


@pytest.mark.parametrize("case", EXITS)
def test_the_exit_neither_hangs_nor_crashes_with(script: Script, case: str) -> None:
    done = script(OPEN + EXITS[case] + "print(time.time())")
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    if done.stdout:
        assert ended - float(done.stdout) < 5


def resident() -> int:
    """Bytes of this process in RAM."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def least_growth(work: Callable[[], int]) -> int:
    """By how much more memory there is after a round, at least: a leak shows in each, the allocator's moods in some."""
    marks = [work() for _ in range(4)]
    return min(after - before for before, after in itertools.pairwise(marks))


def test_ten_thousand_opened_and_abandoned_streams_leave_memory_flat(
    model: Model, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    context = Context(model, ContextParams(n_threads=1))
    prompt = model.tokenize("Write a poem:")

    def open_and_abandon(times: int) -> int:
        for turn in range(times):
            # Greedy: what is kept of beginnings that differ would grow.
            stream = context.generate_stream(prompt, 50, temperature=0)
            if turn % 10 == 0:
                next(stream)
        del stream
        assert eventually(lambda: context.unfinished == 0)
        gc.collect()
        return resident()

    warm = open_and_abandon(1000)
    assert open_and_abandon(9000) - warm < 8 << 20


def test_abandoned_streams_of_text_leave_memory_flat(
    context: Context, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    def open_and_abandon(times: int) -> int:
        for _ in range(times):
            context.generate_stream("Write a poem:", 50, temperature=0)
        assert eventually(lambda: context.unfinished == 0)
        return resident()

    open_and_abandon(300)
    assert least_growth(lambda: open_and_abandon(700)) < 6 << 20


def test_models_that_come_and_go_leave_memory_flat() -> None:
    params = ContextParams(n_threads=1)

    def come_and_go(times: int) -> int:
        for _ in range(times):
            with Model.load("demo", use_mmap=False) as model:
                next(Context(model, params).generate_stream("A", config=STUCK))
        return resident()

    come_and_go(10)
    assert least_growth(lambda: come_and_go(30)) < 16 << 20


def engines() -> int:
    """Threads of engines in this process, without those that compute for them."""
    count = 0
    for task in Path("/proc/self/task").iterdir():
        # It may end while we look.
        with suppress(FileNotFoundError, ProcessLookupError):
            count += (task / "comm").read_text(encoding="ascii") == "mullama-engine\n"
    return count


def test_a_collected_model_takes_its_engine_with_it(eventually: Callable[[Callable[[], bool]], bool]) -> None:
    gc.collect()
    before = engines()
    context = Context(Model.load("demo"))
    assert engines() > before
    del context
    gc.collect()
    assert eventually(lambda: engines() == before)


def test_after_a_fork_every_call_in_the_child_is_refused_at_once(script: Script) -> None:
    done = script("""
import os, warnings
from mullama import Context, EngineClosedError, Model

warnings.simplefilter("ignore")
model = Model.load("demo")
context = Context(model)
stream = context.generate_stream("A", buffer_size=4, ignore_eos=True, max_tokens=50)
next(stream)

def child():
    calls = {
        "next": lambda: next(stream),
        "list": lambda: list(stream),
        "generate": lambda: context.generate("A"),
        "stats": lambda: context.stats(),
        "unfinished": lambda: context.unfinished,
        "context_len": lambda: context.context_len,
        "Context": lambda: Context(model),
    }
    for name, call in calls.items():
        try:
            call()
        except EngineClosedError:
            print(name, end=" ", flush=True)
    stream.cancel()
    stream.close()

pid = os.fork()
if not pid:
    try:
        child()
    finally:
        os._exit(0)
os.waitpid(pid, 0)
print(1 + len(list(stream)))
""")
    calls = "next list generate stats unfinished context_len Context"
    assert (done.stdout, done.stderr) == (f"{calls} 50\n", "")


@pytest.mark.parametrize("phase", ["queue", "prefill", "decode", "end"])
def test_a_stream_closes_in_every_phase(
    endless: Context, eventually: Callable[[Callable[[], bool]], bool], phase: str
) -> None:
    running = endless.generate_stream("A", 60_000, ignore_eos=True, buffer_size=65_536)
    next(running)
    if phase != "queue":
        running.close()
    prompt = [5] * 60_000 if phase == "prefill" else [5]
    with endless.generate_stream(prompt, 1 if phase == "end" else 5000, ignore_eos=True) as stream:
        if phase == "prefill":
            assert eventually(lambda: stream.usage.prompt_tokens > 0)
        elif phase in {"decode", "end"}:
            next(stream)
    running.close()
    assert eventually(lambda: endless.unfinished == 0)
    assert len(endless.generate("A", 3, ignore_eos=True).tokens) == 3


DAEMONS = {
    "a read": "for _ in context.generate_stream('A', 900, ignore_eos=True, stream_delay_ms=5): pass",
    "calls": "while True: context.generate('A', 20, ignore_eos=True)",
    "an event loop": "asyncio.run(read())",
    "the tokenizer": "while True: context.model.tokenize('hello ' * 1000)",
    "loads": "while True: Context(Model.load('demo')).generate('A', 2)",
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_thread_is_silent_when_the_program_ends(script: Script, daemon: str) -> None:
    done = script(f"""
import asyncio, threading, time
from mullama import AsyncModel, Context, Model

context = Context(Model.load("demo"))

async def read():
    async for _ in AsyncModel(context.model).generate_stream("A", 900, ignore_eos=True, stream_delay_ms=5):
        pass

def daemon():
    {DAEMONS[daemon]}

for _ in range(2):
    threading.Thread(target=daemon, daemon=True).start()
time.sleep(0.2)  # any moment will do
print("end")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_the_main_thread_gets_its_error_when_the_program_ends(script: Script) -> None:
    done = script("""
import atexit
atexit.register(lambda: read())
from mullama import Context, EngineClosedError, Model

context = Context(Model.load("demo"))

def read():
    try:
        context.generate("A", 3)
    except EngineClosedError as error:
        print(error.what)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "engine\n", "")
