"""Shows code blocks: languages in tabs, no hidden lines. Whatever would not be rendered ends the build."""

from __future__ import annotations

import ast
import re
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

LABELS = {"python": "Python", "js": "Node.js", "rust": "Rust", "sh": "Command line"}
"""Languages whose neighbouring blocks become tabs, and the names of the tabs."""

LANGUAGES = {"", "dockerfile", "ini", "jinja", "text", "toml", "ts", *LABELS}
"""What may stand behind the backticks. Nothing, or text, marks output, diagrams and commands that no test runs."""

COMMANDS = re.compile(
    r"(?:[A-Z_]+=\S* )?(?:\.venv/bin/\w+|cd|docker|git|hf|make|npm|npx|mullama|pip|python3?|uvicorn) "
)
"""How a block of commands begins that no test runs, and that is shown like those that run."""

ATTRIBUTES = {"no_run"}
"""What may follow `rust`: rustdoc's attributes, which the site leaves out."""

OPTION = re.compile(r"(?<=[ >])--?[a-z][a-z-]*(?=[ =<\n])")
"""An option of a command, which stays in one piece where a line is broken."""

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)\n(?P<code>.*?)^(?P=indent)(?P=ticks)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A code block, and where it stands in the page."""

    start: int
    end: int
    indent: str
    language: str
    code: str

    def text(self, indent: str = "") -> str:
        """The block as Markdown, further in by `indent`."""
        lines = f"{self.indent}```{self.language}\n{self.code}{self.indent}```"
        return re.sub(r"(?m)^(?=.)", indent, lines)


def on_page_markdown(markdown: str, page: Page, **_site: object) -> str:
    """Puts neighbouring blocks of different languages into tabs."""
    shown = []
    written = 0
    for group in groups(markdown, blocks(markdown, page.file.src_uri)):
        shown.append(markdown[written : group[0].start])
        if len(group) == 1:
            shown.append(group[0].text())
        else:
            # The exclamation mark keeps the tabs apart from those before them.
            starts = ["===!", *["==="] * (len(group) - 1)]
            for start, each in zip(starts, group, strict=True):
                shown.append(f'{each.indent}{start} "{LABELS[each.language]}"\n\n{each.text("    ")}\n\n')
        written = group[-1].end
    return "".join([*shown, markdown[written:]])


def blocks(markdown: str, place: str) -> list[Block]:
    """The page's code blocks, without the lines of Rust that set an example up, as rustdoc shows them."""
    found = []
    for fence in FENCE.finditer(markdown):
        language, *attributes = fence["info"].strip().split(",")
        if language not in LANGUAGES or not set(attributes) <= (ATTRIBUTES if language == "rust" else set()):
            line = markdown.count("\n", 0, fence.start()) + 1
            message = f"{place}, line {line}: the site cannot render a block of {fence['info']!r}. Known are {KNOWN}."
            raise PluginError(message)
        code = re.sub(r"(?m)^ *# .*\n", "", fence["code"]) if language == "rust" else fence["code"]
        if language in {"", "text"}:
            language = shown_as(code)
        found.append(Block(fence.start(), fence.end(), fence["indent"], language, code))
    return found


def shown_as(code: str) -> str:
    """The language for the colours of a block that no test runs; text for diagrams and output, which do not wrap."""
    if COMMANDS.match(code.lstrip()):
        return "bash"
    try:
        ast.parse(code)
    except SyntaxError:
        return "text"
    return "py"


KNOWN = ", ".join(sorted(LANGUAGES - {""})) + "; rust may have " + ", ".join(ATTRIBUTES)


def groups(markdown: str, found: list[Block]) -> list[list[Block]]:
    """The blocks, with those together that only empty lines separate and whose languages differ."""
    together: list[list[Block]] = []
    for block in found:
        last = together[-1] if together else []
        languages = {each.language for each in last}
        is_neighbour = last and not markdown[last[-1].end : block.start].strip() and block.indent == last[-1].indent
        if is_neighbour and {block.language, *languages} <= LABELS.keys() and block.language not in languages:
            last.append(block)
        else:
            together.append([block])
    return together


def on_page_content(html: str, page: Page, **_site: object) -> str:
    """Refuses a page with Markdown that was not rendered, and readies tables and code for narrow screens."""
    prose = re.sub(r"(?s)<(pre|code)\b.*?</\1>", "", html)
    for raw, what in ((r"```", "code block"), (r"<p>\|.*\|", "table"), (r"<p>(?:===|!!!) ", "tab or note")):
        if stray := re.search(rf"{raw}.*", prose):
            message = f"{page.file.src_uri}: a {what} was not rendered: {stray[0][:80]}"
            raise PluginError(message)
    html = re.sub(r"<code>(--?[a-z][a-z-]*)</code>", r'<code class="option">\1</code>', html)
    html = re.sub(r"(?s)<table>.*?</table>", lambda table: with_labels(table[0]), html)
    return re.sub(r"(?s)<code>(?=<span id=\"__line-).*?</code>", lambda code: with_sizes(code[0]), html)


def with_sizes(code: str) -> str:
    """The code with the indentation of each line, which its continuations keep, and with the width of the longest."""
    lines = [unescape(line) for line in re.sub(r"<[^>]*>", "", code).splitlines()]

    def with_indent(start: re.Match[str]) -> str:
        line = lines[int(start[1]) - 1]
        return f'{start[0]} style="--indent:{len(line) - len(line.lstrip(" "))}"'

    code = re.sub(r'<span id="__line-\d+-(\d+)"', with_indent, code)
    code = OPTION.sub(r'<span class="option">\g<0></span>', code)
    return code.replace("<code>", f'<code style="--columns:{max(map(len, lines))}">', 1)


def with_labels(table: str) -> str:
    """The table with the head of its column at each cell. Long names may be broken after an underscore or a slash."""
    table = re.sub(r"(?<=<code>)[^<]{30,}", lambda name: re.sub(r"(?<=[_/])(?=\w)", "<wbr>", name[0]), table)
    heads = [re.sub(r"<[^>]*>", "", head) for head in re.findall(r"(?s)<th(?: [^>]*)?>(.*?)</th>", table)]

    def with_label(row: re.Match[str]) -> str:
        labels = iter(heads)
        return re.sub(r"<td\b", lambda _: f'<td data-label="{next(labels)}"', row[0])

    return re.sub(r"(?s)<tr>.*?</tr>", with_label, table)
