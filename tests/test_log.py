"""What llama.cpp and the engine say, in `logging`."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mullama import Context, ContextParams, Model, ModelLoadError, _log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    Eventually = Callable[[Callable[[], bool]], bool]
    Script = Callable[[str], CompletedProcess[str]]


class Heard(logging.Handler):
    """Keeps the lines, by logger, level and words."""

    def __init__(self) -> None:
        """Has heard nothing."""
        super().__init__()
        self.lines: list[tuple[str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.lines.append((record.name, record.levelname, record.getMessage()))


@pytest.fixture
def heard() -> Iterator[Heard]:
    """Everything that is said during the test."""
    handler, logger = Heard(), logging.getLogger("mullama")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    _log.flush()


def test_by_default_nothing_is_said(script: Script, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\3\0\0\0" + b"\xff" * 64)
    done = script(f"""
import logging
from mullama import Context, Model, ModelLoadError
context = Context(Model.load("demo"))
context.generate("A", 5)
stream = context.generate_stream([5] * 900, 5)
stream.cancel()
list(stream)
try:
    Model.load({str(broken)!r})
except ModelLoadError:
    pass
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_llama_cpp_is_heard_by_the_time_the_model_is_loaded(heard: Heard) -> None:
    Model.load("demo")
    lines = list(heard.lines)
    assert len([words for name, _, words in lines if name == "mullama.llama" and words]) > 10
    assert not [line for line in lines if line[1] in {"WARNING", "ERROR"}]


def test_basic_config_is_all_it_takes(script: Script) -> None:
    done = script("""
import logging
logging.basicConfig(level=logging.DEBUG)
from mullama import Model
Model.load("demo")
""")
    assert (done.returncode, done.stdout) == (0, "")
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.split(":")[1] == "mullama.llama"]) > 10
    assert {line.split(":")[0] for line in lines} <= {"DEBUG", "INFO"}


def test_every_load_says_the_same_in_the_same_order_and_in_time(heard: Heard) -> None:
    loads = []
    for _ in range(10):
        heard.lines.clear()
        model = Model.load("demo")
        loads.append([words for _, _, words in heard.lines])
        del model
    assert loads[0]
    assert loads == [loads[0]] * 10


def test_a_cancelled_prefill_is_no_error(model: Model, heard: Heard, eventually: Eventually) -> None:
    params = ContextParams(n_ctx=65_536, n_parallel=1, n_threads=1)
    with pytest.warns(UserWarning, match="n_ctx is 65536"):
        context = Context(model, params)
    assert eventually(lambda: any("n_ctx=65536" in words for _, _, words in heard.lines))
    before = len(heard.lines)
    for _ in range(5):
        stream = context.generate_stream([5] * 60_000, timeout_ms=None)
        assert eventually(lambda: context.stats().running == 1)
        stream.cancel()
        assert list(stream) == []
        assert eventually(lambda: context.unfinished == 0)
    assert len(context.generate("A", 3, ignore_eos=True).tokens) == 3
    _log.flush()
    assert not [line for line in heard.lines[before:] if line[1] in {"WARNING", "ERROR"}]


def test_the_level_of_the_logger_is_what_is_listened_to(heard: Heard) -> None:
    logging.getLogger("mullama").setLevel(logging.ERROR)
    Model.load("demo")
    assert heard.lines == []


def test_a_failed_load_is_heard_before_its_error(heard: Heard, tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF\3\0\0\0" + b"\0" * 16)
    with pytest.raises(ModelLoadError):
        Model.load(file)
    before = len(heard.lines)
    _log.flush()
    assert len(heard.lines) == before


def test_a_handler_that_raises_breaks_nothing(script: Script) -> None:
    done = script("""
import logging, threading
class Broken(logging.Handler):
    def emit(self, record):
        threads.add(threading.current_thread().name)
        raise LookupError("a broken handler")
threads = set()
logging.basicConfig(level=logging.DEBUG, handlers=[Broken()])
logging.raiseExceptions = False
from mullama import Context, Model
for _ in range(3):
    context = Context(Model.load("demo"))
    assert len(context.generate("A", 5, ignore_eos=True).tokens) == 5
assert "mullama-log" in {thread.name for thread in threading.enumerate()}, "the listener died"
assert threads
""")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_handler_that_raises_is_told_of_as_logging_does(script: Script) -> None:
    done = script("""
import logging
class Broken(logging.Handler):
    def emit(self, record):
        raise LookupError("a broken handler")
logging.basicConfig(level=logging.DEBUG, handlers=[Broken()])
from mullama import Model
Model.load("demo")
print("loaded")
""")
    assert (done.returncode, done.stdout) == (0, "loaded\n")
    assert "LookupError: a broken handler" in done.stderr


def test_threads_that_load_at_once_are_all_heard(heard: Heard) -> None:
    Model.load("demo")
    one = len(heard.lines)
    heard.lines.clear()
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(lambda _: Model.load("demo"), range(4), timeout=60))
    _log.flush()
    assert len(models) == 4
    assert len(heard.lines) == 4 * one


def test_streams_go_on_beside_a_slow_handler(model: Model, heard: Heard) -> None:
    def sleepy(_: logging.LogRecord) -> bool:
        time.sleep(0.01)
        return True

    heard.addFilter(sleepy)
    with Context(model) as context:
        assert len(context.generate("A", 100, ignore_eos=True).tokens) == 100


def test_a_handler_that_blocks_holds_up_no_call(script: Script) -> None:
    done = script("""
import logging, os, threading, time
class Blocking(logging.Handler):
    def emit(self, record):
        blocked.set()
        threading.Event().wait()
blocked = threading.Event()
logging.basicConfig(level=logging.DEBUG, handlers=[Blocking()])
from mullama import Context, ContextParams, Model
model = Model.load("demo")
assert blocked.is_set()
began = time.monotonic()
for n_ctx in range(200, 205):
    assert len(Context(Model.load("demo"), ContextParams(n_ctx=n_ctx)).generate("A", 5, ignore_eos=True).tokens) == 5
print(time.monotonic() - began, flush=True)
os._exit(0)  # logging itself would wait for the handler
""")
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) < 10


def test_a_handler_may_call_mullama(script: Script) -> None:
    done = script("""
import logging, time
class Loading(logging.Handler):
    calls = 0
    def emit(self, record):
        Loading.calls += 1
        if Loading.calls <= 3:
            Context(Model.load("demo")).generate("A", 2)
logging.basicConfig(level=logging.DEBUG, handlers=[Loading()])
from mullama import Context, Model
Model.load("demo")
until = time.monotonic() + 20
while Loading.calls <= 10 and time.monotonic() < until:  # calls wait half a second for a line, and no longer
    time.sleep(0.001)
print(Loading.calls > 10)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_handler_that_exits_ends_nothing(script: Script) -> None:
    done = script("""
import logging
class Exiting(logging.Handler):
    def emit(self, record):
        raise SystemExit(3)
logging.basicConfig(level=logging.DEBUG, handlers=[Exiting()])
logging.raiseExceptions = False
from mullama import Context, Model
for _ in range(2):
    print(len(Context(Model.load("demo")).generate("A", 5, ignore_eos=True).tokens))
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "5\n5\n", "")


def test_lines_are_handled_outside_of_the_callers_thread(heard: Heard) -> None:
    threads: set[str] = set()

    def note(_: logging.LogRecord) -> bool:
        threads.add(threading.current_thread().name)
        return True

    heard.addFilter(note)
    Model.load("demo")
    assert threads == {"mullama-log"}
