"""What the site is made of besides the pages in `docs`: those that stand at the top of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": "LICENSE",
}
"""Files of the repository, and their places in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files from outside `docs`, their links turned to where the pages are."""
    for source, place in PAGES.items():
        files.append(File.generated(config, place, content=turned((ROOT / source).read_text(encoding="utf-8"))))
    return files


def turned(text: str) -> str:
    """The text with links of the repository as links of the site."""
    for source, place in PAGES.items():
        text = text.replace(f"]({source})", f"]({place})")
    return text.replace("](docs/", "](")


def on_page_markdown(markdown: str, page: Page, **_site: object) -> str:
    """Leaves out the lines of Rust that set an example up, as rustdoc does."""
    del page
    return re.sub(r"(?ms)^```rust.*?^```", lambda block: re.sub(r"(?m)^# .*\n", "", block[0]), markdown)
