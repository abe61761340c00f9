"""The package's types, as those see them who check their own code against it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKS = Path(__file__).with_name("typing_checks.py")


def checked_by(*command: str) -> str:
    """What a checker says of the file; empty if it is content."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=100, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_mypy_sees_the_types_that_the_calls_have(tmp_path: Path, version: str) -> None:
    settings = ["--strict", "--warn-unreachable", f"--python-version={version}", "--config-file=", "--no-incremental"]
    assert checked_by("mypy", *settings, f"--cache-dir={tmp_path}", str(CHECKS)) == ""


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_pyright_sees_the_types_that_the_calls_have(version: str) -> None:
    said = checked_by("pyright", f"--pythonpath={sys.executable}", f"--pythonversion={version}", str(CHECKS))
    assert said == ""
