"""The runtime of calls that are awaited once: when it starts, how many threads it has, and what ends with it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from coroutines import LOOPS, WithoutReaders, run

from mullama import AsyncModel, ContextParams

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]

pytestmark = pytest.mark.slow

THREADS = """
from pathlib import Path

def threads():
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    return sorted(name for name in names if name in {"mullama-async", "mullama-deliver", "tokio-rt-worker"})
"""


def test_the_runtime_starts_with_the_first_awaited_load_and_has_two_threads(script: Script) -> None:
    done = script(f"""
import asyncio
from mullama import AsyncModel, Context, Model
{THREADS}
Context(Model.load("demo")).generate("A", 2)
print(threads())
for _ in range(3):
    asyncio.run(AsyncModel.load("demo"))
print(threads())
""")
    assert done.stderr == ""
    # Linux cuts names off after 15 characters.
    assert done.stdout == "[]\n['mullama-async', 'mullama-deliver']\n"


def test_a_forked_child_loads_with_a_runtime_of_its_own(script: Script) -> None:
    done = script("""
import asyncio, os, signal, threading, traceback, warnings
from mullama import AsyncModel

warnings.simplefilter("ignore")

async def text():
    async with await AsyncModel.load("demo") as model:
        return str(await model.generate("A", 3, ignore_eos=True, temperature=0))

def load_for_ever():
    while True:
        asyncio.run(AsyncModel.load("demo"))

expected = asyncio.run(text())
for _ in range(2):
    threading.Thread(target=load_for_ever, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            assert asyncio.run(text()) == expected
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("done")
""")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("loop", LOOPS)
def test_loads_at_once_on_every_kind_of_loop(loop: str) -> None:
    async def main() -> list[str]:
        models = await asyncio.gather(*(AsyncModel.load("demo") for _ in range(8)))
        texts = await asyncio.gather(*(model.generate("A", 3, temperature=0, ignore_eos=True) for model in models))
        for model in models:
            model.close()
        return [str(text) for text in texts]

    assert len(set(run(main(), LOOPS[loop]))) == 1


def test_a_result_costs_one_call_from_another_thread() -> None:
    loops: list[WithoutReaders] = []

    def counting() -> WithoutReaders:
        loops.append(WithoutReaders())
        return loops[0]

    async def main() -> None:
        (await AsyncModel.load("demo")).close()

    run(main(), counting)
    # The model, and its context.
    assert loops[0].calls == 2


def test_a_loop_that_is_closed_before_the_load_is_done_hears_nothing_more(script: Script) -> None:
    done = script("""
import asyncio, gc, threading, time, warnings
from mullama import AsyncModel

warnings.simplefilter("ignore")
may_go_on = threading.Event()

def wait(fraction):
    may_go_on.wait(20)

async def load():
    await AsyncModel.load("demo", progress=wait)

loop = asyncio.new_event_loop()
loop.set_exception_handler(lambda *_: None)  # of a task that never ends
task = loop.create_task(load())
loop.run_until_complete(asyncio.sleep(0.2))
loop.close()
may_go_on.set()
time.sleep(0.3)  # the load is done
asyncio.run(AsyncModel.load("demo"))
print("done")
""")
    assert (done.stdout, done.returncode) == ("done\n", 0)
    assert "Event loop is closed" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_keeps_the_interpreter_busy_delays_only_itself() -> None:
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:

        async def main() -> None:
            (await AsyncModel.load("demo")).close()

        run(main())
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_context_that_cannot_be_opened_is_an_error_of_the_awaited_load() -> None:
    async def main() -> None:
        with pytest.raises(Exception, match="n_ctx"):
            await AsyncModel.load("demo", context_params=ContextParams(n_ctx=1_000_000))

    run(main())


def test_awaited_loads_that_come_and_go_or_are_cancelled_leave_no_model_behind(script: Script) -> None:
    done = script("""
import asyncio, gc, time
from contextlib import suppress
from pathlib import Path
from mullama import AsyncModel

def engines():
    names = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it may end while we look
            names.append((task / "comm").read_text())
    return names.count("mullama-engine\\n")

async def come_and_go():
    for _ in range(5):
        async with await AsyncModel.load("demo") as model:
            await model.generate("A", 3)
    for turn in range(20):
        loading = asyncio.ensure_future(AsyncModel.load("demo"))
        await asyncio.sleep(0.001 * turn)
        loading.cancel()
        with suppress(asyncio.CancelledError):
            (await loading).close()

asyncio.run(come_and_go())
gc.collect()
until = time.monotonic() + 10
while engines() and time.monotonic() < until:
    time.sleep(0.01)
print(engines())
""")
    assert (done.stdout, done.stderr) == ("0\n", "")
