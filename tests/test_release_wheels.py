"""Wheels that a release writes: equal contents are equal bytes, and the metadata agrees with the files."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from release import reproduce, sbom, wheels

ABOUT = "tried-1.dist-info"


def files() -> dict[str, bytes]:
    return {
        "tried/lib.so.tried": b"library",
        f"{ABOUT}/METADATA": b"Metadata-Version: 2.4\nName: tried\nVersion: 1\nLicense-File: LICENSE\n\nText\n",
        f"{ABOUT}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp310-abi3-linux_x86_64\n",
        "tried/__init__.py": b"",
    }


def test_the_order_and_the_time_of_writing_leave_no_trace(tmp_path: Path) -> None:
    first, second = tmp_path / "first.whl", tmp_path / "second.whl"
    wheels.write(first, files())
    wheels.write(second, dict(reversed(files().items())))
    assert first.read_bytes() == second.read_bytes()
    assert wheels.read(first) == files()


def test_the_platform_and_added_licences_are_in_the_metadata(tmp_path: Path) -> None:
    content = files()
    wheels.retag(content, "manylinux_2_34_x86_64")
    wheels.add_licence(content, "NOTICES.txt", b"notices")
    assert b"Tag: cp310-abi3-manylinux_2_34_x86_64\n" in content[f"{ABOUT}/WHEEL"]
    assert b"License-File: LICENSE\nLicense-File: NOTICES.txt\n" in content[f"{ABOUT}/METADATA"]
    wheels.write(tmp_path / "tried.whl", content)
    with zipfile.ZipFile(tmp_path / "tried.whl") as archive:
        record = archive.read(f"{ABOUT}/RECORD").decode()
        assert sorted(line.split(",")[0] for line in record.splitlines()) == sorted(archive.namelist())
        assert archive.read(f"{ABOUT}/licenses/NOTICES.txt") == b"notices"


def test_metadata_without_a_licence_file_is_refused() -> None:
    content = files() | {f"{ABOUT}/METADATA": b"Metadata-Version: 2.4\n"}
    with pytest.raises(ValueError, match="names no licence file"):
        wheels.add_licence(content, "NOTICES.txt", b"notices")


def test_the_list_of_what_is_compiled_in_has_llama_cpp_and_no_trace_of_the_build() -> None:
    def listed(folder: str, number: int) -> bytes:
        about = {"timestamp": str(number), "component": {"bom-ref": f"path+file://{folder}/crates/tried#1"}}
        return json.dumps({"serialNumber": number, "metadata": about, "components": [{"name": "tried"}]}).encode()

    build_id = "mullama 1.2.3, llama.cpp 0.6.0, ggml 0.9.4"
    first = sbom.settled(listed("/a", 1), Path("/a"), build_id)
    assert first == sbom.settled(listed("/some/where", 2), Path("/some/where"), build_id)
    found = [(part["name"], part.get("version")) for part in json.loads(first)["components"]]
    assert found == [("tried", None), ("llama.cpp", "0.6.0"), ("ggml", "0.9.4")]


def test_the_comparison_names_the_files_that_differ(tmp_path: Path) -> None:
    first, second = tmp_path / "first.whl", tmp_path / "second.whl"
    wheels.write(first, files())
    wheels.write(second, files() | {"tried/__init__.py": b"changed", "tried/more.py": b""})
    assert reproduce.different(first, second) == ["tried/__init__.py", "tried/more.py"]
