"""Notebooks: cells in a real kernel, as a front end runs, stops and completes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from kernels import Kernel
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parent.parent / "examples" / "streaming.ipynb"

SETUP = """
import asyncio, time
from mullama import AsyncModel, Context, Model
model = Model.load("demo")
context = Context(model)
shared = AsyncModel(model)
stuck = dict(stream_delay_ms=3_600_000, timeout_ms=None)  # an hour before the second token

async def all_ended():
    until = time.monotonic() + 5
    while context.unfinished and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return context.unfinished
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Kernel]:
    """One kernel for all tests, because it takes seconds to start."""
    with Kernel() as kernel:
        assert kernel.run(SETUP).error is None
        yield kernel


@pytest.fixture
def kernel(running: Kernel) -> Kernel:
    """The kernel without open streams."""
    running.run("for name in ('stream', 'task', 'other'): globals().pop(name, None)\n1")
    assert running.run("await all_ended()").result["text/plain"] == "0"
    return running


NO_COROUTINE = {
    "for": "for token in context.generate_stream('A', 3): pass",
    "generate": "context.generate('A', 3)",
    "chat": "context.chat([{'role': 'user', 'content': 'A'}], 3)",
    "in a function": "def read():\n    return list(context.generate_stream('A', 3))\nread()",
    "in a comprehension": "[token.text for token in context.generate_stream('A', 3)]",
    "in a cell that awaits": "await asyncio.sleep(0)\nfor token in context.generate_stream('A', 3): pass",
    "in a cell that is timed": "%%time\nfor token in context.generate_stream('A', 3): pass",
}
COROUTINES = {
    "awaited": "async def main():\n    for token in context.generate_stream('A', 3): pass\nawait main()",
    "a task": "async def main():\n    read()\nawait asyncio.create_task(main())",
    "a callback": "asyncio.get_running_loop().call_soon(read)\nawait asyncio.sleep(0.1)",
    "an async generator": "async def each():\n    yield read()\nasync for _ in each(): pass",
    "an async comprehension": "async def main():\n    return [context.generate('A', 3) for _ in '1']\nawait main()",
}


@pytest.mark.parametrize("cell", NO_COROUTINE)
def test_a_plain_read_in_a_cell_gives_no_warning(kernel: Kernel, cell: str) -> None:
    kernel.run("import mullama._stream\nmullama._stream._warned_of_a_blocked_loop = False")
    output = kernel.run(NO_COROUTINE[cell])
    assert (output.error, output.stderr) == (None, "")


@pytest.mark.parametrize("cell", COROUTINES)
def test_a_plain_read_in_a_coroutine_warns(kernel: Kernel, cell: str) -> None:
    kernel.run("import mullama._stream\nmullama._stream._warned_of_a_blocked_loop = False")
    kernel.run("import warnings\nwarnings.simplefilter('always')\n" + NO_COROUTINE["in a function"])
    output = kernel.run(COROUTINES[cell])
    assert output.error is None
    assert "RuntimeWarning: reading a stream without `async` blocks the running event loop" in output.stderr


STOPPED = {
    "for": "for token in context.generate_stream('A', **stuck): print('reading')",
    "for, named": "stream = context.generate_stream('A', **stuck)\nfor token in stream: print('reading')",
    "next": "stream = context.generate_stream('A', **stuck)\nnext(stream)\nprint('reading')\nnext(stream)",
    "generate": "print('reading')\ncontext.generate('A', **stuck)",
    "chat": "print('reading')\ncontext.chat([{'role': 'user', 'content': 'A'}], **stuck)",
    "slow for": "stream = context.generate_stream('A', **stuck)\nfor token in stream: print('reading'); time.sleep(60)",
    "slow for in a function": """def read():
    stream = context.generate_stream('A', **stuck)
    for token in stream:
        print('reading')
        time.sleep(60)
read()""",
    "async for": "async for token in shared.generate_stream('A', **stuck): print('reading')",
    "async for, named": """stream = shared.generate_stream('A', **stuck)
async for token in stream: print('reading')""",
    "anext": """stream = shared.generate_stream('A', **stuck)
await stream.__anext__()
print('reading')
await stream.__anext__()""",
    "await generate": "print('reading')\nawait shared.generate('A', **stuck)",
    "slow async for": """stream = shared.generate_stream('A', **stuck)
async for token in stream: print('reading'); await asyncio.sleep(60)""",
    "coroutine": """async def read():
    stream = shared.generate_stream('A', **stuck)
    async for token in stream: print('reading')
await read()""",
    "gather": """async def read():
    stream = shared.generate_stream('A', **stuck)
    async for token in stream: print('reading')
await asyncio.gather(read(), read(), read())""",
    "for in a cell that awaits": """await asyncio.sleep(0)
stream = shared.generate_stream('A', **stuck)
for token in stream: print('reading')""",
    "for in a task": """async def read():
    stream = shared.generate_stream('A', **stuck)
    for token in stream: print('reading')
    await asyncio.sleep(60)
await asyncio.create_task(read())""",
}


