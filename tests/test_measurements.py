"""Figures and pictures of README and the site are those that were measured and recorded."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from typing import Any

import pytest
import record_terminal
from guide import ROOT, loaded_script

from mullama import _cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benches" / "README.md").read_text(encoding="utf-8")
PLOTS: Any = loaded_script(ROOT / "docs" / "plots.py")
SVG = "{http://www.w3.org/2000/svg}"


def rows(text: str, head: str) -> dict[str, list[str]]:
    """The rows of the table with this head, by their first cell."""
    lines = text.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def test_the_ratios_of_the_readme_are_measured_ones() -> None:
    measured = rows(RESULTS, "| ratio | target demo | demo | target 0.5B | 0.5B |")
    told = rows(README, "| ratio | demo | 0.5B shape |")
    assert told
    for ratio, cells in told.items():
        assert cells == measured[ratio][1::2], ratio


@pytest.mark.parametrize("name", PLOTS.PLOTS)
def test_a_plot_has_every_measured_figure(name: str) -> None:
    plot = PLOTS.PLOTS[name]
    picture = ET.fromstring(PLOTS.drawn(plot, RESULTS))  # noqa: S314  # our own
    figures = [PLOTS.measured(RESULTS, row) for row in plot.rows]
    dots = [run for both in figures for runs in both for run in runs]
    assert len(picture.findall(f"{SVG}circle")) == len(dots)
    assert set(plot.rows.values()) <= {text.text for text in picture.findall(f"{SVG}text")}
    assert f"](assets/{name}.svg)" in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_a_bar_is_as_long_as_its_figure() -> None:
    results = "| ratio |\n| Rust stream / raw | 0.90 | 0.5, 0.5 | 0.99 | 1.0 |\n"
    plot = PLOTS.Plot("title", "unit", {"Rust stream / raw": "label"})
    picture = ET.fromstring(PLOTS.drawn(plot, results))  # noqa: S314  # our own
    _card, *_legend, half, whole = [float(bar.get("width", 0)) for bar in picture.findall(f"{SVG}rect")]
    assert half == pytest.approx(whole / 2, abs=0.1)


def test_the_picture_of_the_terminal_shows_the_recorded_commands() -> None:
    picture = ET.parse(ROOT / "docs" / "assets" / "terminal.svg").getroot()  # noqa: S314  # our own
    shown = {(text.text or "").strip() for text in picture.findall(f"{SVG}text")}
    assert set(record_terminal.COMMANDS) <= shown
    for command in record_terminal.COMMANDS:
        assert isinstance(_cli.parse(shlex.split(command)[1:]), _cli.Order)


@pytest.mark.slow
def test_a_recording_shows_each_text_when_it_was_written() -> None:
    command = """bash -c 'printf "one "; read -t 0.3 <> <(:) || true; printf "two\\n"'"""
    picture = ET.fromstring(record_terminal.drawn(record_terminal.record((command,))))  # noqa: S314  # our own
    delays = {
        (text.text or "").strip(): float(re.findall(r"delay:([\d.]+)s", text.get("style", ""))[0])
        for text in picture.findall(f"{SVG}text")
    }
    assert delays["two"] - delays["one"] > 0.2 * record_terminal.SLOWER


@pytest.mark.slow
def test_a_command_that_fails_is_not_recorded() -> None:
    with pytest.raises(RuntimeError, match="ended with exit code 3"):
        record_terminal.record(("bash -c 'exit 3'",))
