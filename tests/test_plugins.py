"""Plug-ins: which packages are found, and what is refused."""

from __future__ import annotations

import runpy
import sys
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

import mullama
from mullama import _mullama, _plugins

ROOT = Path(__file__).parents[1]
MODULE = "def library():\n    return {library!r}\n"


def install(folder: Path, version: str, library: Path, name: str = "abacus") -> Path:
    """A plug-in as pip would install it; returns the folder with its metadata."""
    (folder / f"mullama_{name}.py").write_text(MODULE.format(library=str(library)), encoding="utf-8")
    about = folder / f"mullama_{name}-{version}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: mullama-{name}\nVersion: {version}\n", encoding="utf-8"
    )
    entry = f"[{_plugins.GROUP}]\n{name} = mullama_{name}:library\n"
    about.joinpath("entry_points.txt").write_text(entry, encoding="utf-8")
    return about


@pytest.fixture(autouse=True)
def _unimported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("abacus", "slide_rule"):
        monkeypatch.delitem(sys.modules, f"mullama_{name}", raising=False)


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


@pytest.mark.parametrize(
    "program",
    [
        "raise OSError('no driver')",
        "raise SystemExit(3)",
        "this is no Python",
        "def library(): return None",
        "library = 3",
        "import mullama_no",
    ],
)
def test_whatever_a_plugin_raises_it_is_refused_and_no_model_suffers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    install(tmp_path, mullama.__version__, tmp_path / "libggml-abacus.so")
    (tmp_path / "mullama_abacus.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="mullama-abacus .* is not used"):
        (plugin,) = _plugins.load.__wrapped__()
    assert plugin.state.startswith("refused: ")


def test_plugins_are_loaded_in_the_order_of_their_names_and_each_has_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("slide_rule", "abacus"):
        install(tmp_path, "99.0.0", tmp_path / "library.so", name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="is not used"):
        plugins = _plugins.load.__wrapped__()
    assert [plugin.package for plugin in plugins] == ["mullama-abacus", "mullama-slide_rule"]


@pytest.mark.parametrize("metadata", [b"", b"Metadata-Version: 2.1\n", None, b"Name: mullama-abacus\n"])
def test_a_plugin_whose_metadata_is_damaged_is_left_out_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: bytes | None
) -> None:
    about = install(tmp_path, mullama.__version__, tmp_path / "libggml-abacus.so")
    about.joinpath("METADATA").unlink()
    if metadata is not None:
        about.joinpath("METADATA").write_bytes(metadata)
    monkeypatch.syspath_prepend(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plugins = _plugins.load.__wrapped__()
    assert [plugin.state.partition(":")[0] for plugin in plugins] == ["refused"] * len(said)


def test_entry_points_that_are_no_text_end_in_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = install(tmp_path, mullama.__version__, tmp_path / "libggml-abacus.so")
    about.joinpath("entry_points.txt").write_bytes(b"[mullama.backends]\nabacus = \xff\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="the installed plug-ins cannot be listed"):
        assert _plugins.load.__wrapped__() == ()


def test_folders_that_cannot_be_listed_and_archives_have_no_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "packages.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("mullama_abacus.py", "raise SystemExit")
    monkeypatch.setattr(
        sys, "path", ["", str(archive), str(tmp_path / "missing"), str(tmp_path / "\ud800"), "a\0b", None, tmp_path]
    )
    assert _plugins.load.__wrapped__() == ()


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
