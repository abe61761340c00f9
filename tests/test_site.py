"""The documentation site renders its pages, its links lead somewhere, and it needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
from guide import ROOT, loaded_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FENCES: Any = loaded_script(ROOT / "docs" / "fences.py")
SITE: Any = loaded_script(ROOT / "docs" / "site.py")


class Page(HTMLParser):
    """What a page refers to, and what can be referred to in it."""

    def __init__(self, file: Path) -> None:
        """Reads the file."""
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.names: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps references and names."""
        values = {name: value or "" for name, value in attrs}
        self.names |= {values.get("id", ""), values.get("name", "")}
        target = values.get("src") or values.get("href")
        if target is not None:
            (self.links if tag == "a" else self.fetched).append(target)


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site of a checkout."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(checkout / "python")}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


def copied(folder: Path, *left_out: str) -> Path:
    """A checkout with what a build of the site reads, without some files."""
    for name in ("docs", "python", "benches"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", *left_out))
    for name in ("mkdocs.yml", *(place for place in SITE.PAGES if "/" not in place)):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """The pages of the site."""
    return {file: Page(file) for file in site.rglob("*.html")}


def targets(pages: dict[Path, Page], site: Path) -> Iterator[tuple[Path, str, Path, str]]:
    """Each reference within the site: the page, the reference, the file that it means, and the name in it."""
    for file, page in pages.items():
        for reference in (*page.links, *page.fetched):
            parts = urlsplit(reference)
            if parts.scheme or parts.netloc or reference.startswith("data:"):
                continue
            folder = site if parts.path.startswith("/") else file.parent
            target = file if not parts.path else (folder / unquote(parts.path).lstrip("/")).resolve()
            yield file, reference, target / "index.html" if target.is_dir() else target, unquote(parts.fragment)


def test_every_link_of_the_site_leads_to_a_page_and_a_place_in_it(site: Path, pages: dict[Path, Page]) -> None:
    wrong = []
    for file, reference, target, name in targets(pages, site):
        if file.name == "404.html" and not target.exists():
            continue  # its links start at the address where the site will be
        if not target.exists() or (name and target in pages and name not in pages[target].names):
            wrong.append(f"{file.relative_to(site)}: {reference}")
    assert wrong == []
    assert len(pages) > 20


def test_no_page_fetches_anything_from_elsewhere(pages: dict[Path, Page]) -> None:
    assert [one for page in pages.values() for one in page.fetched if urlsplit(one).netloc] == []


def test_every_page_but_the_first_and_the_last_has_neighbours(site: Path) -> None:
    alone = [
        page.parent.name
        for page in site.glob("*/index.html")
        if "md-footer__link" not in page.read_text(encoding="utf-8")
    ]
    assert alone == []


def test_languages_are_in_tabs(site: Path) -> None:
    guide = (site / "streaming" / "index.html").read_text(encoding="utf-8")
    labels = re.findall(r'<div class="tabbed-labels">(.*?)</div>', guide, flags=re.DOTALL)
    assert ["Python", "Node.js", "Rust", "Command line"] in [re.findall(r">([^<>]+)</label>", each) for each in labels]
    assert 'class="language-rust highlight"' in (site / "index.html").read_text(encoding="utf-8")


def test_each_line_of_code_has_its_indentation_for_where_it_is_broken(site: Path) -> None:
    guide = (site / "streaming" / "index.html").read_text(encoding="utf-8")
    block = guide.split('<code style="--columns:65">', 1)[1].split("</code>", 1)[0]  # the first of the page
    lines = re.findall(r'<span id="__line-0-\d+" style="--indent:(\d+)">(.*)', block)
    assert [int(indent) for indent, _ in lines] == [0, 0, 0, 0, 0, 0, 4, 0]
    assert "print" in lines[6][1]


def test_an_option_is_not_broken_after_its_hyphens(site: Path) -> None:
    guide = (site / "streaming" / "index.html").read_text(encoding="utf-8")
    assert '<span class="option">--max-tokens</span>' in guide
    assert '<code class="option">--timeout</code>' in guide


def test_the_reference_names_no_private_class(site: Path) -> None:
    reference = re.sub(r"<[^>]*>", "", (site / "reference" / "index.html").read_text(encoding="utf-8"))
    bases = re.findall(r"Bases:\s+(.*)", reference)
    assert "MullamaError, FileNotFoundError" in bases
    assert re.findall(r"\w*Closing|Displayed", "\n".join(bases)) == []


def test_lines_of_rust_that_only_set_an_example_up_are_hidden(site: Path) -> None:
    assert "demo.gguf" not in (site / "rust" / "index.html").read_text(encoding="utf-8")


def test_each_cell_of_a_table_has_the_head_of_its_column(site: Path) -> None:
    guide = (site / "streaming" / "index.html").read_text(encoding="utf-8")
    [row] = re.findall(r"(?s)<tr>(?:(?!</tr>).)*<code>max_tokens</code></td>.*?</tr>", guide)
    assert re.findall('data-label="([^"]*)"', row) == ["field", "default", "range", "meaning"]


@pytest.mark.parametrize("info", ["rust,ignore", "javascript", "python title=x", "rust,no_run,foo"])
def test_a_block_that_the_site_cannot_render_ends_the_build(tmp_path: Path, info: str) -> None:
    checkout = copied(tmp_path / "checkout")
    page = checkout / "docs" / "gpu.md"
    page.write_text(f"# GPUs\n\nText.\n\n```{info}\nlet a = 1;\n```\n", encoding="utf-8")
    built = build(checkout, tmp_path / "site")
    assert built.returncode != 0
    assert f"gpu.md, line 5: the site cannot render a block of '{info}'" in built.stderr


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ("<p>```rust,no_run use std;</p>", "code block"),
        ("<p>| a | b |\n|---|---|</p>", "table"),
        ('<p>=== "Python"</p>', "tab or note"),
        ("<p>!!! note</p>", "tab or note"),
    ],
)
def test_markdown_that_was_not_rendered_ends_the_build(html: str, what: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    with pytest.raises(Exception, match=rf"page\.md: a {what} was not rendered"):
        FENCES.on_page_content(html, page)
    assert FENCES.on_page_content(f"<pre><code>{html[3:-4]}</code></pre>", page)


def test_a_checkout_without_the_compiled_module_says_what_to_run(tmp_path: Path) -> None:
    built = build(copied(tmp_path / "checkout", "*.so"), tmp_path / "site")
    assert built.returncode != 0
    assert "Run `make docs`" in built.stdout
    assert "Traceback" not in built.stdout + built.stderr


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@example.org:group/mullama.git", "https://example.org/group/mullama"),
        ("ssh://git@example.org/group/mullama.git", "https://example.org/group/mullama"),
        ("https://name:secret@example.org/mullama.git", "https://example.org/mullama"),
        ("/srv/git/mullama", ""),
    ],
)
def test_the_site_links_the_repository_that_it_was_cloned_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, remote: str, address: str
) -> None:
    monkeypatch.delenv("MULLAMA_REPOSITORY", raising=False)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)  # noqa: S607  # the developer's git
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)  # noqa: S607
    monkeypatch.setattr(SITE, "ROOT", tmp_path)
    assert SITE.repository() == address
