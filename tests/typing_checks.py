"""What a type checker is to say of every public call. Checked by `test_typing`, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from typing_extensions import assert_type

from mullama import (
    AsyncModel,
    ChatTemplateError,
    Completion,
    Context,
    ContextOverflowError,
    ContextParams,
    DownloadError,
    EngineClosedError,
    GenerationError,
    InvalidConfigError,
    InvalidPromptError,
    Model,
    ModelLoadError,
    ModelNotFoundError,
    MullamaError,
    OverloadedError,
    Stats,
    Steps,
    StreamConfig,
    StreamTimeoutError,
    Timings,
    Token,
    TokenStream,
    Usage,
    __version__,
)

Reason = Literal["stop", "length", "cancelled", "timeout", "error"]
MESSAGES = [{"role": "user", "content": "Hello!"}]
TOOLS = [{"name": "look", "parameters": {"type": "object"}}]


def models(file: Path) -> None:
    assert_type(__version__, str)
    assert_type(Model.load(file), Model)
    model = Model.load(
        "demo",
        n_gpu_layers=0,
        use_mmap=True,
        use_mlock=False,
        check_tensors=True,
        vocab_only=False,
        progress=lambda fraction: fraction < 1,
    )
    assert_type(model, Model)
    with model as same:
        assert_type(same, Model)
    assert_type(model.tokenize("A", add_special=False, parse_special=True), list[int])
    assert_type(model.detokenize([1, 2]), str)
    assert_type(model.detokenize((1, 2)), str)
    assert_type(
        model.apply_chat_template(
            MESSAGES, tools=TOOLS, chat_template="{{ 1 }}", add_generation_prompt=False, enable_thinking=False
        ),
        str,
    )
    assert_type(model.path, Path)
    assert_type(model.metadata, dict[str, str])
    assert_type(model.description, str)
    assert_type((model.n_ctx_train, model.n_embd, model.n_layer), tuple[int, int, int])
    assert_type((model.n_params, model.n_vocab, model.size), tuple[int, int, int])
    assert_type((model.bos, model.eos), tuple["int | None", "int | None"])
    assert_type(model.end_tokens, tuple[int, ...])


def contexts(model: Model) -> None:
    context = Context(model, ContextParams(n_ctx=512, flash_attn="off", type_k="q8_0"))
    with context as same:
        assert_type(same, Context)
    assert_type(context.generate_stream("A"), TokenStream)
    assert_type(context.generate_stream([1, 2], 5, temperature=0, stop_sequences=["\n"], seed=None), TokenStream)
    assert_type(context.generate("A", max_tokens=5, config=StreamConfig(top_k=1)), Completion)
    assert_type(context.chat_stream(MESSAGES, 5, tools=TOOLS, chat_template_kwargs={"a": 1}), TokenStream)
    assert_type(context.chat(MESSAGES, chat_template="{{ 1 }}", logit_bias={1: 0.5}), Completion)
    assert_type(context.model, Model)
    assert_type(context.params, ContextParams)
    assert_type((context.context_len, context.unfinished), tuple[int, int])
    assert_type(context.stats(), Stats)
    assert_type(context.stats().decode_steps, Steps)
    assert_type(context.stats().decode_steps.total, float)
    context.generate("A", max_token=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    context.generate("A", temperature="hot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ContextParams(type_k="q9")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_models(model: Model) -> None:
    loaded = await AsyncModel.load(
        "demo",
        context_params=ContextParams(),
        n_gpu_layers=0,
        use_mmap=True,
        use_mlock=False,
        check_tensors=True,
        progress=print,
    )
    assert_type(loaded, AsyncModel)
    async with AsyncModel(model, ContextParams()) as shared:
        assert_type(shared, AsyncModel)
    with shared as same:
        assert_type(same, AsyncModel)
    assert_type(shared.generate_stream("A", 5, temperature=0), TokenStream)
    assert_type(await shared.generate([1], config=StreamConfig()), Completion)
    assert_type(shared.chat_stream(MESSAGES, tools=TOOLS), TokenStream)
    assert_type(await shared.chat(MESSAGES, 5, seed=1), Completion)
    assert_type(shared.model, Model)
    assert_type(shared.context, Context)
    assert_type(shared.stats(), Stats)


async def streams(stream: TokenStream) -> None:
    for token in stream:
        assert_type(token, Token)
    async for token in stream:
        assert_type(token, Token)
    assert_type(next(stream), Token)
    assert_type(await stream.__anext__(), Token)
    assert_type([token.text for token in stream], list[str])
    assert_type([token.text async for token in stream], list[str])
    with stream as same:
        assert_type(same, TokenStream)
    async with stream as same:
        assert_type(same, TokenStream)
    assert_type(stream.finish_reason, "Reason | None")
    assert_type(stream.stop_sequence, "str | None")
    assert_type((stream.tokens_generated, stream.seed), tuple[int, int])
    assert_type(stream.tokens_per_second(), float)
    assert_type(stream.text, str)
    assert_type(stream.usage, Usage)
    assert_type(stream.timings, Timings)
    stream.cancel()
    stream.close()
    await stream.aclose()


def values(token: Token, completion: Completion) -> None:
    assert_type(token.text, str)
    assert_type(token.id, "int | None")
    assert_type(token.bytes, bytes)
    assert_type(token.index, int)
    assert_type(token.logprob, "float | None")
    assert_type(token.top_logprobs, list[tuple[int, float]])
    token.text = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(completion.text, str)
    assert_type(completion.tokens, tuple[Token, ...])
    assert_type(completion.finish_reason, Reason)
    assert_type(completion.stop_sequence, "str | None")
    assert_type(completion.usage.cached_tokens, int)
    assert_type(completion.timings.first_token, float)
    assert_type(completion.seed, int)


def errors_of_models(error: MullamaError) -> None:
    if isinstance(error, ModelNotFoundError):
        assert_type((error.path, error.name), tuple["Path | None", "str | None"])
    if isinstance(error, DownloadError):
        assert_type((error.reason, error.url, error.status), tuple[str, "str | None", "int | None"])
    if isinstance(error, ModelLoadError):
        assert_type(error.path, Path)


def errors(error: MullamaError) -> None:
    assert_type(error.code, str)
    errors_of_models(error)
    if isinstance(error, InvalidConfigError):
        assert_type((error.field, error.range), tuple[str, str])
    if isinstance(error, InvalidPromptError):
        assert_type((error.reason, error.token, error.position), tuple[str, "int | None", "int | None"])
    if isinstance(error, ChatTemplateError):
        assert_type((error.reason, error.line), tuple[str, "int | None"])
    if isinstance(error, ContextOverflowError):
        assert_type((error.prompt_tokens, error.is_lower_bound, error.context_len), tuple[int, bool, int])
    if isinstance(error, OverloadedError):
        assert_type((error.unfinished, error.limit), tuple["int | None", int])
    if isinstance(error, StreamTimeoutError):
        assert_type((error.deadline, error.limit_ms, error.completion_tokens), tuple[str, int, int])
    if isinstance(error, GenerationError):
        assert_type(error.reason, str)
    if isinstance(error, EngineClosedError):
        assert_type(error.what, str)
