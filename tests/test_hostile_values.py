"""Values whose own code raises, paths that no file can have, and lists and texts without an end are clear errors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from mullama import (
    ChatTemplateError,
    Context,
    ContextParams,
    InvalidConfigError,
    InvalidPromptError,
    Model,
    StreamConfig,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]


class Raising:
    """Every conversion of this value raises."""

    def __init__(self, error: BaseException) -> None:
        """Sets what is raised."""
        self.error = error

    def __index__(self) -> int:
        """Raises."""
        raise self.error

    def __float__(self) -> float:
        """Raises."""
        raise self.error

    def __fspath__(self) -> str:
        """Raises."""
        raise self.error

    def __len__(self) -> int:
        """Raises."""
        raise self.error

    def __iter__(self) -> Any:  # noqa: ANN401  # never returns
        """Raises."""
        raise self.error

    def __getitem__(self, at: int) -> int:
        """Raises."""
        raise self.error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OverflowError, RuntimeError, TypeError, ValueError])
@pytest.mark.parametrize(
    "use",
    [
        lambda _, value: StreamConfig(top_k=value),
        lambda _, value: StreamConfig(temperature=value),
        lambda _, value: StreamConfig(stop_sequences=value),
        lambda _, value: StreamConfig(stop_tokens=[value]),
        lambda _, value: StreamConfig(logit_bias={1: value}),
        lambda _, value: ContextParams(n_ctx=value),
        lambda _, value: Model.load(value),
        lambda _, value: Model.load("demo", n_gpu_layers=value),
        lambda model, value: model.detokenize(value),
        lambda model, value: model.detokenize([value]),
    ],
    ids=["int", "float", "list", "token", "bias", "params", "path", "layers", "ids", "id"],
)
def test_what_the_code_of_a_value_raises_is_raised(
    model: Model, use: Callable[[Model, Any], object], kind: type[BaseException]
) -> None:
    error = kind("the value's own")
    with pytest.raises(kind) as raised:
        use(model, Raising(error))
    assert raised.value is error


@pytest.mark.parametrize("path", ["", b"", "\ud800", "a\0b", b"a\0b", "x/\udfff/\ud800"])
def test_what_cannot_be_a_path_is_an_invalid_setting(path: Any) -> None:  # noqa: ANN401  # bytes too
    with pytest.raises(InvalidConfigError, match=r"^path is .*, but must be ") as raised:
        Model.load(path)
    assert raised.value.field == "path"
    str(raised.value).encode()


def test_a_list_that_is_too_long_to_detokenize_names_the_limit_before_it_is_read(model: Model) -> None:
    with pytest.raises(InvalidPromptError, match="100000000 token ids or more, but at most 16777216 are detokenized"):
        model.detokenize(range(10**8))


def test_the_message_of_a_template_is_cut_in_the_error(model: Model) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(ChatTemplateError, match=r"xxx… .10000000 bytes") as raised:
        model.apply_chat_template(messages, chat_template="{{ raise_exception('x' * 10**7) }}")
    assert len(str(raised.value)) < 2_200


@pytest.mark.parametrize("field", ["n_ctx", "kv_cells"])
def test_kv_cells_that_no_memory_holds_are_refused_at_once(model: Model, field: str) -> None:
    cells = 2**28
    params: dict[str, Any] = {field: cells}
    begun = time.monotonic()
    wanted = f"^{field} is {cells}, but must be at most [0-9]+ here: its KV cells need [0-9]+ bytes"
    with pytest.raises(InvalidConfigError, match=wanted):
        Context(model, ContextParams(**params))
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize(
    "call",
    [
        "context.generate('A', 2)",
        "while next(stream): pass",
        "context.chat([{'role': 'user', 'content': 'A'}], 2)",
        "context.generate('A', tempp=1)",
        "Model.load('demo')",
        "Context(model, ContextParams(n_ctx=99))",
    ],
)
def test_a_call_while_the_interpreter_ends_raises_no_import_error(script: Script, call: str) -> None:
    done = script(f"""
from mullama import Context, ContextParams, Model, MullamaError
model = Model.load("demo")
context = Context(model)
stream = context.generate_stream("A", 500, ignore_eos=True)
class Late:
    def __del__(self, model=model, context=context, stream=stream, Model=Model, Context=Context,
                ContextParams=ContextParams, expected=(MullamaError, TypeError)):
        try:
            {call}
        except expected:
            print("refused")
late = Late()
""")
    assert (done.stdout, done.stderr) == ("refused\n", "")
