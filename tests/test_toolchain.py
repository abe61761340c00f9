"""The build backend settles on tools once, and asks for packages only where a machine lacks something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mullama_build import libclang, toolchain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on it: its one folder of programs, empty."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for variable in ("CARGO_TARGET_DIR", "CC", "CXX", "CMAKE", "LIBCLANG_PATH", "BINDGEN_EXTRA_CLANG_ARGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(libclang, "FOLDERS", (str(tmp_path / "lib"),))
    return programs


def program(folder: Path, name: str, says: str = "") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def bring(monkeypatch: pytest.MonkeyPatch, site: Path, tool: str, file: str) -> None:
    """Puts a package into the build environment, as pip would."""
    folder = (site / file).parent
    folder.mkdir(parents=True)
    program(folder, (site / file).name)
    record = site / f"{tool}-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text(f"{file},,\n")
    (record.parent / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {tool}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)


def test_a_bare_machine_is_brought_everything(bare: Path, tmp_path: Path) -> None:
    assert list(bare.iterdir()) == []
    assert toolchain.requirements(tmp_path) == ["cmake>=3.14", "libclang==18.1.1", "ninja"]


def test_a_machine_with_its_own_tools_is_brought_nothing(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cmake = program(bare, "cmake", "cmake version 3.25.1")
    program(bare, "make")
    program(bare, "cc")
    monkeypatch.setenv("LIBCLANG_PATH", str(program(bare, "libclang.so")))
    assert toolchain.requirements(tmp_path) == []
    toolchain.settle(tmp_path)
    assert f'CMAKE = "{cmake}"\n' in (tmp_path / "target/build-tools/cargo.toml").read_text()


def test_a_cmake_older_than_llama_cpp_takes_counts_as_missing(bare: Path, tmp_path: Path) -> None:
    program(bare, "cmake", "cmake version 3.10.2")
    assert "cmake>=3.14" in toolchain.requirements(tmp_path)


def test_brought_tools_outlive_the_environment_they_came_in(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(bare, "cc")
    for command in ("cmake", "ninja"):  # which pip puts on PATH, and removes later
        program(bare, command, "cmake version 4.4.4")
    for tool, file in (
        ("cmake", "cmake/data/bin/cmake"),
        ("libclang", "clang/native/libclang.so"),
        ("ninja", "../bin/ninja"),
    ):
        bring(monkeypatch, tmp_path / f"site-{tool}" / "lib", tool, file)
    toolchain.settle(tmp_path)
    settings = (tmp_path / "target/build-tools/cargo.toml").read_text()
    kept = tmp_path / "target/build-tools"
    for name, path in (
        ("CMAKE", kept / "cmake/bin/cmake"),
        ("LIBCLANG_PATH", kept / "libclang.so"),
        ("CMAKE_MAKE_PROGRAM", kept / "ninja"),
    ):
        assert f'{name} = "{path}"\n' in settings
        assert path.stat().st_mode & 0o100


def test_settings_stay_until_a_tool_they_name_is_gone(bare: Path, tmp_path: Path) -> None:
    settings = tmp_path / "target/build-tools/cargo.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[env]\nCMAKE = "{program(bare, "cmake")}"\n')
    before = settings.read_text()
    assert toolchain.requirements(tmp_path) == []
    toolchain.settle(tmp_path)
    assert settings.read_text() == before

    (bare / "cmake").unlink()
    assert toolchain.requirements(tmp_path) == ["cmake>=3.14", "libclang==18.1.1", "ninja"]


def test_a_missing_tool_that_nobody_brings_ends_the_build_by_name(bare: Path, tmp_path: Path) -> None:
    assert list(bare.iterdir()) == []
    with pytest.raises(SystemExit, match="cmake is missing"):
        toolchain.settle(tmp_path)


def test_missing_compilers_end_the_build_with_what_to_install(bare: Path) -> None:
    with pytest.raises(SystemExit, match=r"cargo is missing.*rustup"):
        toolchain.require_compilers()
    program(bare, "cargo")
    program(bare, "cc")
    with pytest.raises(SystemExit, match=r"the C\+\+ compiler c\+\+ is missing.*build-essential"):
        toolchain.require_compilers()
    program(bare, "c++")
    toolchain.require_compilers()


def test_what_is_no_libclang_is_not_taken_for_one(bare: Path, tmp_path: Path) -> None:
    assert list(bare.iterdir()) == []
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("libclang-cpp.so.14", "libclang.so.1", "libclang-14.so.1"):
        program(folder, name)
    assert libclang.find() is None
