"""The notices in the packages of a release name every crate that is compiled in."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from release import notices

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")


@pytest.fixture(scope="module", params=["mullama-py", "mullama-node"])
def binding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def crates(binding: str) -> list[notices.Crate]:
    return notices.linked(ROOT, binding)


def always_reached(binding: str) -> set[str]:
    """What the graph of cargo's metadata has below a native module without optional dependencies.

    This is another way to the answer; whether an optional one is on, the metadata knows for the whole workspace only.
    """
    command = [
        "cargo",
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    answer: dict[str, Any] = json.loads(told)
    packages = {package["id"]: package for package in answer["packages"]}
    nodes = {node["id"]: node for node in answer["resolve"]["nodes"]}
    waiting = [key for key, package in packages.items() if package["name"] == binding]
    found: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in found and not is_proc_macro(packages[key]):
            found.add(key)
            optional = {stated["name"] for stated in packages[key]["dependencies"] if stated["optional"]}
            waiting += [
                dependency["pkg"]
                for dependency in nodes[key]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
                and packages[dependency["pkg"]]["name"] not in optional
            ]
    return {f"{packages[key]['name']} {packages[key]['version']}" for key in found if packages[key]["source"]}


def is_proc_macro(package: dict[str, Any]) -> bool:
    return any("proc-macro" in target["kind"] for target in package["targets"])


def test_every_crate_that_is_reached_from_a_native_module_is_named(crates: list[notices.Crate], binding: str) -> None:
    text = notices.text(crates)
    expected = always_reached(binding)
    assert text.startswith("This package has code of the following projects.")
    assert len(expected) > 80
    assert {title for title in expected if f"\n{title} (" not in text} == set()


def test_a_licence_that_several_crates_have_is_shown_once_below_all_of_them(crates: list[notices.Crate]) -> None:
    text = notices.text(crates)
    assert text.count("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION") < len(crates) / 4


def test_code_of_others_inside_llama_cpp_is_named_with_its_licence(crates: list[notices.Crate]) -> None:
    text = notices.text(crates)
    assert "Copyright (c) 2023-2026 The ggml authors" in text
    assert "sgemm.cpp:\n// Copyright 2024 Mozilla Foundation" in text


def test_a_copyright_that_only_the_repository_of_a_crate_has_is_above_its_licence(
    crates: list[notices.Crate], binding: str
) -> None:
    titles = [crate.title for crate in crates if crate.name in notices.COPYRIGHTS]
    assert len(titles) == (2 if binding == "mullama-node" else 0)
    text = notices.text(crates)
    assert all(f"\n{title} (MIT, by " in text for title in titles)
    # Both have the same licence.
    blocks = text.split("Copyright (c) 2020 LongYinan\nCopyright (c) 2018 GitHub\n\nPermission is hereby granted")
    assert len(blocks) == (2 if titles else 1)


def test_a_crate_without_a_licence_file_ends_the_build_unless_its_licence_has_one_text(
    crates: list[notices.Crate], tmp_path: Path
) -> None:
    bare = notices.Crate("bare", "1.0.0", "MIT", tmp_path, ())
    with pytest.raises(notices.MissingLicenceError, match=r"bare 1\.0\.0 has no licence file.*MIT"):
        notices.text([*crates, bare])
    bare = notices.Crate("bare", "1.0.0", "MIT OR Apache-2.0", tmp_path, ("A. Author",))
    assert "bare 1.0.0 (MIT OR Apache-2.0, by A. Author)" in notices.text([*crates, bare])
