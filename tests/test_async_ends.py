"""Ctrl-C and the end of the interpreter, with async streams, loads and long calls under way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from patience import p90_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Eventually = Callable[[Callable[[], bool]], bool]
    Script = Callable[[str], CompletedProcess[str]]

pytestmark = pytest.mark.slow

OPEN = """
import asyncio, gc, os, sys, threading, time, warnings
from contextlib import suppress
from mullama import AsyncModel, Context, ContextParams, EngineClosedError, Model, StreamConfig

warnings.filterwarnings("ignore", "n_ctx is")
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)
LONG = StreamConfig(max_tokens=60_000, ignore_eos=True, buffer_size=65_536, timeout_ms=None)
model = Model.load("demo")
"""

ASYNC = (
    OPEN
    + """
context = Context(model, ContextParams(n_ctx=65_536, n_parallel=1, n_threads=1))

async def main():
    {setup}
    reading = asyncio.ensure_future(stream.__anext__())
    while not stream._being_read or not ({waits}):
        await asyncio.sleep(0.001)
    print("waits", flush=True)
    while not reading.done():
        # CPython does not hear a signal that comes just before it waits, until the wait is over.
        await asyncio.wait([reading], timeout=0.02)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
until = time.monotonic() + 5
while context.unfinished > {left} and time.monotonic() < until:
    gc.collect()  # the frames of what was cancelled hold each other
print(context.unfinished)
"""
)

PHASES = {
    "queue": (
        "global running; running = context.generate_stream([5], config=LONG); await running.__anext__(); "  # noqa: ISC004
        "stream = context.generate_stream([5])",
        "context.unfinished == 2",
        1,
    ),
    "prefill": ("stream = context.generate_stream([5] * 60_000, config=LONG)", "stream.usage.prompt_tokens", 0),
    "decode": (
        'stream = context.generate_stream("A", config=STUCK); await stream.__anext__()',
        "stream.tokens_generated",
        0,
    ),
}


def interrupted(program: str, last: str) -> float:
    """Seconds from Ctrl-C, once the program says that it waits, until it hears of it. It says `last` at last."""
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            assert child.stdout.readline() == "waits\n"
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            took = time.monotonic() - sent
            assert child.stdout.read() == last
            assert child.wait(timeout=20) == 0
            assert child.stderr.read() == ""
        finally:
            child.kill()
    return took


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_ends_asyncio_run_at_once_and_frees_the_place(phase: str) -> None:
    setup, waits, left = PHASES[phase]
    program = ASYNC.format(setup=setup, waits=waits, left=left)
    assert p90_of(lambda: interrupted(program, f"{left}\n"), tries=10) < 0.2


CALLS = {
    "context": "Context(model, ContextParams(kv_cells=2_000_000, n_threads=1))",
    "tokenize": "model.tokenize(text)",
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_ends_a_long_call_at_once_and_the_process_works_on(call: str) -> None:
    program = (
        OPEN
        + f"""
text = "A poem, a song;\\n" * 2_000_000
def tell():
    # It may be told a little before it waits; and a call that is too quick fails the test.
    time.sleep(0.1)
    print("waits", flush=True)
threading.Thread(target=tell).start()
try:
    {CALLS[call]}
    print("came back", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(len(Context(model).generate("A", 3, ignore_eos=True).tokens))
"""
    )
    assert p90_of(lambda: interrupted(program, "3\n"), tries=10) < 0.2


EXITS = {
    "a stream that nobody reads to its end": """
async def main():
    stream = context.generate_stream("A", config=LONG)
    await stream.__anext__()
    keep.append(stream)
asyncio.run(main())
""",
    "tasks that wait": """
async def read():
    async for token in context.generate_stream("A", config=STUCK):
        pass
async def main():
    keep.extend(asyncio.ensure_future(read()) for _ in range(4))
    await asyncio.sleep(0.05)
asyncio.run(main())
""",
    "a loop that was never closed": """
warnings.simplefilter("ignore", ResourceWarning)
async def main():
    stream = context.generate_stream("A", config=STUCK)
    await stream.__anext__()
    keep.append(stream)
    async for token in context.generate_stream("A", 20, ignore_eos=True):
        pass
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
""",
    "a loop that runs in a daemon thread": """
async def main():
    began.set()
    async for token in context.generate_stream("A", config=STUCK):
        pass
began = threading.Event()
def read():
    with suppress(EngineClosedError):
        asyncio.run(main())
threading.Thread(target=read, daemon=True).start()
began.wait(10)
""",
    "a load under way": """
async def main():
    loading = asyncio.ensure_future(AsyncModel.load("demo"))
    await asyncio.sleep(0)
asyncio.run(main())
""",
    "a loop without readers": """
class WithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError
async def main():
    stream = context.generate_stream("A", config=LONG)
    await stream.__anext__()
    keep.append(stream)
loop = WithoutReaders()
loop.run_until_complete(main())
loop.close()
""",
}


@pytest.mark.parametrize("case", EXITS)
def test_the_exit_is_prompt_and_quiet_with(script: Script, case: str) -> None:
    opened = OPEN + "context = Context(model, ContextParams(n_ctx=65_536, n_threads=1))\nkeep = []\n"
    done = script(opened + EXITS[case] + "print(time.time())")
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 5


def test_a_subinterpreter_is_refused(script: Script) -> None:
    done = script("""
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters
import mullama
one = interpreters.create()
program = '''
try:
    import mullama
except ImportError as error:
    print(error, flush=True)
'''
interpreters.run_string(one, program)
interpreters.destroy(one)
print(mullama.Model.load("demo").detokenize([33]))
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert "subinterpreter" in done.stdout
