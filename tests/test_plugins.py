"""Plug-ins: which packages are found, and what is refused."""

from __future__ import annotations

import runpy
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import mullama
from mullama import _mullama, _plugins

ROOT = Path(__file__).parents[1]
MODULE = "def library():\n    return {library!r}\n"


def install(folder: Path, version: str, library: Path) -> None:
    """A plug-in as pip would install it."""
    (folder / "mullama_abacus.py").write_text(MODULE.format(library=str(library)), encoding="utf-8")
    about = folder / f"mullama_abacus-{version}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: mullama-abacus\nVersion: {version}\n", encoding="utf-8"
    )
    entry = f"[{_plugins.GROUP}]\nabacus = mullama_abacus:library\n"
    about.joinpath("entry_points.txt").write_text(entry, encoding="utf-8")


@pytest.fixture(autouse=True)
def _unimported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mullama_abacus", raising=False)


def test_a_plugin_of_another_version_is_refused_before_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "99.0.0", tmp_path / "libggml-abacus.so")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=r"mullama-abacus 99\.0\.0 is not used: .* must be that of mullama"):
        (plugin,) = _plugins.load.__wrapped__()
    assert plugin.state.startswith("refused: ")
    assert "mullama_abacus" not in sys.modules


def test_a_plugin_whose_library_cannot_be_used_is_refused_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libggml-abacus.so"
    install(tmp_path, mullama.__version__, library)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="is not used"):
        (plugin,) = _plugins.load.__wrapped__()
    assert str(library) in plugin.state


def test_a_source_build_says_that_it_takes_no_plugins(tmp_path: Path) -> None:
    if _mullama.cpu_variant() is not None:
        pytest.skip("this build is portable")
    with pytest.raises(ImportError, match="feature `portable`"):
        _mullama.load_plugin(tmp_path / "libggml-abacus.so")


def test_doctor_reports_plugins_and_the_variant() -> None:
    from mullama._report import machine  # noqa: PLC0415  # slow to import

    about = machine()
    assert about["plugins"] == []
    assert about["cpu_variant"] == _mullama.cpu_variant()


def test_a_plugin_is_packed_reproducibly_for_one_version_with_its_entry_point(
    tmp_path: Path,
) -> None:
    build = SimpleNamespace(**runpy.run_path(str(ROOT / "plugins" / "build.py")))
    library, sources = tmp_path / "libggml-vulkan.so", tmp_path / "llama.cpp"
    library.write_bytes(b"not read")
    sources.mkdir()
    (sources / "LICENSE").write_text("MIT", encoding="utf-8")
    asked = SimpleNamespace(backend="vulkan", platform="linux_x86_64", llama_cpp=sources, out=tmp_path)
    wheel = build.packed(library, asked, "1.2.3", ["mullama==1.2.3"])
    assert wheel.name == "mullama_vulkan-1.2.3-py3-none-linux_x86_64.whl"
    first = wheel.read_bytes()
    assert build.packed(library, asked, "1.2.3", ["mullama==1.2.3"]).read_bytes() == first
    with zipfile.ZipFile(wheel) as archive:
        about = "mullama_vulkan-1.2.3.dist-info"
        assert "Requires-Dist: mullama==1.2.3" in archive.read(f"{about}/METADATA").decode()
        assert "vulkan = mullama_vulkan:library" in archive.read(f"{about}/entry_points.txt").decode()
        assert sorted(line.split(",")[0] for line in archive.read(f"{about}/RECORD").decode().split()) == sorted(
            archive.namelist()
        )
