"""What the commands for models say of aliases, of what is missing, and of what cannot be read or removed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command import mullama
from hub import DEMO

from mullama import _model_tables

if TYPE_CHECKING:
    from hub import HubServer

pytestmark = pytest.mark.slow

SPLIT = "hf.co/mullama/split-GGUF"


def told(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    done = mullama(*arguments)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def events(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and events of a command with `--json`."""
    code, out, _ = told(*arguments, "--json")
    return code, [json.loads(line) for line in out.splitlines()]


def pulled(*names: str) -> None:
    """Pulls models."""
    for name in names:
        code, _, err = told("pull", name)
        assert code == 0, err


def damaged(home: Path, name: str) -> Path:
    """Makes the manifest of a model unreadable."""
    [manifest] = home.joinpath("models", "manifests").rglob(f"{name}/latest")
    manifest.write_text("{")
    return manifest


def test_rm_goes_on_after_a_name_that_it_cannot_remove(hub: HubServer) -> None:
    del hub
    pulled("tiny", "llama3.2:1b")
    code, out, err = told("rm", "tiny", "no-such-model", "demo", "llama3.2:1b")
    first, *others = err.splitlines()
    assert (code, out) == (3, "")
    assert first.startswith("mullama: tiny:latest is removed; ")
    assert "no-such-model" in others[0]
    assert "demo" in others[1]
    assert others[2].startswith("mullama: llama3.2:1b is removed; ")
    assert "no models on this machine" in told("list")[2]


def test_rm_as_json_writes_one_event_for_each_name_in_order(hub: HubServer) -> None:
    del hub
    pulled("tiny", "llama3.2:1b")
    code, written = events("rm", "tiny", "demo", "no-such-model", "llama3.2:1b")
    assert code == 2
    assert [(each["type"], each["name"]) for each in written] == [
        ("removed", "tiny:latest"),
        ("error", "demo"),
        ("error", "no-such-model"),
        ("removed", "llama3.2:1b"),
    ]
    assert [each.get("code") for each in written] == [None, "INVALID_CONFIG", "MODEL_NOT_FOUND", None]
    assert written[1].keys() == {"type", "name", "code", "message"}
    assert written[0].keys() == {"type", "name", "aliases", "size", "kept"}


def test_rm_says_which_aliases_are_gone_and_takes_them_as_removed(hub: HubServer) -> None:
    del hub
    pulled("tiny")
    assert told("cp", "tiny", "small") == (0, "", "mullama: small is now an alias of tiny\n")
    assert told("cp", "tiny", "me/mine:1b")[0] == 0
    assert told("rm", "me/mine:1b") == (0, "", "mullama: the alias me/mine:1b is removed\n")
    code, _, err = told("rm", "tiny", "small", "tiny:latest")
    assert (code, err.splitlines()[0]) == (
        0,
        "mullama: tiny:latest is removed, and so is its alias small:latest; 2.34 MB became free",
    )
    pulled("tiny")
    for alias in ("b", "a"):
        assert told("cp", "tiny", alias)[0] == 0
    code, written = events("rm", "tiny", "a")
    assert (code, written[0]["aliases"], written[1]["name"], written[1]["size"]) == (
        0,
        ["a:latest", "b:latest"],
        "a:latest",
        0,
    )


def test_rm_says_why_files_of_the_model_stay(hub: HubServer, tmp_path: Path) -> None:
    del hub
    pulled("tiny", "someone/tiny")
    manifest = damaged(tmp_path, "someone/tiny")
    code, _, err = told("rm", "tiny")
    removed, stays = err.splitlines()
    assert code == 0
    assert removed.startswith("mullama: tiny:latest is removed; ")
    assert "MB" not in removed
    assert stays.startswith(f"mullama: files of tiny:latest stay, because {manifest} cannot be read: ")
    pulled("tiny")
    code, [event] = events("rm", "tiny")
    assert (code, event["kept"]["path"]) == (0, str(manifest))
    assert event["kept"]["reason"].startswith("cannot be read: ")


def test_list_shows_aliases_and_marks_what_is_missing(hub: HubServer, tmp_path: Path) -> None:
    del hub
    pulled("tiny")
    (tmp_path / "mine.gguf").write_bytes(DEMO.read_bytes())
    for model, alias in (("tiny", "small"), ("demo", "toy"), (str(tmp_path / "mine.gguf"), "mine")):
        assert told("cp", model, alias)[0] == 0
    (tmp_path / "mine.gguf").unlink()
    code, out, err = told("list")
    rows = {row.split("  ")[0]: row.split() for row in out.splitlines()[1:]}
    assert (code, err) == (0, "")
    assert rows.keys() == {
        "tiny:latest (alias small:latest)",
        "demo (alias toy:latest)",
        f"{tmp_path}/mine.gguf (alias mine:latest)",
    }
    assert [name for name, cells in rows.items() if "missing" in cells] == [f"{tmp_path}/mine.gguf (alias mine:latest)"]
    code, [written] = events("list")
    assert {each["aliases"][0]: each["missing"] for each in written["models"]} == {
        "small:latest": False,
        "toy:latest": False,
        "mine:latest": True,
    }
    assert told("rm", "mine", "toy")[0] == 0
    assert [each["name"] for each in events("list")[1][0]["models"]] == ["tiny:latest"]


