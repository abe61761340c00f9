"""A forked child has no engine thread: every public member returns or raises at once, whoever held the locks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix forks"), pytest.mark.slow]


def test_every_public_member_in_a_forked_child_returns_at_once_while_other_threads_held_the_locks(
    script: Callable[[str], CompletedProcess[str]],
) -> None:
    done = script("""
import inspect, os, signal, threading, time, traceback, warnings
from mullama import Context, ContextParams, EngineClosedError, Model

warnings.simplefilter("ignore")
model = Model.load("demo")
context = Context(model, ContextParams(n_threads=1))
messages = [{"role": "user", "content": "A"}]
arguments = {
    "apply_chat_template": (messages,),
    "chat": (messages,),
    "chat_stream": (messages,),
    "detokenize": ([65],),
    "generate": ("A",),
    "generate_stream": ("A",),
    "tokenize": ("A",),
}
streams = []

def read():
    while True:
        stream = context.generate_stream("Once", 400, ignore_eos=True, timeout_ms=0)
        streams[:] = [stream]
        for _ in stream:
            pass

def observe():
    while True:
        for stream in streams:
            stream.text, stream.usage, stream.tokens_generated, context.stats(), context.unfinished

def call(member, name):
    result = member(*arguments.get(name, ()))
    if inspect.iscoroutine(result):
        try:
            result.send(None)
        except StopIteration:
            pass

def walk(thing):
    refused = set()
    names = [name for name in dir(thing) if not name.startswith("_") and name != "load"]
    for name in [*names, "__repr__", "__next__", "__iter__", "__enter__"]:
        try:
            member = getattr(thing, name, None)
            if callable(member):
                call(member, name)
        except EngineClosedError:
            refused.add(name)
    return refused

def child():
    # Its default action ends the child.
    signal.alarm(15)
    refused = walk(streams[0])
    assert {"text", "usage", "tokens_generated", "finish_reason", "__next__"} <= refused, refused
    refused = walk(context)
    assert {"stats", "unfinished", "context_len", "generate", "chat_stream"} <= refused, refused
    assert {"tokenize", "apply_chat_template"} <= walk(model)

for target in [read, read, observe, observe]:
    threading.Thread(target=target, daemon=True).start()
while not streams:
    time.sleep(0.01)
begun = time.monotonic()
while time.monotonic() - begun < 4:
    pid = os.fork()
    if not pid:
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print("done")
""")
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