@pytest.mark.parametrize("cell", STOPPED)
def test_stop_ends_the_read_and_frees_the_slot(kernel: Kernel, cell: str) -> None:
    output = kernel.run(STOPPED[cell], stop_at="reading")
    assert output.error in {"KeyboardInterrupt", "CancelledError"}
    assert output.seconds_after_stop is not None
    assert output.seconds_after_stop < 5
    assert kernel.run("await all_ended()").result["text/plain"] == "0"


def test_stop_leaves_the_streams_of_tasks_and_of_earlier_cells(kernel: Kernel) -> None:
    kernel.run("""stream = shared.generate_stream('A', **stuck)
async def read(stream):
    async for token in stream: pass
task = asyncio.create_task(read(stream))
other = context.generate_stream('A', **stuck)""")
    for wait in ("await asyncio.sleep(60)", "time.sleep(60)"):
        output = kernel.run(f"print('waiting')\n{wait}", stop_at="waiting")
        assert output.error in {"KeyboardInterrupt", "CancelledError"}
        assert kernel.run("task.done(), context.unfinished").result["text/plain"] == "(False, 2)"
    kernel.run("task.cancel()")


def test_an_error_in_a_cell_leaves_a_named_stream_to_be_read_on(kernel: Kernel) -> None:
    kernel.run("stream = context.generate_stream('A', 5, ignore_eos=True)\nfor token in stream: 1 / 0")
    assert kernel.run("len(list(stream)), stream.finish_reason").result["text/plain"] == "(4, 'length')"


PUBLIC = {"aclose", "cancel", "close", "finish_reason", "seed", "stop_sequence", "text"}
PUBLIC |= {"timings", "tokens_generated", "tokens_per_second", "usage"}


@pytest.mark.parametrize("jedi", [True, False])
def test_tab_completes_what_is_public_and_every_setting(kernel: Kernel, jedi: bool) -> None:  # noqa: FBT001  # a parameter
    kernel.run(f"%config IPCompleter.use_jedi = {jedi}\nstream = context.generate_stream('A', 1)")
    assert set(kernel.complete("stream.")) == PUBLIC
    for call in ("context.generate_stream", "context.generate", "shared.chat", "shared.chat_stream"):
        assert kernel.complete(f"{call}('x', tempe") == ["temperature="]
    assert kernel.complete("Model.load('x', n_gpu") == ["n_gpu_layers="]


def test_what_a_cell_displays_is_short(kernel: Kernel) -> None:
    longest = {
        "context.generate('A', 256, ignore_eos=True)": 130,
        "context": 80,
        "shared": 80,
        "model": 160,
        "context.generate_stream('A')": 80,
    }
    for value, limit in longest.items():
        result = kernel.run(value).result
        assert 0 < len(result["text/plain"]) <= limit
        assert 0 < len(result["text/html"]) <= 2500
    assert kernel.run("context.stats()").result["text/html"].startswith("<table>")


def test_the_example_notebook_runs_in_a_kernel() -> None:
    notebook = nbformat.read(EXAMPLE, as_version=4)  # type: ignore[no-untyped-call]
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in cells] == [[]] * len(cells)  # kept without what a run displayed
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert all(cell.outputs for cell in cells)
    text = "".join(output.get("text", "") for output in outputs)
    assert "40 tokens, " in text
