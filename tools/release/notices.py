"""Collects the licences of what is compiled into a package: Rust crates, llama.cpp, and Rust's standard library."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LICENCE = re.compile(r"(un)?licen[sc]e|copying|notice|copyright", re.IGNORECASE)
DEPTH = 3  # of folders in a crate, which may have code of others
# Where llama.cpp has code of others, which states its licence in a comment.
FOREIGN_CODE = ("src", "ggml/src", "ggml/src/ggml-cpu", "ggml/src/ggml-cpu/llamafile")
COMMENT = re.compile(r"(?:^[ \t]*//[^\n]*\n)+|/\*.*?\*/", re.DOTALL | re.MULTILINE)
MIT = re.compile(r"Permission is hereby granted, free of charge.*?DEALINGS IN THE\nSOFTWARE\.", re.DOTALL)
_NAPI = "Copyright (c) 2020 LongYinan\nCopyright (c) 2018 GitHub"
# Of crates under the MIT License whose repository has a licence file, but not the crate.
COPYRIGHTS = {"napi": _NAPI, "napi-sys": _NAPI}
RULE = "=" * 80


class MissingLicenceError(Exception):
    """Something is compiled in whose licence is not known."""


@dataclass(frozen=True)
class Crate:
    """A crate that is compiled into the native module."""

    name: str
    version: str
    licence: str
    folder: Path
    authors: tuple[str, ...]

    @property
    def title(self) -> str:
        """How the notices name it."""
        return f"{self.name} {self.version}"


def package(root: Path, name: str) -> Path:
    """The folder of a crate's sources."""
    return next(Path(entry["manifest_path"]).parent for entry in _metadata(root) if entry["name"] == name)


def linked(root: Path, binding: str = "mullama-py") -> list[Crate]:
    """The crates of others in a binding: cargo's own answer, without those that only ran at the build."""
    options = ["--package", binding, "--features", "portable", "--edges", "normal,no-proc-macro"]
    command = ["cargo", "tree", "--locked", *options, "--prefix", "none", "--no-dedupe", "--format", "{p}"]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    wanted = set(re.findall(r"^(\S+) v(\S+)", told, re.MULTILINE))
    found = [entry for entry in _metadata(root) if (entry["name"], entry["version"]) in wanted and entry["source"]]
    return [
        Crate(
            name=entry["name"],
            version=entry["version"],
            licence=entry["license"] or "",
            folder=Path(entry["manifest_path"]).parent,
            authors=tuple(entry["authors"]),
        )
        for entry in found
    ]


def text(crates: list[Crate]) -> str:
    """The notices: each licence once, below the crates that have it.

    Raises:
        MissingLicenceError: A crate has no licence file. Its licence is none whose text is the same everywhere, and
            `COPYRIGHTS` lacks it.
    """
    users: dict[str, list[str]] = defaultdict(list)
    bare = []
    for crate in sorted(crates, key=lambda crate: crate.title):
        texts = _texts(crate)
        for licence in texts:
            users[licence].append(f"{crate.title} ({crate.licence})")
        if not texts:
            bare.append(crate)
    for crate in bare:
        by = f", by {', '.join(crate.authors)}" if crate.authors else ""
        users[_without_file(users, crate)].append(f"{crate.title} ({crate.licence}{by})")
    blocks = (f"{RULE}\n{chr(10).join(names)}\n{RULE}\n\n{licence}\n" for licence, names in users.items())
    return "This package has code of the following projects.\n\n" + "\n".join(blocks)


def standard_library() -> bytes:
    """The notices of Rust's standard library, as the compiler brings them."""
    command = ["rustc", "--print", "sysroot"]
    sysroot = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    found = next(Path(sysroot, "share", "doc").rglob("COPYRIGHT-library.html"), None)
    if found is None:
        message = f"{sysroot} has no COPYRIGHT-library.html; a toolchain that rustup installs has it"
        raise MissingLicenceError(message)
    return found.read_bytes()


def _texts(crate: Crate) -> list[str]:
    """The texts of a crate's licence files, and of the comments by which llama.cpp marks code of others."""
    paths = [path for depth in range(DEPTH) for path in crate.folder.glob("/".join(["*"] * (depth + 1)))]
    files = sorted(path for path in paths if LICENCE.match(path.name) and path.is_file() and path.suffix != ".rs")
    texts = [_plain(path) for path in files]
    sources = crate.folder / "llama.cpp"
    if sources.is_dir():
        texts += [_plain(sources / "LICENSE")] if sources / "LICENSE" not in files else []
        for place in FOREIGN_CODE:
            for path in sorted([*sources.glob(f"{place}/*.c*"), *sources.glob(f"{place}/*.h")]):
                comments = COMMENT.findall(_plain(path) + "\n")
                texts += [f"{path.name}:\n{comment}" for comment in comments if "Copyright" in comment]
    return texts


def _plain(path: Path) -> str:
    """A text, with lines that end in the same way everywhere: equal licences are shown once."""
    return "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()).strip()


def _without_file(users: dict[str, list[str]], crate: Crate) -> str:
    """The licence of a crate that has no file of it: the MIT or the Apache License, as most crates have them."""
    if crate.licence == "MIT" and crate.name in COPYRIGHTS:
        texts = Counter(found[0] for licence in users if (found := MIT.search(licence)))
        return f"MIT License\n\n{COPYRIGHTS[crate.name]}\n\n{texts.most_common(1)[0][0]}"
    if "Apache-2.0" not in re.split(r"\s+OR\s+|/", crate.licence):
        message = f"{crate.title} has no licence file, but its licence is {crate.licence or 'not stated'}"
        raise MissingLicenceError(message)
    texts = Counter({licence: len(names) for licence, names in users.items() if _is_apache(licence)})
    return texts.most_common(1)[0][0]


def _is_apache(licence: str) -> bool:
    return licence.startswith("Apache License\n") and "Version 2.0" in licence[:200]


def _metadata(root: Path) -> list[dict[str, Any]]:
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    packages: list[dict[str, Any]] = json.loads(told)["packages"]
    return packages
