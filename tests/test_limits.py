"""What the system refuses, threads and descriptors, is an error of mullama, and later calls work again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]

# The system counts no threads of root, so the program becomes somebody else.
NO_THREADS = """
def refuse():
    resource.setrlimit(resource.RLIMIT_NPROC, (0, resource.getrlimit(resource.RLIMIT_NPROC)[1]))
def allow():
    resource.setrlimit(resource.RLIMIT_NPROC, (resource.getrlimit(resource.RLIMIT_NPROC)[1],) * 2)
if os.getuid() == 0:
    os.setgid(65_534)
    os.setuid(65_534)
"""
NO_DESCRIPTORS = """
held = []
def refuse():
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
def allow():
    while held:
        os.close(held.pop())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
"""
PROGRAM = """
import asyncio, json, os, resource  # json as an earlier chat does
from mullama import AsyncModel, Context, ContextParams, Model, MullamaError
import mullama._source  # as an earlier load does

model = Model.load("demo")
context = Context(model)
aio = AsyncModel(model)
asyncio.run(aio.generate("Hello", 2))
messages = [{{"role": "user", "content": "Hello!"}}]
loop = asyncio.new_event_loop()
calls = {{
    "load": lambda: Model.load("demo"),
    "async load": lambda: loop.run_until_complete(AsyncModel.load("demo")),
    "tokenize": lambda: model.tokenize("Hello"),
    "template": lambda: model.apply_chat_template(messages),
    "context": lambda: Context(model, ContextParams(n_ctx=333)),
    "generate": lambda: context.generate("Hello", 3),
    "token ids": lambda: context.generate([1, 2], 3),
    "chat": lambda: context.chat(messages, 3),
}}
{limit}
refuse()
refused = []
for name, call in calls.items():
    try:
        call()
    except MullamaError as error:
        refused.append(name)
        assert "thread" in str(error) or "Too many open files" in str(error), error
allow()
for call in calls.values():
    call()
loop.close()
print(", ".join(refused))
"""


@pytest.mark.parametrize(
    ("limit", "refused"),
    [
        (NO_THREADS, "load, async load, tokenize, template, context, generate, chat"),
        (NO_DESCRIPTORS, "load, async load"),
    ],
    ids=["threads", "descriptors"],
)
def test_a_refused_resource_is_an_error_of_the_call_alone(script: Script, limit: str, refused: str) -> None:
    done = script(PROGRAM.format(limit=limit))
    assert done.stderr == ""
    told = set(done.stdout.strip().split(", "))
    # A prompt may find the thread of an earlier one.
    assert told <= set(refused.split(", "))
    assert {"load", "async load"} <= told


def test_the_first_use_of_a_part_without_free_descriptors_is_an_error_of_mullama(script: Script) -> None:
    done = script(f"""
import asyncio, os, resource
from mullama import AsyncModel, Context, GenerationError, Model, MullamaError

async def read(stream):
    return [token async for token in stream]

{NO_DESCRIPTORS}
loop = asyncio.new_event_loop()
refuse()
refused = []
def attempt(name, call):
    try:
        call()
    except MullamaError as error:
        assert "Too many open files" in str(error), error
        refused.append(name)
attempt("load", lambda: Model.load("demo"))
attempt("async load", lambda: loop.run_until_complete(AsyncModel.load("demo")))
allow()
model = Model.load("demo")
context = Context(model)
messages = [{{"role": "user", "content": "Hello!"}}]
refuse()
attempt("chat", lambda: context.chat(messages, 3))
attempt("async read", lambda: loop.run_until_complete(read(context.generate_stream("Hello", 3))))
try:
    context.generate("Hello", tempp=1)
except TypeError:
    refused.append("typo")
allow()
context.chat(messages, 3)
loop.run_until_complete(read(context.generate_stream("Hello", 3)))
loop.close()
print(", ".join(refused))
""")
    assert done.stderr == ""
    assert done.stdout == "load, async load, chat, async read, typo\n"
