"""Every error of the table, raised for real, with its facts."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mullama
from mullama import (
    AsyncModel,
    ChatTemplateError,
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
    StreamBusyError,
    StreamConfig,
    StreamTimeoutError,
    _model,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Row: TypeAlias = tuple[type[MullamaError], Callable[[Model, Path], None], set[str], type[Exception]]

DEMO = Path(_model.DEMO)

STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


def poison(file: Path) -> Path:
    """Writes the demo model with one weight that is not a number."""
    weights = bytearray(DEMO.read_bytes())
    weights[-34:] = b"\xff" * 34
    file.write_bytes(weights)
    return file


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        Model.load(tmp_path / "none.gguf")
    assert caught.value.path == caught.value.filename == tmp_path / "none.gguf"
    assert caught.value.errno == 2
    assert isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"GGUF\3\0\0\0" + b"\xff" * 64])
def test_no_model_in_the_file(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "broken.gguf"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        Model.load(file)
    assert caught.value.path == caught.value.filename == file
    assert caught.value.reason
    assert str(caught.value) == f"cannot load {file}: {caught.value.reason}"
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("size", [1, 23, 24, 1000, 100_000, DEMO.stat().st_size - 1])
def test_a_truncated_model(tmp_path: Path, size: int) -> None:
    file = tmp_path / "truncated.gguf"
    file.write_bytes(DEMO.read_bytes()[:size])
    with pytest.raises(ModelLoadError):
        Model.load(file)


def test_a_weight_that_is_not_a_number(tmp_path: Path) -> None:
    poisoned = poison(tmp_path / "poisoned.gguf")
    with pytest.raises(ModelLoadError):
        Model.load(poisoned, check_tensors=True)
    with Model.load(poisoned) as model, Context(model) as context:
        stream = context.generate_stream("A")
        with pytest.raises(GenerationError) as caught:
            next(stream)
        assert caught.value.reason in str(caught.value)
        assert list(stream) == []
        assert stream.finish_reason == "error"


def test_a_prompt_longer_than_the_context(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=16)) as context:
        stream = context.generate_stream([1] * 20)
        with pytest.raises(ContextOverflowError) as caught:
            next(stream)
    assert (caught.value.prompt_tokens, caught.value.context_len) == (20, 16)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("prompt", "token", "position"),
    [
        ([], None, None),
        ([5, 999_999], 999_999, 1),
        ([5, 6, -1], -1, 2),
        ([5, 2**31], None, 1),
        ([10**5000], None, 0),
        ("ab\udcff", None, 2),
    ],
    ids=["empty", "unknown", "negative", "too large", "huge", "surrogate"],
)
def test_a_prompt_that_is_wrong_is_reported_by_the_first_read(
    context: Context,
    prompt: Any,  # noqa: ANN401  # text or ids
    token: int | None,
    position: int | None,
) -> None:
    stream = context.generate_stream(prompt)
    with pytest.raises(InvalidPromptError) as caught:
        next(stream)
    assert (caught.value.token, caught.value.position) == (token, position)
    assert str(caught.value) == f"invalid prompt: {caught.value.reason}"
    assert list(stream) == []
    assert stream.finish_reason == "error"
    with pytest.raises(InvalidPromptError):
        context.generate(prompt)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (None, "prompt must be a str or a sequence of token ids, not NoneType"),
        (b"bytes", "prompt must be a str or a sequence of token ids, not bytes"),
        ({1: 2}, "prompt must be a str or a sequence of token ids, not dict"),
        ({1, 2}, "prompt must be a str or a sequence of token ids, not set"),
        (7, "prompt must be a str or a sequence of token ids, not int"),
        ([1, "2"], r"prompt\[1\] must be an int token id, not str"),
        ([1.0], r"prompt\[0\] must be an int token id, not float"),
        ([True], r"prompt\[0\] must be an int token id, not bool"),
    ],
)
def test_a_prompt_of_the_wrong_type_is_a_type_error_of_the_call(
    context: Context,
    prompt: Any,  # noqa: ANN401  # wrong on purpose
    words: str,
) -> None:
    with pytest.raises(TypeError, match=f"^{words}$"):
        context.generate_stream(prompt)
    assert context.unfinished == 0


class Liar(Sequence[int]):
    """A sequence that does not end, whatever its length says."""

    def __init__(self, length: int) -> None:
        """Says this length."""
        self._length = length
        self.asked = 0

    def __len__(self) -> int:
        """The length that it says."""
        return self._length

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  # as the base has it
        """Any item."""
        self.asked += 1
        return 1


@pytest.mark.parametrize("prompt", [range(4 * 10**8), Liar(2**60), Liar(0)], ids=["range", "long", "endless"])
def test_token_ids_are_counted_before_they_are_converted(context: Context, prompt: Any) -> None:  # noqa: ANN401
    began = time.monotonic()
    with pytest.raises(ContextOverflowError) as caught:
        context.generate(prompt)
    assert time.monotonic() - began < 1
    assert caught.value.prompt_tokens >= context.context_len
    assert isinstance(prompt, range) or prompt.asked <= context.context_len + 1


def test_the_first_wrong_token_ends_the_conversion(model: Model, context: Context) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        context.generate([5, model.n_vocab, *[1] * 500])
    assert (caught.value.token, caught.value.position) == (model.n_vocab, 1)
    began = time.monotonic()
    with pytest.raises(InvalidPromptError):
        model.detokenize(range(4 * 10**8))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("deadline", ["timeout_ms", "ttft_timeout_ms", "queue_timeout_ms"])
def test_a_deadline_in_the_queue(endless: Context, deadline: str) -> None:
    limit: Any = {deadline: 50}
    with endless.generate_stream("A", 60_000, ignore_eos=True, buffer_size=65_536) as first:
        next(first)
        second = endless.generate_stream("A", **limit)
        with pytest.raises(StreamTimeoutError) as caught:
            next(second)
    assert (caught.value.deadline, caught.value.limit_ms, caught.value.completion_tokens) == (deadline, 50, 0)
    assert isinstance(caught.value, TimeoutError)


def test_too_many_streams(model: Model) -> None:
    with (
        Context(model, ContextParams(n_parallel=1, max_queue=0, max_paused=1)) as context,
        context.generate_stream("A", config=STUCK),
        pytest.raises(OverloadedError) as caught,
    ):
        context.generate_stream("A")
    assert (caught.value.unfinished, caught.value.limit) == (1, 1)


def test_a_context_of_a_closed_model_says_that_the_model_is_closed() -> None:
    with Model.load("demo") as model:
        context = Context(model)
    with pytest.raises(EngineClosedError) as caught:
        context.generate_stream("A")
    assert (caught.value.what, str(caught.value)) == ("model", "the model is closed")


def no_file(_model: Model, folder: Path) -> None:
    Model.load(folder / "none.gguf")


def no_network(_model: Model, _folder: Path) -> None:
    mullama.pull("no-such-model")


def no_model(_model: Model, folder: Path) -> None:
    Model.load(folder)


def a_setting_out_of_range(_model: Model, _folder: Path) -> None:
    StreamConfig(top_k=-1)


def an_unknown_token(model: Model, _folder: Path) -> None:
    Context(model).generate([5, 999_999])


def a_long_prompt(model: Model, _folder: Path) -> None:
    Context(model, ContextParams(n_ctx=16)).generate([1] * 20)


def too_many_streams(model: Model, _folder: Path) -> None:
    context = Context(model, ContextParams(n_parallel=1, max_queue=0, max_paused=1))
    with context.generate_stream("A", config=STUCK):
        context.generate_stream("A")


def a_deadline(model: Model, _folder: Path) -> None:
    Context(model).generate("A", config=STUCK, timeout_ms=50)


def a_weight_that_is_no_number(_model: Model, folder: Path) -> None:
    Context(Model.load(poison(folder / "poisoned.gguf"))).generate("A")


def a_second_reader(model: Model, _folder: Path) -> None:
    with Context(model).generate_stream("A", config=STUCK) as stream, ThreadPoolExecutor(1) as threads:
        reading = threads.submit(list, stream)
        try:
            while not stream.tokens_generated or not stream._being_read:
                assert not reading.done()
                time.sleep(0.001)
            next(stream)
        finally:
            stream.close()


def a_closed_context(model: Model, _folder: Path) -> None:
    with Context(model) as context:
        pass
    context.generate("A")


def a_template_that_refuses(model: Model, _: Path) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    Context(model).chat([{"role": "user", "content": "Hello!"}], chat_template=template)


TABLE: list[Row] = [
    (ModelNotFoundError, no_file, {"path", "name", "tried"}, FileNotFoundError),
    (DownloadError, no_network, {"name", "reason", "url", "status"}, OSError),
    (ModelLoadError, no_model, {"path", "reason"}, OSError),
    (InvalidConfigError, a_setting_out_of_range, {"field", "value", "range"}, ValueError),
    (InvalidPromptError, an_unknown_token, {"reason", "token", "position"}, ValueError),
    (ContextOverflowError, a_long_prompt, {"prompt_tokens", "is_lower_bound", "context_len"}, ValueError),
    (ChatTemplateError, a_template_that_refuses, {"reason", "line"}, ValueError),
    (OverloadedError, too_many_streams, {"unfinished", "limit"}, MullamaError),
    (StreamTimeoutError, a_deadline, {"deadline", "limit_ms", "completion_tokens"}, TimeoutError),
    (GenerationError, a_weight_that_is_no_number, {"reason"}, MullamaError),
    (StreamBusyError, a_second_reader, set(), RuntimeError),
    (EngineClosedError, a_closed_context, {"what"}, MullamaError),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].__name__)
def test_every_error_is_raised_for_real_with_its_facts(model: Model, tmp_path: Path, row: Row) -> None:
    error, fail, facts, base = row
    with pytest.raises(MullamaError) as caught:
        fail(model, tmp_path)
    assert type(caught.value) is error
    assert isinstance(caught.value, base)
    assert vars(caught.value).keys() - {"completion"} == facts == error.__annotations__.keys()
    assert str(caught.value)
    assert getattr(mullama, error.__name__) is error


def test_the_table_is_complete_and_every_code_is_its_own() -> None:
    classes = [error for error, *_ in TABLE]
    assert classes == MullamaError.__subclasses__()
    assert len({error.code for error in classes}) == len(classes)


def test_every_error_has_the_exit_code_and_the_status_of_the_table() -> None:
    table = {
        ModelNotFoundError: (3, 404),
        DownloadError: (6, 502),
        ModelLoadError: (3, 500),
        InvalidConfigError: (2, 400),
        InvalidPromptError: (2, 400),
        ContextOverflowError: (2, 400),
        ChatTemplateError: (2, 400),
        OverloadedError: (5, 429),
        StreamTimeoutError: (4, 504),
        GenerationError: (1, 500),
        StreamBusyError: (1, 500),
        EngineClosedError: (1, 503),
    }
    assert {error: (error.exit_code, error.http_status) for error in MullamaError.__subclasses__()} == table


def test_a_timeout_names_the_setting_and_the_way_out(model: Model) -> None:
    with pytest.raises(StreamTimeoutError) as caught:
        Context(model).generate("A", config=STUCK, timeout_ms=100)
    assert caught.value.completion_tokens == 1
    assert str(caught.value) == "timed out after 100 ms with 1 token generated (timeout_ms=0 removes the limit)"


@pytest.mark.parametrize("face", ["generate", "chat", "async generate", "async chat"])
def test_an_error_carries_what_was_generated_before_it(model: Model, face: str) -> None:
    context = Context(model)
    options: Any = {"config": StreamConfig(stream_delay_ms=20, timeout_ms=500, ignore_eos=True)}
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: context.generate("A", **options),
        "chat": lambda: context.chat([{"role": "user", "content": "A"}], **options),
        "async generate": lambda: asyncio.run(AsyncModel(model).generate("A", **options)),
        "async chat": lambda: asyncio.run(AsyncModel(model).chat([{"role": "user", "content": "A"}], **options)),
    }
    with pytest.raises(StreamTimeoutError) as caught:
        calls[face]()
    partial = caught.value.completion
    assert partial is not None
    assert len(partial.tokens) > 1
    assert "".join(map(str, partial.tokens)) == partial.text
    assert (partial.finish_reason, partial.usage.completion_tokens) == ("timeout", caught.value.completion_tokens)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own bytes
    assert copy.completion == partial
    assert context.unfinished == 0


def test_an_error_of_the_call_carries_nothing(model: Model) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        Context(model).generate("A", top_k=-1)
    assert caught.value.completion is None


def test_an_error_survives_pickling() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        StreamConfig(top_k=-1)
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own bytes
    assert (str(copy), vars(copy)) == (str(caught.value), vars(caught.value))


def test_an_error_leaves_other_streams_alone(context: Context) -> None:
    good = context.generate_stream("Write a poem:", 20)
    bad = context.generate_stream([999_999])
    with pytest.raises(InvalidPromptError):
        list(bad)
    assert len(list(good)) == 20
