"""The Dockerfile is right, and so are the units, manifests and commands in the pages that no test runs."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse.parser import DockerfileParser
from guide import DOCS, PAGES, ROOT, Block, blocks, name

from mullama import _cli

# Python 3.10 has tomli, which maturin brings there.
tomllib: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

EVERYWHERE = [ROOT / "README.md", *PAGES]


def instructions(content: str, folder: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile."""
    parser = DockerfileParser(path=str(folder))
    parser.content = content
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


@pytest.fixture
def stages(tmp_path: Path) -> list[list[tuple[str, str]]]:
    """The stages of the repository's Dockerfile."""
    found: list[list[tuple[str, str]]] = []
    for each in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"), tmp_path):
        if each[0] == "FROM":
            found.append([])
        found[-1].append(each)
    return found


def lint(content: str) -> str:
    """What hadolint, with the shell checks that it brings, says of a Dockerfile."""
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "-"]
    ran = subprocess.run(command, input=content, capture_output=True, text=True, timeout=60, check=False)
    return ran.stdout + ran.stderr


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    content = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert lint(content) == ""
    assert "DL3020" in lint(content.replace("COPY . .", "ADD . ."))


def test_the_image_has_no_compiler_and_no_source(stages: list[list[tuple[str, str]]]) -> None:
    build, image = stages
    assert re.fullmatch(r"rust:[\d.]+-slim-\w+ AS build", build[0][1])
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", image[0][1])
    assert "COPY" not in dict(image)
    assert "apt-get" not in "".join(value for _, value in image)
    # Both are of one Debian, so that the module finds the C library that it was linked with.
    assert build[0][1].removesuffix(" AS build").rsplit("-", 1)[1] == image[0][1].rsplit("-", 1)[1]


def test_the_image_runs_the_command_as_a_user_without_privileges(stages: list[list[tuple[str, str]]]) -> None:
    image = dict(stages[-1])
    user, group = image["USER"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    [command] = re.findall(r'"(\w+)"', image["ENTRYPOINT"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert command in scripts


def test_the_image_is_built_for_other_machines_with_the_pinned_compiler(stages: list[list[tuple[str, str]]]) -> None:
    build = dict(stages[0])
    assert build["ENV"] == "MULLAMA_PORTABLE=1"
    pinned = tomllib.loads((ROOT / "rust-toolchain.toml").read_text(encoding="utf-8"))["toolchain"]["channel"]
    [version] = re.findall(r"rust:([\d.]+)-", build["FROM"])
    assert pinned.startswith(f"{version}.")


def test_no_layer_keeps_what_was_only_needed_to_make_it(stages: list[list[tuple[str, str]]]) -> None:
    for instruction, value in (each for stage in stages for each in stage):
        if instruction == "RUN" and "apt-get install" in value:
            assert "--no-install-recommends" in value
            assert value.endswith("rm -rf /var/lib/apt/lists/*")
        if instruction == "RUN":
            assert value.count("pip ") == value.count("--no-cache-dir"), value


def test_the_build_gets_what_it_needs_and_no_results_of_others() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    def is_sent(path: str) -> bool:
        sent = True
        for rule in rules:
            pattern = rule.lstrip("!").replace("**/", "*")
            if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
                sent = rule.startswith("!")
        return sent

    for path in ("Cargo.lock", "LICENSE", "README.md", "build_backend/mullama_build/__init__.py"):
        assert is_sent(path)
        assert (ROOT / path).exists()
    assert is_sent("python/mullama/models/demo.gguf")
    for path in (".git/HEAD", ".venv/bin/python", "target/release/x", "python/mullama/_mullama.abi3.so", "big.gguf"):
        assert not is_sent(path)


@pytest.mark.parametrize("block", blocks("dockerfile", *PAGES), ids=name)
def test_a_dockerfile_of_a_page_ends_as_a_user_without_privileges(block: Block, tmp_path: Path) -> None:
    found = instructions(block.code, tmp_path)
    assert found[0][0] == "FROM"
    assert set(re.findall(r"DL\d+", lint(block.code))) <= {"DL3006", "DL3013"}  # no version is named
    users = [value for instruction, value in found if instruction == "USER"]
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("block", blocks("ini", *PAGES), ids=name)
def test_a_unit_can_be_started(block: Block) -> None:
    unit: Any = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str
    unit.read_string(block.code)
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    assert unit["Service"]["ExecStart"].startswith("/")
    # systemd's SIGTERM must leave the server the time that it was given.
    [graceful] = re.findall(r"--timeout-graceful-shutdown (\d+)", unit["Service"]["ExecStart"])
    assert int(unit["Service"]["TimeoutStopSec"]) > int(graceful)


@pytest.mark.parametrize("block", blocks("toml", *EVERYWHERE), ids=name)
def test_a_manifest_depends_on_this_crate(block: Block) -> None:
    dependencies = tomllib.loads(block.code)["dependencies"]
    crate = (ROOT.parent / "mullama" / "x" / dependencies["mullama"]["path"].removeprefix("../")).parts[-2:]
    manifest = tomllib.loads((ROOT.joinpath(*crate) / "Cargo.toml").read_text(encoding="utf-8"))
    assert manifest["package"]["name"] == "mullama"


@pytest.mark.parametrize("block", blocks("(?:text)?", *EVERYWHERE), ids=name)
def test_a_command_that_no_test_runs_exists(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cli, "read_prompt", lambda prompt: " ".join(prompt) or None)  # a conversation has a terminal
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in block.code.splitlines():
        command = re.match(r"(?:[A-Z_]+=\S* )?(?:\.venv/bin/)?(make|mullama) ", line)
        if command is None:
            continue
        words = [word for word in shlex.split(line[command.start(1) :], comments=True) if "=" not in word]
        if words[0] == "make":
            assert set(words[1:]) <= set(targets)
        else:
            assert isinstance(_cli.parse(words[1:]), _cli.Order)


@pytest.mark.parametrize("page", EVERYWHERE, ids=lambda page: page.name)
def test_no_page_takes_mullama_from_a_registry(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # Where a page says that this brings nothing, or something else, it says so in a sentence and not in a block.
    shown = "\n".join(block.code for block in blocks(r"[\w,]*", page))
    assert not re.search(r"pip install (?:-\S+ )*[\"']?mullama\b|cargo add mullama|npm install mullama", shown)
    assert "`pip install mullama[" not in text


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"(?m)^ +- [^:]+: ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert {page.name for page in DOCS.glob("*.md")} <= set(listed)
    assert len(listed) == len(set(listed))
