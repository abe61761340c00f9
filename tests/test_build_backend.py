"""`MULLAMA_BACKEND` reaches cargo: one switch for pip and make, and a clear end for what it cannot mean."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mullama_build
from mullama_build import backend

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The one folder of programs of a machine without any GPU toolkit."""
    for variable in ("CUDACXX", "CUDA_PATH", "ROCM_PATH", "VULKAN_SDK", "MATURIN_PEP517_ARGS", backend.VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    compilers = {name: (program, (), source) for name, (program, _, source) in backend.COMPILERS.items()}
    monkeypatch.setattr(backend, "COMPILERS", compilers)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder: Path, name: str, body: str = "") -> None:
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{body}\n")
    file.chmod(0o755)


def cargo(*arguments: str) -> str:
    command = [shutil.which("cargo") or str(Path.home() / ".cargo/bin/cargo"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("value", ["", "cpu", " CPU "])
def test_without_a_backend_no_feature_is_asked_for(programs: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert programs.is_dir()
    monkeypatch.setenv(backend.VARIABLE, value)
    backend.require()
    assert backend.settings(None) == {"maturin.build-args": []}


@pytest.mark.parametrize("value", ["nonsense", "cuda,vulkan", "opencl", "1", "cuda\n--help"])
def test_an_unknown_backend_ends_the_build_with_the_choices(
    programs: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    assert programs.is_dir()
    monkeypatch.setenv(backend.VARIABLE, value)
    for asked in (backend.require, mullama_build.get_requires_for_build_wheel):
        program(programs, "cargo")
        program(programs, "cc")
        program(programs, "c++")
        with pytest.raises(SystemExit) as caught:
            asked()
        assert repr(value) in str(caught.value.code)
        assert "one of cpu, cuda, metal, rocm, vulkan" in str(caught.value.code)


@pytest.mark.parametrize(
    ("name", "needs"), [("cuda", "nvcc"), ("rocm", "hipcc"), ("vulkan", "glslc"), ("CUDA", "nvcc")]
)
def test_a_missing_toolkit_ends_the_build_by_name(
    programs: Path, monkeypatch: pytest.MonkeyPatch, name: str, needs: str
) -> None:
    monkeypatch.setenv(backend.VARIABLE, name)
    with pytest.raises(SystemExit, match=f"needs {needs}, which is not on PATH: install "):
        backend.require()
    program(programs, needs)
    backend.require()


@pytest.mark.skipif(platform.system() == "Darwin", reason="there Metal is at home")
def test_metal_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backend.VARIABLE, "metal")
    with pytest.raises(SystemExit, match="needs macOS"):
        backend.require()


@pytest.mark.parametrize("build", [mullama_build.build_wheel, mullama_build.build_editable])
def test_the_backend_is_a_cargo_feature_in_the_command_that_builds(
    programs: Path, monkeypatch: pytest.MonkeyPatch, build: object
) -> None:
    """The hook of maturin runs the program `maturin`; one that writes down its arguments stands in its place."""
    wheel, heard = programs / "made.whl", programs / "arguments"
    wheel.touch()
    write = f"import json, sys; open({str(heard)!r}, 'w').write(json.dumps(sys.argv[1:])); print({str(wheel)!r})"
    program(programs, "maturin", write)
    program(programs, "nvcc")
    program(programs, "cargo")
    monkeypatch.setattr(mullama_build, "_before_build", backend.require)
    monkeypatch.setattr(mullama_build.toolchain, "remember_python", lambda _root: None)
    monkeypatch.setenv(backend.VARIABLE, "cuda")
    out = programs / "out"
    out.mkdir()

    assert callable(build)
    assert build(str(out), {"build-args": "--quiet"}) == "made.whl"
    arguments: Sequence[str] = json.loads(heard.read_text())
    assert arguments[:2] == ["pep517", "build-wheel"]
    assert "--quiet" in arguments
    assert arguments[arguments.index("--features") + 1] == "cuda"


@pytest.mark.parametrize("name", ["cuda", "metal", "rocm", "vulkan"])
def test_the_feature_of_the_native_module_is_llama_cpps_own(name: str) -> None:
    what = ("-p", "mullama-py", "--features", name, "-i", "llama-cpp-sys-2")
    tree = cargo("tree", "--locked", "--offline", "-e", "features", *what)
    assert f'llama-cpp-sys-2 feature "{name}"' in tree
    others = {"cuda", "metal", "rocm", "vulkan"} - {name}
    assert not any(f'llama-cpp-sys-2 feature "{other}"' in tree for other in others)


def test_the_guide_names_every_backend() -> None:
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "gpu.md").read_text(), re.MULTILINE)
    assert sorted(rows) == list(backend.CHOICES)