def test_list_says_what_cannot_be_read(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub
    pulled("tiny", "someone/tiny")
    manifest = damaged(tmp_path, "someone/tiny")
    code, out, err = told("list")
    assert (code, [row.split()[0] for row in out.splitlines()]) == (0, ["NAME", "tiny:latest"])
    assert err.startswith(f"mullama: {manifest} cannot be read: ")
    code, [written] = events("list")
    assert (code, [each["path"] for each in written["unreadable"]]) == (0, [str(manifest)])
    assert written["unreadable"][0]["reason"]
    monkeypatch.setenv("MULLAMA_MODELS", "/dev/null")
    code, out, err = told("list")
    assert (code, out) == (0, "")
    assert err.startswith("mullama: /dev/null cannot be read: ")
    assert "no models" not in err


def test_an_alias_never_takes_the_name_of_a_model_or_of_another_alias(hub: HubServer) -> None:
    del hub
    pulled("tiny", "llama3.2:1b")
    assert told("cp", "tiny", "small")[0] == 0
    assert told("cp", "tiny", "small")[0] == 0
    for taken in ("small", "llama3.2:1b", "demo", "hf.co/a/b", "../x"):
        code, out, err = told("cp", "tiny" if taken != "small" else "llama3.2:1b", taken)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
    assert events("pull", "small")[1][-1]["name"] == "tiny:latest"


def test_pull_says_that_a_name_is_an_alias(hub: HubServer) -> None:
    del hub
    pulled("tiny")
    assert told("cp", "tiny", "plain")[0] == 0
    code, _, err = told("pull", "plain")
    assert code == 0
    assert err.splitlines()[0] == (
        "mullama: plain:latest is an alias of tiny:latest; mullama rm plain:latest removes the alias"
    )
    assert err.splitlines()[1].startswith("mullama: tiny:latest is ready (2.34 MB): ")
    assert events("pull", "plain")[1][-1]["alias"] == "plain:latest"
    assert events("pull", "tiny")[1][-1]["alias"] is None


def test_the_size_is_that_of_all_files(hub: HubServer) -> None:
    del hub
    code, _, err = told("pull", SPLIT)
    assert (code, "is ready (2.34 MB): " in err) == (0, True)
    done = events("pull", SPLIT)[1][-1]
    [listed] = events("list")[1][0]["models"]
    assert done["size"] == listed["size"] >= DEMO.stat().st_size
    assert events("rm", SPLIT)[1][0]["size"] >= done["size"]


def test_show_writes_the_first_stop_sequences_and_says_how_many_there_are() -> None:
    few = tuple(f"<{number}>" for number in range(10))
    assert _model_tables.setting(few) == ", ".join(map(repr, few))
    assert _model_tables.setting((*few, "more")) == ", ".join(map(repr, few)) + ", … (--json writes all 11)"
    assert _model_tables.setting(0.6) == "0.6"
    assert len(_model_tables.setting(("x" * 500,))) < 100


def test_the_error_of_a_damaged_model_says_how_to_repair_it(hub: HubServer) -> None:
    del hub
    pulled("tiny", SPLIT)
    for name, found in (("tiny", "tiny:latest"), (SPLIT, f"{SPLIT}:Q4_K_M")):
        file = Path(events("pull", name)[1][-1]["path"])
        file.write_bytes(bytes(file.stat().st_size))
        for command in (("run", name, "Hello!"), ("show", name)):
            code, _, err = told(*command)
            assert code == 3
            assert len(err.splitlines()) == 1
            [remove, pull] = re.findall(r"`mullama (\w+ \S+)`", err)
            assert remove.split()[1] == pull.split()[1] in {name, found}
        assert told(*remove.split())[0] == told(*pull.split())[0] == 0
        assert told("run", name, "Hello!", "-n", "2")[0] == 0


def test_a_model_whose_system_message_is_too_long_runs_without_it(hub: HubServer, tmp_path: Path) -> None:
    del hub
    pulled("llama3.2:1b")
    [manifest] = tmp_path.joinpath("models", "manifests").rglob("llama3.2/1b")
    layers = json.loads(manifest.read_text())
    text = b"You answer in verse. " * 45_000
    digest = hashlib.sha256(text).hexdigest()
    (tmp_path / "models" / "blobs" / f"sha256-{digest}").write_bytes(text)
    for layer in layers["layers"]:
        if layer["mediaType"].endswith(".system"):
            layer |= {"digest": f"sha256:{digest}", "size": len(text)}
    manifest.write_text(json.dumps(layers))
    assert "system message" not in told("show", "llama3.2:1b")[1]
    assert told("run", "llama3.2:1b", "Hello!", "-n", "2")[0] == 0
    assert told("run", "llama3.2:1b", "Hello!", "-n", "2", "--system", "")[0] == 0
