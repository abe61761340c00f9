"""Models loaded beside an event loop: errors, progress, and loads that are given up."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from coroutines import caught, run

from mullama import AsyncModel, ModelLoadError, ModelNotFoundError
from mullama._model import DEMO

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Eventually = Callable[[Callable[[], bool]], bool]
    Script = Callable[[str], CompletedProcess[str]]


def test_loading_tells_the_typed_errors(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")

    async def main() -> None:
        with pytest.raises(ModelNotFoundError):
            await AsyncModel.load(tmp_path / "none.gguf")
        with pytest.raises(ModelLoadError):
            await AsyncModel.load(broken)
        with pytest.raises(ModelLoadError):
            await AsyncModel.load("demo", progress=lambda _: False)

    run(main())


def test_loading_tells_how_far_it_is() -> None:
    heard: list[float] = []

    async def main() -> int:
        async with await AsyncModel.load("demo", progress=heard.append) as model:
            return len((await model.generate("A", 3, ignore_eos=True)).tokens)

    assert run(main()) == 3
    assert heard == sorted(heard)
    assert (min(heard) >= 0, max(heard)) == (True, 1)


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, StopIteration])
def test_a_load_ends_with_what_its_progress_raises(error: type[BaseException]) -> None:
    def fail(_: float) -> None:
        raise error

    async def main() -> BaseException:
        return await caught(AsyncModel.load("demo", progress=fail))

    raised = run(main())
    # A coroutine that raises StopIteration would have returned.
    assert type(raised.__cause__ if error is StopIteration else raised) is error


def test_a_cancelled_load_ends(eventually: Eventually) -> None:
    goes_on = threading.Event()
    heard: list[float] = []

    def progress(fraction: float) -> None:
        heard.append(fraction)
        goes_on.wait(20)

    async def main() -> None:
        loading = asyncio.ensure_future(AsyncModel.load("demo", progress=progress))
        await asyncio.to_thread(eventually, lambda: bool(heard))
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    run(main())
    goes_on.set()
    assert eventually(lambda: not any(thread.name == "mullama-load" for thread in threading.enumerate()))
    assert len(heard) == 1


LOAD = """
import asyncio, sys
from mullama import AsyncModel

async def main():
    loading = asyncio.ensure_future(AsyncModel.load(sys.argv[1]))
    await asyncio.sleep(0)
    sys.stdin.readline()
    if sys.argv[2] == "cancel":
        loading.cancel()
    try:
        await loading
    except asyncio.CancelledError:
        print("cancelled", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_cancelled_load_ends_whatever_the_file_system_does(tmp_path: Path, eventually: Eventually) -> None:
    file = tmp_path / "held.gguf"
    shutil.copy(DEMO, file)
    # Whoever opens a leased file waits until its owner, who is told, gives it back: a file system that does not answer.
    opened: list[int] = []
    before = signal.signal(signal.SIGIO, lambda *_: opened.append(1))
    held = os.open(file, os.O_RDWR)
    try:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        command = [sys.executable, "-c", LOAD, str(file), "cancel"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, text=True, **pipes) as child:  # type: ignore[call-overload]
            assert eventually(lambda: bool(opened))
            began = time.monotonic()
            said = child.communicate("\n", timeout=20)
            assert said == ("cancelled\n", "")
            assert child.returncode == 0
        # Ending the program, it waits a second for a load that it gave up.
        assert time.monotonic() - began < 5
    finally:
        os.close(held)
        signal.signal(signal.SIGIO, before)


def test_a_pipe_is_no_model(script: Script, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    done = script(f"""
import asyncio
from mullama import AsyncModel, ModelLoadError
try:
    asyncio.run(AsyncModel.load({str(pipe)!r}))
except ModelLoadError as error:
    print(error.reason)
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert "regular file" in done.stdout
