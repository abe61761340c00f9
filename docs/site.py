"""Adds the pages that stand outside `docs/` to the site, and tells a writer what a build needs."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import Abort
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE",
    "Dockerfile": "Dockerfile",
    "benches/README.md": "benchmarks.md",
}
"""Files of the repository, and their places in the site."""

NEEDS_MODULE = """\
The Python reference is generated from the compiled module `mullama._mullama`, which this checkout does not have.
Run `make docs`: it builds the module (the first time in some minutes) and then the site."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Checks that the module is compiled, and links the repository that this checkout was cloned from."""
    if not has_module():
        raise Abort(NEEDS_MODULE)
    config.repo_url = repository()
    config.repo_name = "repository" if config.repo_url else None
    return config


def has_module() -> bool:
    """Whether the compiled module lies beside this checkout's Python files."""
    try:
        spec = importlib.util.find_spec("mullama._mullama")
    except ImportError:
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).is_relative_to(ROOT / "python")


def repository() -> str:
    """The web address of the repository: `MULLAMA_REPOSITORY`, or the remote `origin`; empty if there is none."""
    if given := os.environ.get("MULLAMA_REPOSITORY"):
        return given
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  # fixed words
    except OSError:
        return ""
    address = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", ran.stdout.strip()).removesuffix(".git")
    # A clone of a folder has no web page, and an address may carry a password.
    return re.sub(r"//[^/@]*@", "//", address) if address.startswith("https://") else ""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files from outside `docs`, with links that lead to their places in the site."""
    for source, place in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=with_site_links(text)))
    return files


def with_site_links(text: str) -> str:
    """The text with the repository's links as links of the site."""
    for source, place in PAGES.items():
        text = text.replace(f"]({source})", f"]({place})").replace(f"]({source}#", f"]({place}#")
    return re.sub(r"\]\((?:\.\./)?docs/", "](", text).replace('src="docs/', 'src="')
