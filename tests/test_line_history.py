"""The history of what was typed: where it is kept, and how much of it."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from mullama import _history
from mullama._history import FileHistory, history_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".local/state/mullama/history"),
        ("linux", {"XDG_STATE_HOME": "relative"}, ".local/state/mullama/history"),
        ("darwin", {}, "Library/Application Support/mullama/history"),
    ],
)
def test_it_is_kept_in_the_platforms_folder_for_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variables: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert history_file() == tmp_path / expected


def test_entries_come_back_newest_first_with_all_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    entries = ["one", "two\nlines", "日本語", "\udcff", '"quoted"']
    for entry in entries:
        FileHistory(file).store_string(entry)
    assert list(FileHistory(file).load_history_strings()) == entries[::-1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_older_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_text("", encoding="utf-8")
    file.chmod(0o644)
    FileHistory(file).store_string("one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_lines_that_are_no_entries_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "history"
    file.write_bytes(b'half a line"\n"one"\n5\n\xff\n["two"]\n"three"')
    assert list(FileHistory(file).load_history_strings()) == ["three", "one"]


def test_the_file_is_bounded_and_keeps_the_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_history, "MAX_BYTES", 200)
    file = tmp_path / "history"
    history = FileHistory(file)
    for number in range(100):
        history.store_string(f"entry {number}")
        assert file.stat().st_size <= 200
    history.store_string("x" * 500)
    kept = list(history.load_history_strings())
    assert kept == [f"entry {number}" for number in reversed(range(100 - len(kept), 100))]
    assert len(kept) > 5
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["history"]


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").write_text("", encoding="utf-8")
    history = FileHistory(tmp_path / "state" / "history")
    assert list(history.load_history_strings()) == []
    history.store_string("one")
    history.store_string("two")
    said = capsys.readouterr().err
    assert said.count("the history cannot be kept in") == 1
    assert "Not a directory" in said
    assert "--no-history" in said


def test_an_entry_is_one_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "history"
    FileHistory(file).store_string("two\nlines")
    assert json.loads(file.read_text(encoding="utf-8")) == "two\nlines"
