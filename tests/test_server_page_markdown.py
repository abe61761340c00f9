"""What the chat page makes of the Markdown that a model writes, in a browser."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from chat_page import answers, ask, ended

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
pytest_plugins = ["chat_fixtures"]

HOSTILE = """
<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>
<svg onload="document.title='owned'"></svg>

[a link](javascript:document.title='owned') [data](data:text/html,<script>1</script>) [vb](vbscript:x)
<javascript:document.title='owned'> ![picture](http://192.0.2.1/pixel.png) <iframe src="http://192.0.2.1/"></iframe>

```"><img src=http://192.0.2.1/code onerror=document.title='owned'>
</code></pre><script>document.title='owned'</script>
```

| <b>head</b> |
|--|
| <img src=http://192.0.2.1/cell> |

[good](https://example.com/?a=1&b=<2>) **bold <i>text</i>**
"""


def test_nothing_in_a_text_becomes_markup(page: Page) -> None:
    answers(page, HOSTILE)
    ask(page, HOSTILE)
    ended(page, 2)
    assert page.title() != "owned"
    shown = page.locator("#messages")
    for tag in ("img", "script", "iframe", "svg[onload]", "[onerror]", "b", "i:not(.waiting i)"):
        assert shown.locator(tag).count() == 0, tag
    links = shown.locator("a")
    addresses = [link.get_attribute("href") or "" for link in links.all()]
    assert "https://example.com/?a=1&b=%3C2%3E" in addresses
    assert all(address.startswith(("http://", "https://")) for address in addresses)
    assert all("noopener" in (link.get_attribute("rel") or "") for link in links.all())
    assert "<script>document.title='owned'</script>" in shown.locator(".prose").inner_text()
    assert shown.locator(".user .body").inner_text().strip() == HOSTILE.strip()


def test_a_hostile_text_costs_no_more_than_linear_time(page: Page) -> None:
    pieces = (
        "[",
        "*a ",
        "`",
        "**a",
        "[a](",
        "_",
        "<h",
        "| ",
        "> ",
        "- ",
        "# ",
        "~~~ ",
        "|-",
        "a\n|-|\n",
        "|\n",
        "  - a\n",
    )
    wide, many = 20_000, 10_000
    tables = [f"|{'a|' * wide}\n|{'-|' * wide}\n" + "|b\n" * many, "|a|b|\n|-|-|\n" + "|1|2|\n" * many]
    for text in [piece * (100_000 // len(piece)) for piece in pieces] + tables:
        page.get_by_role("button", name="New conversation").click()
        answers(page, text)
        ask(page, "Go on")
        ended(page, 2)


def test_markdown_that_is_not_closed_is_shown_to_its_end(page: Page) -> None:
    blocks = ["  - first", "Text", "- a\n  - b\n    - c", "> quoted", "**bold", "[link](https://example.com"]
    answers(page, "\n\n".join([*blocks, "```js\nlet x = 1;"]))
    ask(page, "Show all")
    ended(page, 2)
    prose = page.locator(".prose")
    assert prose.locator("li").first.inner_text() == "first"
    assert prose.locator("li li li").inner_text() == "c"
    assert prose.locator("blockquote").inner_text() == "quoted"
    assert prose.locator("pre code").inner_text() == "let x = 1;"
    assert "**bold" in prose.inner_text()
    assert "[link](https://example.com" in prose.inner_text()


def test_markdown_is_rendered(page: Page) -> None:
    answers(
        page,
        "# Title\n\n1. one\n2. two\n   - deep\n\n`a` **b** *c*\n\n```python\nx = 1  # one\n```\n\n"
        "|a|b|\n|-|-:|\n|1|2|\n",
    )
    ask(page, "Show all")
    ended(page, 2)
    prose = page.locator(".prose")
    assert prose.locator("h2").inner_text() == "Title"
    assert prose.locator("ol > li").count() == 2
    assert prose.locator("ol > li ul li").inner_text() == "deep"
    assert prose.locator("p > code").inner_text() == "a"
    assert prose.locator("pre code").inner_text() == "x = 1  # one"
    assert prose.locator("td").all_inner_texts() == ["1", "2"]


def test_any_mix_of_marks_is_shown_with_all_its_words(page: Page) -> None:
    marks = ["- ", "1. ", "> ", "# ", "  ", "    ", "\n", "\n", "\n\n", "***\n"]
    marks += ["**", "*", "_", "~~", "`", "[", "](", ")", "!", "<b>", "\\"]
    chance = random.Random(1)  # noqa: S311  # the same texts each time
    texts = []
    for number in range(4000):
        words = [f"word{number}x{index} " for index in range(chance.randrange(6))]
        pieces = words + chance.choices(marks, k=chance.randrange(14))
        chance.shuffle(pieces)
        text = "".join(pieces)
        # What follows a fence in its line describes the code, and is not shown.
        if "~~~" not in text and "```" not in text:
            texts.append((text, [word.strip() for word in words]))
    lost = page.evaluate(
        """async (texts) => {
            const { renderMarkdown } = await import("/assets/markdown.js");
            return texts.filter(([text, words]) => {
                const box = document.createElement("div");
                renderMarkdown(box, text);
                return !words.every((word) => box.textContent.includes(word));
            }).slice(0, 3);
        }""",
        texts,
    )
    assert lost == []
