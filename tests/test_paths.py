"""What is given to `Model.load` and `AsyncModel.load` as a path: mistakes say what is expected, and it is read once."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mullama import AsyncModel, InvalidConfigError, Model, ModelNotFoundError, _model

if TYPE_CHECKING:
    from collections.abc import Callable

LOADS: dict[str, Callable[..., Any]] = {
    "Model": Model.load,
    "AsyncModel": lambda path, **options: asyncio.run(AsyncModel.load(path, **options)).model,
}


@pytest.fixture(params=LOADS)
def load(request: pytest.FixtureRequest) -> Callable[..., Model]:
    """One of the two ways to load."""
    return LOADS[request.param]


class OnePath:
    """A path that can be read once."""

    def __init__(self, *paths: object) -> None:
        """Holds what each reading gives."""
        self.paths = list(paths)

    def __fspath__(self) -> Any:  # noqa: ANN401  # wrong on purpose
        """The next path."""
        return self.paths.pop(0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (None, "NoneType"),
        (5, "int"),
        (1.5, "float"),
        (True, "bool"),
        (["demo"], "list"),
        (np.array(["demo", "x"]), "ndarray"),
        (bytearray(b"demo"), "bytearray"),
        (OnePath(5, 5), "OnePath"),
        (object(), "object"),
    ],
)
def test_what_is_no_path_is_told_what_is(load: Callable[..., Model], path: object, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        load(path)
    assert str(caught.value) == f"path must be a str or an os.PathLike such as pathlib.Path, not {kind}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "path is empty, but must be the path of a GGUF file"),
        (b"", "path is empty, but must be the path of a GGUF file"),
        (b"\0", r"path is '\x00', but must be a path without NUL characters"),
        ("a\0b", r"path is 'a\x00b', but must be a path without NUL characters"),
        ("\0" * 10**6, rf"path is '{chr(92)}x00"),
        ("x" * 10**6, f"path is '{'x' * 59}…', but must be at most 4096 bytes long, not 1000000"),
        ("é" * 3000, f"path is '{'é' * 59}…', but must be at most 4096 bytes long, not 6000"),
        ("\ud800" * 10**6, r"path is '\ud800"),
    ],
    ids=ascii,
)
def test_a_path_that_no_file_has_is_refused(load: Callable[..., Model], path: str, words: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 600
    assert caught.value.field == "path"


def test_the_path_of_a_missing_file_has_the_home_folder_in_it(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/none.gguf", b"~/none.gguf", Path("~/none.gguf"), OnePath("~/none.gguf"), np.str_("~/none.gguf")):
        with pytest.raises(ModelNotFoundError) as caught:
            load(path)
        assert caught.value.path == tmp_path / "none.gguf"
        assert str(caught.value) == f"no model at {tmp_path / 'none.gguf'}"


def test_a_path_is_read_once(load: Callable[..., Model]) -> None:
    assert load(OnePath(_model.DEMO, "/none")).path == Path(_model.DEMO)
    assert load(np.str_("demo")).path == Path(_model.DEMO)


def test_only_the_text_demo_is_the_model_of_the_package(
    load: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (b"demo", Path("demo"), "./demo", OnePath("demo"), os.path.join(".", "demo")):  # noqa: PTH118
        with pytest.raises(ModelNotFoundError) as caught:
            load(path)
        assert caught.value.path == Path("demo")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"progress": 5}, "progress must be a function, not int"),
        ({"use_mmap": 1}, "use_mmap must be a bool, not int"),
        ({"use_mlock": np.int64(1)}, "use_mlock must be a bool, not int64"),
        ({"check_tensors": None}, "check_tensors must be a bool, not NoneType"),
        ({"n_gpu_layers": True}, "n_gpu_layers must be an int, not bool"),
        ({"n_gpu_layers": "all"}, "n_gpu_layers must be an int, not str"),
        ({"n_gpu_layers": 1.0}, "n_gpu_layers must be an int, not float"),
    ],
)
def test_an_option_of_the_wrong_type_is_named(load: Callable[..., Model], options: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError) as caught:
        load("demo", **options)
    assert str(caught.value) == words


def test_options_of_numpy_are_taken(load: Callable[..., Model]) -> None:
    assert load("demo", n_gpu_layers=np.int64(0), use_mmap=np.False_, check_tensors=np.True_).n_gpu_layers == 0
