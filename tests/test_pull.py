"""Downloads from Python, against a server on this machine: progress, errors, and every way in which they end early."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from coroutines import LOOPS, caught, run
from hub import DEMO, LARGE

import mullama
from mullama import AsyncModel, Context, DownloadError, LocalModel, Model, ModelNotFoundError, PullProgress, TokenStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    from hub import HubServer

    Script = Callable[[str], CompletedProcess[str]]
    Eventually = Callable[[Callable[[], bool]], bool]

pytestmark = pytest.mark.slow

SLOW = {"trickle": {"bytes": 65_536, "ms": 50}}
"""A fault that makes a large model take some minutes."""

ORDER = ["resolving", "waiting", "downloading", "verifying", "done"]


def test_a_pull_says_where_the_model_is(hub: HubServer, tmp_path: Path) -> None:
    local = mullama.pull("llama3.2:1b")
    assert isinstance(local, LocalModel)
    assert (local.name, local.location) == ("llama3.2:1b", "mullama")
    assert local.path.is_relative_to(tmp_path / "models")
    assert local.path.read_bytes() == DEMO.read_bytes()
    assert local.size == DEMO.stat().st_size
    assert os.fspath(local) == str(local.path)
    assert local.defaults.settings["temperature"] == 0.6
    assert local.defaults.settings["stop_sequences"] == ("<|im_end|>", "<|endoftext|>")
    assert (local.defaults.n_ctx, local.defaults.system) == (512, "You answer in verse.")
    assert pickle.loads(pickle.dumps(local)) == local  # noqa: S301  # our own bytes
    assert hash(local) == hash(mullama.pull("llama3.2:1b"))
    assert len(hub.bodies()) >= 1


def test_a_pull_of_a_complete_model_downloads_no_bytes(hub: HubServer) -> None:
    mullama.pull("tiny")
    hub.reset()
    mullama.pull("tiny")
    assert hub.bodies() == []


def test_progress_is_called_in_this_thread_and_only_moves_forward(hub: HubServer) -> None:
    hub.fault("/cdn/*", {"trickle": {"bytes": 4_194_304, "ms": 50}})
    heard: list[PullProgress] = []
    threads = set()

    def progress(at: PullProgress) -> None:
        heard.append(at)
        threads.add(threading.get_ident())

    began = time.monotonic()
    mullama.pull("large", progress=progress)
    took = time.monotonic() - began
    assert threads == {threading.get_ident()}
    check_progress(heard, took)


def check_progress(heard: list[PullProgress], took: float) -> None:
    """Monotone, not too often, and complete at the end."""
    assert [ORDER.index(each.phase) for each in heard] == sorted(ORDER.index(each.phase) for each in heard)
    assert [each.done for each in heard] == sorted(each.done for each in heard)
    assert (heard[-1].phase, heard[-1].done) == ("done", heard[-1].total)
    # The manifest names small files too.
    assert LARGE <= heard[-1].done < LARGE + 1000
    # Some ten times a second, and once for each phase.
    assert len(heard) <= 12 * took + len(ORDER)
    assert heard[-1].to_dict().keys() == {"phase", "file", "done", "total"}


@pytest.mark.parametrize("loop", LOOPS)
def test_an_awaited_pull_leaves_every_kind_of_loop_running(hub: HubServer, loop: str) -> None:
    hub.fault("/cdn/*", {"trickle": {"bytes": 4_194_304, "ms": 50}})
    heard: list[PullProgress] = []
    threads = set()
    ticks = 0

    def progress(at: PullProgress) -> None:
        heard.append(at)
        threads.add(threading.get_ident())

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.005)

    async def main() -> LocalModel:
        ticking = asyncio.ensure_future(tick())
        local = await mullama.pull_async("large", progress=progress)
        ticking.cancel()
        return local

    began = time.monotonic()
    local = run(main(), LOOPS[loop])
    took = time.monotonic() - began
    assert local.size == LARGE
    assert threads == {threading.get_ident()}
    assert ticks > 20
    check_progress(heard, took)


def test_two_loops_in_two_threads_pull_at_once(hub: HubServer) -> None:
    del hub
    found: dict[str, LocalModel] = {}

    def pull(name: str) -> None:
        found[name] = asyncio.run(mullama.pull_async(name))

    threads = [threading.Thread(target=pull, args=(name,)) for name in ("tiny", "plain", "tiny:q8_0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {name: local.name for name, local in found.items()} == {
        "tiny": "tiny:latest",
        "plain": "plain:latest",
        "tiny:q8_0": "tiny:q8_0",
    }


class Stop(Exception):  # noqa: N818  # no error
    """Ends a download."""


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, StopIteration])
def test_a_pull_ends_with_what_its_progress_raises(hub: HubServer, error: type[BaseException]) -> None:
    hub.fault("/cdn/*", SLOW)

    def fail(at: PullProgress) -> None:
        if at.phase == "downloading":
            raise error

    with pytest.raises(error):
        mullama.pull("large", progress=fail)

    async def main() -> BaseException:
        return await caught(mullama.pull_async("large", progress=fail))

    raised = run(main())
    # A coroutine that raises StopIteration would have returned.
    assert type(raised.__cause__ if error is StopIteration else raised) is error


@pytest.mark.parametrize("face", ["sync", "async"])
def test_a_pull_whose_progress_returns_false_is_cancelled(hub: HubServer, face: str) -> None:
    hub.fault("/cdn/*", SLOW)

    def enough(at: PullProgress) -> bool:
        return at.phase != "downloading"

    async def main() -> None:
        await mullama.pull_async("large", progress=enough)

    def pull() -> None:
        if face == "async":
            run(main())
        else:
            mullama.pull("large", progress=enough)

    with pytest.raises(DownloadError) as caught:
        pull()
    assert caught.value.reason == "cancelled"
    assert str(caught.value) == "cannot download large:latest: the download was cancelled by the progress callback"


def parts(folder: Path) -> list[Path]:
    """What unfinished downloads have left."""
    return [file for file in folder.rglob("*.part") if file.stat().st_size]


def test_a_cancelled_task_ends_the_pull_and_the_next_one_continues(
    hub: HubServer, tmp_path: Path, eventually: Eventually
) -> None:
    # Slow enough for what has arrived to be recorded, which happens every two seconds.
    hub.fault("/cdn/*", {"trickle": {"bytes": 65_536, "ms": 30}})

    async def main() -> None:
        enough = asyncio.Event()

        def progress(at: PullProgress) -> None:
            if at.done > 20 << 20:
                enough.set()

        pulling = asyncio.ensure_future(mullama.pull_async("large", progress=progress))
        await asyncio.wait_for(enough.wait(), 20)
        pulling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pulling

    run(main())
    assert parts(tmp_path)
    # The connections are closed: nobody downloads on.
    assert eventually(lambda: all(each["status"] for each in hub.bodies()))
    hub.reset()
    local = mullama.pull("large")
    assert digest(local.path) in local.path.name
    assert sum(each["sent"] for each in hub.bodies()) < LARGE


def digest(file: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


INTERRUPTED = """
import sys, time
import mullama

