"""Names, options and functions that somebody should not have given: nothing is downloaded, repeated or ignored."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from command import COMMAND

import mullama
from mullama import InvalidConfigError, Model, MullamaError

if TYPE_CHECKING:
    from pathlib import Path

    from hub import HubServer

pytestmark = pytest.mark.slow

SECRET = "secretXYZ"  # noqa: S105  # of nobody


def ran(*arguments: str, folder: Path | None = None) -> tuple[int, str]:
    """The exit code of the command, and everything that it wrote."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [["pull"], ["run"], ["show"], ["rm"], ["cp"], ["pull", "--json"]])
def test_the_query_of_an_address_is_never_shown(hub: HubServer, arguments: list[str]) -> None:
    address = f"{hub.url}/files/missing.gguf?sig={SECRET}"
    more = {"run": ["Hello"], "cp": ["other"]}.get(arguments[0], [])
    code, said = ran(*arguments, address, *more)
    assert code != 0
    assert SECRET not in said


def test_an_error_does_not_hold_the_query_of_an_address(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"{hub.url}/files/missing.gguf?sig={SECRET}"
    for offline in ("", "1"):
        monkeypatch.setenv("MULLAMA_OFFLINE", offline)
        with pytest.raises(MullamaError) as caught:
            mullama.pull(address)
        assert SECRET not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


def test_a_folder_of_the_name_does_not_undo_no_pull(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    code, said = ran("run", "tiny", "Hello", "--no-pull", folder=tmp_path)
    assert (code, hub.bodies()) == (3, []), said


@pytest.mark.parametrize("n_ctx", [-1, 0, 2**32, 2**70])
def test_a_context_length_out_of_range_is_refused(hub: HubServer, n_ctx: int) -> None:
    del hub
    with pytest.raises(InvalidConfigError, match=f"^n_ctx is {n_ctx}, but must be 1 to 4294967295$"):
        mullama.show_model("demo", n_ctx=n_ctx)
    code, said = ran("show", "demo", "--ctx-size", str(n_ctx), "--json")
    assert code == 2, said
    assert "Traceback" not in said


async def reports(_progress: object) -> None:
    """Cannot be called without `await`."""


@pytest.mark.parametrize("progress", [5, "print", reports])
def test_a_progress_that_cannot_be_called_is_refused_before_anything_is_asked(hub: HubServer, progress: Any) -> None:  # noqa: ANN401
    with pytest.raises(TypeError, match=r"^progress must be a "):
        mullama.pull("tiny", progress=progress)
    assert hub.requests() == []


def test_an_existing_file_needs_no_settings_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Model
) -> None:
    (tmp_path / "m.gguf").symlink_to(model.path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "junk")
    assert Model.load("m.gguf", vocab_only=True).n_vocab == model.n_vocab


def test_offline_a_model_that_is_here_is_pulled(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    here = mullama.pull("tiny")
    hub.reset()
    monkeypatch.setenv("MULLAMA_OFFLINE", "1")
    assert mullama.pull("tiny") == here
    assert hub.requests() == []


@pytest.mark.parametrize("folder", [".", "..", "/"])
def test_a_folder_is_no_model(hub: HubServer, folder: str) -> None:
    del hub
    with pytest.raises(MullamaError):
        mullama.pull(folder)
