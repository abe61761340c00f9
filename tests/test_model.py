"""Loading a model, and its tokens."""

from __future__ import annotations

import os
import shutil
from array import array
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mullama import (
    Context,
    EngineClosedError,
    GenerationError,
    InvalidConfigError,
    InvalidPromptError,
    Model,
    ModelLoadError,
    _doctor,
    _model,
)

DEMO = Path(_model.DEMO)
HAS_GPU = any(device.is_gpu for device in _doctor.devices())

TEXTS = ["", "Hello", "Once upon a time", "naïve café", "日本語のテキスト", "👩‍👩‍👧‍👦 family", "a\0b", "\r\n\t "]


@pytest.mark.parametrize("path", [str(DEMO), DEMO, "demo"])
def test_a_model_loads_from_a_path_or_by_name(path: str | os.PathLike[str]) -> None:
    with Model.load(path) as model:
        assert model.path == DEMO
        assert model.n_params > 1_000_000
        assert repr(model) == "<Model 'demo.gguf', mullama demo, llama 2.2M Q8_0, 2.2 MiB, on CPU>"


def test_a_file_with_the_name_of_the_demo_is_reached_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_bytes(b"no model")
    with pytest.raises(ModelLoadError):
        Model.load("./demo")
    with pytest.raises(ModelLoadError):
        Model.load(Path("demo"))
    assert Model.load("demo").path == DEMO


def test_a_path_that_is_no_utf8_loads(tmp_path: Path) -> None:
    file = tmp_path / "m\udcff.gguf"
    shutil.copy(DEMO, file)
    assert Model.load(file).path == file


@pytest.mark.parametrize("path", [None, 7, ["demo"]])
def test_a_path_of_the_wrong_type_is_a_type_error(path: Any) -> None:  # noqa: ANN401  # wrong on purpose
    with pytest.raises(TypeError, match=type(path).__name__):
        Model.load(path)


def test_options_reach_the_load() -> None:
    Model.load("demo", n_gpu_layers=0, use_mmap=False, use_mlock=False, check_tensors=True).close()
    with pytest.raises(InvalidConfigError, match="n_gpu_layers is 1180591620717411303424"):
        Model.load("demo", n_gpu_layers=2**70)


@pytest.mark.skipif(HAS_GPU, reason="this build found a GPU")
def test_layers_for_a_gpu_that_is_not_there_are_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"n_gpu_layers is 20, but no GPU was found.*MULLAMA_BACKEND") as caught:
        model = Model.load("demo", n_gpu_layers=20)
    assert Path(caught[0].filename) == Path(__file__)
    assert model.n_gpu_layers == 0
    assert repr(model).endswith(", on CPU>")
    # Nothing else asks for a GPU in so many words; a warning would be an error here.
    Model.load("demo", n_gpu_layers=-1).close()
    Model.load("demo", n_gpu_layers=0).close()
    Model.load("demo", n_gpu_layers=20, vocab_only=True).close()


def test_where_the_layers_are_is_shown(model: Model) -> None:
    assert repr(replace(model, n_layer=32, n_gpu_layers=20)).endswith(", 20 of 33 layers on GPU>")


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_mapped_file_that_is_changed_in_place_fails_the_next_call(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "model.gguf"
    shutil.copy(DEMO, file)
    with Model.load(file) as model, Context(model) as context:
        context.generate("Once", 3)
        if damage == "cut":
            os.truncate(file, 100_000)
        else:
            os.utime(file, (0, 0))
        for call in (context.generate, context.generate_stream):
            with pytest.raises(GenerationError, match=r"model\.gguf was changed on disk.*use_mmap"):
                call("Upon a time there", 3)


def test_a_file_that_is_read_or_replaced_by_renaming_may_change(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    shutil.copy(DEMO, file)
    with Model.load(file, use_mmap=False) as copied, Model.load(file) as mapped:
        (tmp_path / "other").write_bytes(b"another model")
        (tmp_path / "other").replace(file)
        for model in (copied, mapped):
            with Context(model) as context:
                assert context.generate("Once", 3).text


def test_a_model_is_made_by_load_alone() -> None:
    make: Any = Model
    with pytest.raises(TypeError):
        make("demo")


def test_progress_is_told_from_0_to_1_in_order() -> None:
    heard: list[float] = []
    Model.load("demo", progress=heard.append).close()
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)


def test_progress_that_returns_false_ends_the_load() -> None:
    with pytest.raises(ModelLoadError, match="cancelled by the progress callback") as caught:
        Model.load("demo", progress=lambda fraction: fraction < 0.5)
    assert caught.value.path == DEMO


def test_what_progress_raises_ends_the_load_and_propagates() -> None:
    def fail(fraction: float) -> None:
        raise LookupError(fraction)

    with pytest.raises(LookupError):
        Model.load("demo", progress=fail)


def test_facts_describe_the_model(model: Model) -> None:
    assert model.metadata["general.architecture"] == "llama"
    assert model.metadata["llama.block_count"] == str(model.n_layer)
    assert model.n_ctx_train == int(model.metadata["llama.context_length"])
    assert model.n_embd == int(model.metadata["llama.embedding_length"])
    assert 0 < model.size < DEMO.stat().st_size
    assert model.eos in model.end_tokens
    assert model.bos is not None
    assert model.n_vocab > max(model.end_tokens)
    assert model.description


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_its_tokens(model: Model, text: str) -> None:
    assert model.detokenize(model.tokenize(text, add_special=False, parse_special=False)) == text


def test_special_tokens_are_added_and_parsed_unless_told_otherwise(model: Model) -> None:
    assert model.tokenize("Hello")[0] == model.bos
    assert model.tokenize("Hello", add_special=False) == model.tokenize("Hello")[1:]
    end = "<|im_end|>"
    assert len(model.tokenize(end, add_special=False)) == 1
    assert len(model.tokenize(end, add_special=False, parse_special=False)) > 1


def test_tokens_of_other_libraries_are_taken(model: Model) -> None:
    tokens = model.tokenize("Hello", add_special=False)
    assert model.detokenize(array("i", tokens)) == model.detokenize(tuple(tokens)) == "Hello"


def test_tokens_that_are_none_are_refused(model: Model) -> None:
    with pytest.raises(InvalidPromptError) as caught:
        model.detokenize([0, model.n_vocab])
    assert (caught.value.token, caught.value.position) == (model.n_vocab, 1)
    with pytest.raises(InvalidPromptError) as caught:
        model.detokenize([2**70])
    assert (caught.value.token, caught.value.position) == (None, 0)
    with pytest.raises(InvalidPromptError) as caught:
        model.tokenize("ab\ud800")
    assert caught.value.position == 2


def test_a_closed_model_refuses_and_still_tells_what_it_was() -> None:
    with Model.load("demo") as model:
        pass
    model.close()
    assert model.n_layer > 0
    for call in (lambda: model.tokenize("A"), lambda: model.detokenize([0]), lambda: Context(model)):
        with pytest.raises(EngineClosedError, match="the model is closed"):
            call()
