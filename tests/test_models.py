"""Models on this machine, from Python: lists, details, other names, removal, and the values that tell of them."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hub import DEMO

import mullama
from mullama import InvalidConfigError, LocalModel, Model, ModelNotFoundError

if TYPE_CHECKING:
    from hub import HubServer


def test_a_list_has_the_models_with_their_facts(hub: HubServer) -> None:
    del hub
    assert mullama.list_models() == []
    mullama.pull("tiny")
    [listed] = mullama.list_models()
    assert (listed.name, listed.location, listed.quantization) == ("tiny:latest", "mullama", "Q8_0")
    assert (listed.size, listed.architecture) == (DEMO.stat().st_size, "llama")
    assert listed.parameters > 2_000_000
    assert listed.last_used is None
    Model.load(listed).close()
    Model.load("tiny").close()
    assert mullama.list_models()[0].last_used is not None


def test_the_details_are_those_of_the_file_and_of_the_publisher(hub: HubServer, model: Model) -> None:
    del hub
    mullama.pull("llama3.2:1b")
    shown = mullama.show_model("llama3.2:1b", n_ctx=512)
    assert (shown.name, shown.license, shown.n_ctx) == ("llama3.2:1b", "Apache-2.0", 512)
    assert shown.defaults.system == "You answer in verse."
    assert shown.parameters == model.n_params
    assert shown.vocabulary == model.n_vocab
    assert shown.template == model.metadata["tokenizer.chat_template"]
    assert sum(shown.tensors.values()) > 10
    assert shown.memory is not None
    assert shown.memory > shown.weights
    assert mullama.show_model("llama3.2:1b", n_ctx=1024).memory > shown.memory  # type: ignore[operator]
    assert json.loads(json.dumps(shown.to_dict()))["defaults"]["settings"]["temperature"] == 0.6


def test_a_file_and_the_demo_have_details_too(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(DEMO)
    assert mullama.show_model(tmp_path / "model.gguf").location == "file"
    assert mullama.show_model("demo").architecture == "llama"
    with pytest.raises(ModelNotFoundError):
        mullama.show_model("tiny")
    with pytest.raises(TypeError, match="n_ctx must be an int"):
        mullama.show_model("demo", n_ctx="512")  # type: ignore[arg-type]
    assert hub.requests() == []


def test_an_alias_finds_its_model_until_it_is_removed(hub: HubServer) -> None:
    mullama.pull("tiny")
    mullama.alias_model("tiny", "small")
    hub.reset()
    with Model.load("small") as model:
        assert model.name
    assert hub.requests() == []
    removed = mullama.remove_model("small")
    assert removed.size == 0
    with pytest.raises(ModelNotFoundError):
        Model.load("small", pull=False)
    removed = mullama.remove_model("tiny")
    assert (removed.name, removed.size >= DEMO.stat().st_size) == ("tiny:latest", True)
    assert mullama.list_models() == []


def test_values_compare_hash_and_travel(hub: HubServer) -> None:
    del hub
    local = mullama.pull("llama3.2:1b")
    [listed] = mullama.list_models()
    for value in (local, listed, mullama.show_model("demo"), mullama.PullProgress("done", "a", 1, None)):
        copy = pickle.loads(pickle.dumps(value))  # noqa: S301  # our own bytes
        assert copy == value
        json.dumps(value.to_dict())
    assert len({local, mullama.pull("llama3.2:1b")}) == 1
    with pytest.raises(TypeError):
        local.defaults.settings["temperature"] = 2.0  # type: ignore[index]


def test_a_local_model_is_loaded_with_its_name_and_defaults(hub: HubServer) -> None:
    del hub
    local = mullama.pull("llama3.2:1b")
    with Model.load(local) as model:
        assert (model.name, model.defaults, model.path) == (local.name, local.defaults, local.path)
        assert repr(model).startswith("<Model 'llama3.2:1b', mullama demo, llama ")
        assert repr(mullama.Context(model)) == "<Context on 'llama3.2:1b'>"
    # Whoever has the path alone has a plain file.
    with Model.load(local.path) as model:
        assert (model.name, model.defaults) == (str(local.path), mullama.ModelDefaults())


def test_a_plain_file_and_the_demo_have_names_and_no_defaults(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(DEMO)
    for path, name in (("demo", "demo"), (tmp_path / "model.gguf", str(tmp_path / "model.gguf"))):
        with Model.load(path) as model:
            assert (model.name, model.defaults) == (name, mullama.ModelDefaults())


def test_an_existing_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").symlink_to(DEMO)
    with Model.load("tiny") as model:
        assert model.defaults == mullama.ModelDefaults()
    assert hub.requests() == []


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a//b", "tiny:", ":latest", "\0", "tiny\n", "ü", "a" * 1000, "con:x:y"]
)
def test_what_cannot_be_a_name_is_refused_without_a_request(hub: HubServer, name: str) -> None:
    with pytest.raises((InvalidConfigError, ModelNotFoundError)):
        mullama.pull(name)
    assert hub.requests() == []


@pytest.mark.parametrize("name", [None, 5, b"tiny", Path("tiny")])
def test_a_name_is_a_text(name: str) -> None:
    with pytest.raises(TypeError, match="name must be a str, not "):
        mullama.pull(name)


def test_a_typo_in_a_keyword_is_named() -> None:
    with pytest.raises(TypeError, match="Did you mean 'progress'"):
        mullama.pull("demo", progres=print)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'pul'"):
        Model.load("demo", pul=False)  # type: ignore[call-arg]
    assert isinstance(mullama.pull("demo"), LocalModel)


def test_a_list_warns_of_what_cannot_be_read(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    del hub
    monkeypatch.setenv("MULLAMA_MODELS", os.devnull)
    assert mullama.list_models() == []
    [record] = caplog.records
    assert (record.name, record.levelname) == ("mullama", "WARNING")
    assert record.getMessage().startswith(f"{os.devnull} cannot be read: ")