def progress(at):
    if at.phase == "downloading" and at.done:
        print("now", flush=True)

try:
    mullama.pull("large", progress=progress)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("fault", [SLOW, {"stall": {"bytes": 1_000_000}}], ids=["slow", "stalled"])
def test_ctrl_c_ends_a_pull_within_100_ms_and_leaves_what_has_arrived(
    hub: HubServer, tmp_path: Path, fault: dict[str, dict[str, int]]
) -> None:
    hub.fault("/cdn/*", fault)
    took = []
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "now\n"
            sent = time.monotonic()
            child.send_signal(signal.SIGINT)
            while child.stdout.readline() != "interrupted\n":
                assert time.monotonic() - sent < 20
            took.append(time.monotonic() - sent)
            assert child.wait(timeout=20) == 0
        assert parts(tmp_path)
    assert sorted(took)[-2] < 0.1
    hub.reset()
    local = mullama.pull("large")
    assert digest(local.path) in local.path.name


@pytest.mark.parametrize("face", ["pull", "asyncio.run(mullama.pull_async", "daemon"])
def test_the_program_ends_during_a_pull(hub: HubServer, script: Script, face: str) -> None:
    hub.fault("/cdn/*", SLOW)
    start = {
        "pull": "threading.Thread(target=mullama.pull, args=('large',), daemon=True).start()",
        "asyncio.run(mullama.pull_async": """
loop = asyncio.new_event_loop()
pulling = loop.create_task(pull())
loop.run_until_complete(asyncio.sleep(0.3))
""",
        "daemon": "threading.Thread(target=lambda: asyncio.run(pull()), daemon=True).start()",
    }[face]
    began = time.monotonic()
    done = script(f"""
import asyncio, threading, time, warnings
import mullama

warnings.simplefilter("ignore")  # of a loop that is not closed

async def pull():
    await mullama.pull_async("large", progress=print_nothing)

def print_nothing(at):
    pass

{start}
time.sleep(0.3)
print("end")
""")
    assert (done.returncode, done.stdout) == (0, "end\n")
    assert "Traceback" not in done.stderr
    assert "panicked" not in done.stderr
    assert time.monotonic() - began < 10


def test_a_forked_child_pulls_with_a_runtime_of_its_own(hub: HubServer, script: Script) -> None:
    del hub
    done = script("""
import asyncio, os, signal, sys, traceback, warnings
import mullama
from mullama import AsyncModel

warnings.simplefilter("ignore")
print(mullama.pull("tiny").name, flush=True)
asyncio.run(mullama.pull_async("tiny"))
for name in ("plain", "someone/tiny"):
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            print(asyncio.run(mullama.pull_async(name)).name, mullama.pull(name).name, flush=True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(mullama.pull("tiny:q8_0").name)
""")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.splitlines() == [
        "tiny:latest",
        "plain:latest plain:latest",
        "someone/tiny:latest someone/tiny:latest",
        "tiny:q8_0",
    ]


