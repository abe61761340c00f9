"""Every crate in Cargo.lock comes from where deny.toml says, under a licence that it allows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = frozenset(
    re.findall(r'"([^"]+)"', (ROOT / "deny.toml").read_text().split("[licenses]")[1].split("[bans]")[0])
)


@pytest.fixture(scope="module")
def packages() -> list[dict[str, Any]]:
    """The packages that a build could be made of."""
    cargo = shutil.which("cargo") or str(Path.home() / ".cargo" / "bin" / "cargo")
    command = [cargo, "metadata", "--locked", "--format-version", "1", "--all-features"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    found: list[dict[str, Any]] = json.loads(told)["packages"]
    return found


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be satisfied: any licence of an OR, each one of an AND."""
    expression = expression.replace("/", " OR ").strip()
    while (inner := re.search(r"\(([^()]*)\)", expression)) is not None:
        verdict = " yes " if is_allowed(inner[1], allowed) else " no "
        expression = expression[: inner.start()] + verdict + expression[inner.end() :]
    choices = [re.split(r"\s+AND\s+", choice.strip()) for choice in re.split(r"\s+OR\s+", expression)]
    return any(all(part.strip() in allowed | {"yes"} for part in choice) for choice in choices)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT/GPL-3.0", True),
        ("GPL-3.0-only", False),
        ("(MIT OR GPL-3.0) AND Zlib", True),
        ("MIT AND GPL-3.0", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("(GPL-2.0 OR GPL-3.0) AND MIT", False),
    ],
)
def test_licence_expressions_are_understood(expression: str, *, allowed: bool) -> None:
    assert is_allowed(expression, frozenset({"MIT", "Zlib", "Apache-2.0"})) == allowed


def test_every_licence_is_allowed(packages: list[dict[str, Any]]) -> None:
    assert "MIT" in ALLOWED
    refused = {
        f"{package['name']}: {package['license']}"
        for package in packages
        if not is_allowed(package["license"], ALLOWED)
    }
    assert refused == set()


def test_every_crate_is_ours_or_from_the_one_registry(packages: list[dict[str, Any]]) -> None:
    foreign = {package["source"] for package in packages if package["source"] is not None}
    assert len(foreign) == 1
    assert all(source.startswith("registry+") for source in foreign)
    ours = {package["name"] for package in packages if package["source"] is None}
    assert all(name.startswith("mullama") for name in ours)


def test_llama_cpp_is_pinned_to_one_version() -> None:
    assert re.search(
        r'^llama-cpp-sys-2 = \{ version = "=\d+\.\d+\.\d+"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE
    )
