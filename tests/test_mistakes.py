"""The likeliest mistakes, each with the exact words that say what to do instead."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mullama
from mullama import AsyncModel, ChatTemplateError, EngineClosedError, InvalidConfigError, InvalidPromptError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mullama import Context, Model

    Mistake = Callable[["Tried"], object]

USER = {"role": "user", "content": "Hello!"}
MESSAGE = '{"role": "user", "content": "Hello!"}'


class Tried:
    """What a new user has in hand. All types are given up: a type checker would find most of these mistakes."""

    def __init__(self, model: Model, context: Context) -> None:
        """Holds a model, a context and the classes."""
        self.model: Any = model
        self.context: Any = context
        self.async_model: Any = AsyncModel(model)
        self.Model: Any = mullama.Model
        self.Context: Any = mullama.Context
        self.AsyncModel: Any = mullama.AsyncModel
        self.Params: Any = mullama.ContextParams
        self.Config: Any = mullama.StreamConfig

    def chat(self, **message: object) -> object:
        """Chats with one message."""
        return self.context.chat([USER, message], 3)


@pytest.fixture
def tried(model: Model, context: Context) -> Tried:
    return Tried(model, context)


UNKNOWN = "got an unexpected keyword argument"
N_CTX = "'n_ctx' belongs to ContextParams: "
SETTINGS = "pass settings as config=StreamConfig(...) or as keywords"

MISTAKES: dict[str, tuple[Mistake, type[Exception], str]] = {
    # names of other libraries, and typos
    "stop": (
        lambda it: it.context.generate("A", stop=["."]),
        TypeError,
        f"Context.generate() {UNKNOWN} 'stop'. Did you mean 'stop_sequences'?",
    ),
    **{
        name: (
            lambda it, name=name: it.context.chat_stream([USER], **{name: 5}),  # type: ignore[misc]
            TypeError,
            f"Context.chat_stream() {UNKNOWN} '{name}'. Did you mean 'max_tokens'?",
        )
        for name in ("n_predict", "num_predict", "max_new_tokens")
    },
    "stream": (
        lambda it: it.context.chat([USER], stream=True),
        TypeError,
        (
            f"Context.chat() {UNKNOWN} 'stream'. generate_stream() and chat_stream() return a stream; "
            "generate() and chat() return a Completion"
        ),
    ),
    "a typo in a call": (
        lambda it: it.context.generate_stream("A", temprature=0),
        TypeError,
        f"Context.generate_stream() {UNKNOWN} 'temprature'. Did you mean 'temperature'?",
    ),
    "a typo in a config": (
        lambda it: it.Config(temprature=0),
        TypeError,
        f"StreamConfig() {UNKNOWN} 'temprature'. Did you mean 'temperature'?",
    ),
    "a typo in params": (
        lambda it: it.Params(n_cxt=5),
        TypeError,
        f"ContextParams() {UNKNOWN} 'n_cxt'. Did you mean 'n_ctx'?",
    ),
    "gpu_layers": (
        lambda it: it.Model.load("demo", gpu_layers=5),
        TypeError,
        f"Model.load() {UNKNOWN} 'gpu_layers'. Did you mean 'n_gpu_layers'?",
    ),
    "verbose": (
        lambda it: it.Model.load("demo", verbose=False),
        TypeError,
        f"Model.load() {UNKNOWN} 'verbose'. The log goes to the logger 'mullama' of the logging module",
    ),
    # the right option in the wrong call
    "n_ctx in a load": (
        lambda it: it.Model.load("demo", n_ctx=512),
        TypeError,
        f"Model.load() {UNKNOWN} 'n_ctx'. {N_CTX}Context(model, ContextParams(n_ctx=...))",
    ),
    "n_ctx in an async load": (
        lambda it: it.AsyncModel.load("demo", n_ctx=512),
        TypeError,
        (
            f"AsyncModel.load() {UNKNOWN} 'n_ctx'. {N_CTX}"
            "await AsyncModel.load(path, context_params=ContextParams(n_ctx=...))"
        ),
    ),
    "n_ctx in a context": (
        lambda it: it.Context(it.model, n_ctx=512),
        TypeError,
        f"Context() {UNKNOWN} 'n_ctx'. {N_CTX}Context(model, ContextParams(n_ctx=...))",
    ),
    "n_ctx in a call": (
        lambda it: it.context.generate("A", n_ctx=512),
        TypeError,
        f"Context.generate() {UNKNOWN} 'n_ctx'. {N_CTX}Context(model, ContextParams(n_ctx=...))",
    ),
    "temperature in params": (
        lambda it: it.Params(temperature=0),
        TypeError,
        (
            f"ContextParams() {UNKNOWN} 'temperature'. 'temperature' belongs to StreamConfig: "
            "context.generate(prompt, temperature=...) or StreamConfig(temperature=...)"
        ),
    ),
    "n_gpu_layers in params": (
        lambda it: it.Params(n_gpu_layers=5),
        TypeError,
        (
            f"ContextParams() {UNKNOWN} 'n_gpu_layers'. 'n_gpu_layers' belongs to Model.load: "
            "Model.load(path, n_gpu_layers=...)"
        ),
    ),
    # arguments of the wrong kind
    "a config as second argument": (
        lambda it: it.context.generate_stream("A", it.Config()),
        TypeError,
        f"max_tokens must be an int, not StreamConfig; {SETTINGS}",
    ),
    "a dict as second argument": (
        lambda it: it.context.chat([USER], {"temperature": 0}),
        TypeError,
        f"max_tokens must be an int, not dict; {SETTINGS}",
    ),
    "a dict as config": (
        lambda it: it.context.generate("A", config={"temperature": 0}),
        TypeError,
        "config must be a StreamConfig, not dict; StreamConfig(**settings) makes one",
    ),
    "a config without keywords": (
        lambda it: it.Config(200),
        TypeError,
        "StreamConfig() takes keywords only, such as StreamConfig(max_tokens=...)",
    ),
    "a number as params": (
        lambda it: it.Context(it.model, 512),
        TypeError,
        "params must be a ContextParams, not int; a context of 512 tokens is Context(model, ContextParams(n_ctx=512))",
    ),
    "a key that is no token": (
        lambda it: it.Config(logit_bias={"a": 1}),
        TypeError,
        "the key 'a' of logit_bias must be an int token id, not str",
    ),
    "a bias that is no number": (
        lambda it: it.Config(logit_bias={7: "a"}),
        TypeError,
        "logit_bias[7] must be a number, not str",
    ),
    "a stop that is not text": (
        lambda it: it.Config(stop_sequences=["END", 7]),
        TypeError,
        "stop_sequences[1] must be a str, not int",
    ),
    "a word that is a bool": (
        lambda it: it.Params(flash_attn=True),
        TypeError,
        "flash_attn must be one of auto, on, off, not bool",
    ),
    "a text that is a number": (lambda it: it.model.tokenize(5), TypeError, "text must be a str, not int"),
    "a flag that is a number": (
        lambda it: it.Model.load("demo", use_mmap=0),
        TypeError,
        "use_mmap must be a bool, not int",
    ),
    "messages as a prompt": (
        lambda it: it.context.generate([USER]),
        TypeError,
        "prompt must be a str or a sequence of token ids, not messages; pass those to chat or chat_stream",
    ),
    # classes that are made elsewhere
    "Model(path)": (
        lambda it: it.Model("model.gguf"),
        TypeError,
        "a Model is made by Model.load('model.gguf'), not by Model('model.gguf')",
    ),
    "Model(model_path=path)": (
        lambda it: it.Model(model_path="model.gguf"),
        TypeError,
        "a Model is made by Model.load(path), not by Model()",
    ),
    "Context(path)": (
        lambda it: it.Context("demo"),
        TypeError,
        "model must be a Model, not str; Context(Model.load('demo')) loads it",
    ),
    "Context(async_model)": (
        lambda it: it.Context(it.async_model),
        TypeError,
        "model must be a Model, not AsyncModel; pass its attribute model",
    ),
    "AsyncModel(path)": (
        lambda it: it.AsyncModel("demo"),
        TypeError,
        "model must be a Model, not str; await AsyncModel.load('demo') loads it",
    ),
    # numbers out of range
    "a negative length": (
        lambda it: it.Params(n_ctx=-1),
        InvalidConfigError,
        "n_ctx is -1, but must be None or 1 to 268435456",
    ),
    "llama.cpp's random seed": (
        lambda it: it.context.generate("A", seed=-1),
        InvalidConfigError,
        "seed is -1, but must be None or 0 to 4294967294",
    ),
    "llama.cpp's endless answer": (
        lambda it: it.context.generate("A", -1),
        InvalidConfigError,
        "max_tokens is -1, but must be 0 to 4294967295",
    ),
    "a token of another model": (
        lambda it: it.context.generate([99_999]),
        InvalidPromptError,
        "invalid prompt: token 99999 at position 0 is not in the vocabulary of 1024 tokens (ids 0 to 1023)",
    ),
    "no prompt": (
        lambda it: it.context.generate(""),
        InvalidPromptError,
        "invalid prompt: the prompt is empty; it needs at least one character or token id",
    ),
    # messages
    "a text as messages": (
        lambda it: it.context.chat("Hello!"),
        TypeError,
        f"messages must be a list of mappings, such as [{MESSAGE}], not str",
    ),
    "a text as a message": (
        lambda it: it.context.chat(["Hello!"]),
        TypeError,
        f"messages[0] must be a mapping, such as {MESSAGE}, not str",
    ),
    "a completion as a message": (
        lambda it: it.context.chat([USER, it.context.chat([USER], 1)]),
        TypeError,
        "messages[1] must be a mapping, not Completion; its message is completion.message",
    ),
    "no role": (
        lambda it: it.chat(content="A"),
        TypeError,
        "messages[1] has no 'role', such as 'system', 'user', 'assistant' or 'tool'",
    ),
    "no messages": (
        lambda it: it.context.chat([]),
        ChatTemplateError,
        "messages is empty; it must have at least one message",
    ),
    "no content": (
        lambda it: it.chat(role="user"),
        ChatTemplateError,
        "messages[1]: the content is missing",
    ),
    "a content that is a number": (
        lambda it: it.chat(role="user", content=5),
        ChatTemplateError,
        "messages[1]: the content must be a text or a list of text parts, not a number",
    ),
    "an image": (
        lambda it: it.chat(role="user", content=[{"type": "image_url", "image_url": {"url": "data:"}}]),
        ChatTemplateError,
        'messages[1]: content[0] is of the type "image_url", but only text is supported',
    ),
    "an unknown role": (
        lambda it: it.chat(role="wizard", content="A"),
        ChatTemplateError,
        'messages[1]: the chat template leaves out messages of the role "wizard"',
    ),
    # async calls
    "async with a load": (
        lambda it: asyncio.run(enter(it.AsyncModel.load("demo"))),
        TypeError,
        "AsyncModel.load() must be awaited: async with await AsyncModel.load(...) as model",
    ),
}


async def enter(handle: Any) -> None:  # noqa: ANN401  # wrong on purpose
    async with handle:
        pass


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_with_these_words(tried: Tried, name: str) -> None:
    mistake, error, words = MISTAKES[name]
    with pytest.raises(error) as caught:
        mistake(tried)
    assert str(caught.value) == words
    assert tried.context.unfinished == 0


def test_a_load_without_await_names_the_await(tried: Tried) -> None:
    load = tried.AsyncModel.load("demo")
    words = (
        "AsyncModel.load() must be awaited before its result has 'generate_stream': model = await AsyncModel.load(...)"
    )
    with pytest.raises(AttributeError) as caught:
        load.generate_stream("A")
    assert str(caught.value) == words
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del load, caught
        gc.collect()
    assert ["AsyncModel.load" in str(one.message) for one in warned] == [True]


def test_a_load_is_a_coroutine_for_asyncio() -> None:
    async def use() -> str:
        task = asyncio.create_task(AsyncModel.load("demo"))
        async with (
            await asyncio.wait_for(task, 60) as model,
            await asyncio.wait_for(AsyncModel.load("demo"), 60) as other,
        ):
            pending = AsyncModel.load("demo")
            assert asyncio.iscoroutine(pending)
            pending.close()
            assert other.model is not model.model
            return str(await model.generate("Count: 1,", 2, temperature=0))

    assert asyncio.run(use())


def test_a_closed_model_is_named_by_every_call_and_by_its_streams() -> None:
    model = mullama.Model.load("demo")
    context = mullama.Context(model)
    stream = context.generate_stream("A", 100_000, ignore_eos=True, timeout_ms=None)
    next(stream)
    model.close()
    calls: list[Callable[[], object]] = [
        lambda: context.generate("A"),
        lambda: context.generate_stream("A"),
        lambda: list(stream),
        lambda: asyncio.run(AsyncModel.generate(AsyncModel(model), "A")),
        lambda: model.tokenize("A"),
    ]
    for call in calls:
        with pytest.raises(EngineClosedError) as caught:
            call()
        assert (str(caught.value), caught.value.what) == ("the model is closed", "model")


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(mullama.ModelNotFoundError) as caught:
        mullama.Model.load("~/none.gguf")
    assert caught.value.path == tmp_path / "none.gguf"
    (tmp_path / "one.gguf").symlink_to(mullama._model.DEMO)
    for path in ("~/one.gguf", b"~/one.gguf", Path("~/one.gguf")):
        load: Any = mullama.Model.load
        with load(path) as model:
            assert model.path == tmp_path / "one.gguf"
    with asyncio.run(AsyncModel.load("~/one.gguf")) as loaded:
        assert loaded.model.path == tmp_path / "one.gguf"