def test_a_name_is_loaded_and_pulled_if_it_is_missing(hub: HubServer) -> None:
    with Model.load("llama3.2:1b") as model, Context(model) as context:
        assert (model.name, model.defaults.system) == ("llama3.2:1b", "You answer in verse.")
        assert context.generate("A", 2, ignore_eos=True).usage.completion_tokens == 2
    asked = len(hub.requests())
    Model.load("llama3.2:1b", pull=False).close()
    Model.load("llama3.2:1b").close()
    assert len(hub.requests()) == asked

    async def main() -> None:
        async with await AsyncModel.load("tiny") as model:
            assert model.model.name == "tiny:latest"
            assert len((await model.generate("A", 3, ignore_eos=True)).tokens) == 3

    run(main())


@pytest.mark.parametrize("face", ["sync", "async"])
def test_without_pull_a_missing_model_is_not_asked_for(hub: HubServer, face: str) -> None:
    async def main() -> None:
        await AsyncModel.load("tiny", pull=False)

    with pytest.raises(ModelNotFoundError) as caught:
        Model.load("tiny", pull=False) if face == "sync" else run(main())
    assert (caught.value.name, caught.value.path, caught.value.filename) == ("tiny:latest", None, None)
    assert caught.value.tried
    assert str(caught.value).startswith("no model named tiny:latest: it is not in ")
    assert hub.requests() == []


def test_offline_nothing_is_asked_for(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULLAMA_OFFLINE", "1")
    for call in (lambda: Model.load("tiny"), lambda: mullama.pull("tiny")):
        with pytest.raises(DownloadError) as caught:
            call()
        assert caught.value.reason == "offline"
        assert re.fullmatch(
            r"cannot download tiny:latest: it is not on this machine \(it is not in .*\), and downloads are turned off "
            r"\(MULLAMA_OFFLINE=1\); turn them on, or give the path of a GGUF file",
            str(caught.value),
        )
    assert hub.requests() == []


def test_what_the_publisher_recommends_applies_where_nothing_else_is_said(hub: HubServer, model: Model) -> None:
    del hub
    with Model.load("llama3.2:1b") as recommended, Context(recommended) as context:
        assert context._defaults.temperature == 0.6
        assert context._defaults.stop_sequences == ("<|im_end|>", "<|endoftext|>")
        options = {"max_tokens": 12, "seed": 1, "deterministic": True, "ignore_eos": True}
        as_recommended = context.generate("Once upon a time", **options).text  # type: ignore[arg-type]
    with Context(model) as plain:
        at_06 = plain.generate("Once upon a time", temperature=0.6, **options).text  # type: ignore[arg-type]
        at_10 = plain.generate("Once upon a time", **options).text  # type: ignore[arg-type]
    assert as_recommended == at_06 != at_10


def test_every_call_of_an_async_model_heeds_what_the_publisher_recommends(hub: HubServer) -> None:
    del hub
    options: dict[str, Any] = {"max_tokens": 12, "seed": 1, "deterministic": True, "ignore_eos": True}
    asked = [{"role": "user", "content": "Once upon a time"}]

    async def text_of(stream: TokenStream) -> str:
        return "".join([token.text async for token in stream])

    async def main() -> tuple[list[str], list[str]]:
        async with await AsyncModel.load("llama3.2:1b") as model:
            streams = [model.generate_stream("Once upon a time", **options), model.chat_stream(asked, **options)]
            streamed = [await text_of(stream) for stream in streams]
            whole = [await model.generate("Once upon a time", **options), await model.chat(asked, **options)]
            return streamed, [answer.text for answer in whole]

    streamed, whole = run(main())
    assert streamed == whole


def test_a_config_and_a_keyword_override_what_the_publisher_recommends(hub: HubServer) -> None:
    del hub
    with Model.load("llama3.2:1b") as model, Context(model) as context:
        options = {"seed": 1, "deterministic": True, "ignore_eos": True}
        config = mullama.StreamConfig(max_tokens=12, **options)  # type: ignore[arg-type]
        by_config = context.generate("Once upon a time", config=config).text
        by_keyword = context.generate("Once upon a time", 12, temperature=1.0, **options).text  # type: ignore[arg-type]
    assert by_config == by_keyword


def test_a_load_says_in_the_log_how_far_its_download_is(hub: HubServer, script: Script) -> None:
    hub.fault("/cdn/*", {"trickle": {"bytes": 4_194_304, "ms": 50}})
    done = script("""
import logging, sys
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("mullama").setLevel(logging.INFO)
from mullama import Model
Model.load("large")
""")
    assert "downloading large: " in done.stdout
    assert " of 33,558,838 bytes" in done.stdout
