"""Where the native module cannot be loaded, `import mullama` says so."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mullama
from mullama import _interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    Script = Callable[[str], CompletedProcess[str]]

PACKAGE = Path(mullama.__path__[0])
IMPORT = (
    "import sys; sys.path.insert(0, {where!r}); import mullama; print(mullama.__path__[0], mullama.Model.load('demo'))"
)


def test_an_archive_is_refused_with_its_path(script: Script, tmp_path: Path) -> None:
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in PACKAGE.glob("*.py"):
            packed.write(path, f"mullama/{path.name}")
    done = script(IMPORT.format(where=str(archive)))
    assert done.returncode != 0
    assert "native libraries, which cannot be loaded from the archive in" in done.stderr
    assert str(archive) in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the loader of Linux replaces names in paths")
@pytest.mark.parametrize("name", ["a $ORIGIN b", "$LIB", "${PLATFORM}x"])
def test_a_folder_whose_name_the_loader_replaces_is_refused(script: Script, tmp_path: Path, name: str) -> None:
    shutil.copytree(PACKAGE, tmp_path / name / "mullama", ignore=shutil.ignore_patterns("__pycache__"))
    done = script(IMPORT.format(where=str(tmp_path / name)))
    assert done.returncode != 0
    assert "the system replaces $" in done.stderr


def test_a_folder_with_spaces_and_other_signs_is_none_of_these(script: Script, tmp_path: Path) -> None:
    folder = tmp_path / "a b's ü %s $HOME $LIBRARY $ORIGIN_ {LIB}"
    shutil.copytree(PACKAGE, folder / "mullama", ignore=shutil.ignore_patterns("__pycache__"))
    done = script(IMPORT.format(where=str(folder)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(folder))


def test_paths_are_compared_as_the_loader_compares_them() -> None:
    for path in ("/a/$ORIGINAL/b.py", "/a/${LIB/b.py", "/a/LIB/b.py", "/a/$PLATFORM2/b.py"):
        _interpreter.check_path(path, "importlib")
    for path in ("/a/$ORIGIN", "/a/x${LIB}y/b.py", "/a/$PLATFORM-2/b.py", "/$LIBü/b.py"):
        if sys.platform == "linux":
            with pytest.raises(ImportError, match="the system replaces"):
                _interpreter.check_path(path, "importlib")
