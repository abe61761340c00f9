"""The chat page at `/`, in a browser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from browser import browsing, chromium
from http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

LIMIT = 20.0

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


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the demo model."""
    with serving() as server:
        yield server.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser of all tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The chat page, empty."""
    with browsing(browser, url) as page:
        yield page


def running(url: str) -> int:
    """Streams that have a slot or wait for one, as the metrics tell."""
    lines = httpx.get(f"{url}/metrics", timeout=LIMIT).text.splitlines()
    names = ("mullama_streams_running{", "mullama_streams_queued{", "mullama_streams_paused{")
    return sum(int(line.split()[-1]) for line in lines if line.startswith(names))


def wait_until_free(url: str) -> None:
    """Waits until no stream is left on the server."""
    deadline = time.monotonic() + LIMIT
    while running(url) > 0:
        assert time.monotonic() < deadline


def ask(page: Page, text: str) -> None:
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")


def ended(page: Page, count: int = 1) -> str:
    """Waits for the end of an answer, the last of so many messages, and returns its text."""
    page.locator("#messages .message").nth(count - 1).wait_for()
    page.locator(".assistant:last-child:not(.streaming)").wait_for()
    page.locator("#send").wait_for()
    return page.locator(".assistant .prose").last.inner_text()


def answers(page: Page, text: str) -> None:
    """Makes the server's next answers this text, word by word, so that a test can choose what a model writes."""
    pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    chunks = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"

    def fulfil(route: Route) -> None:
        route.fulfill(body=body, content_type="text/event-stream")

    page.route("**/v1/chat/completions", fulfil)


def endless(page: Page) -> None:
    """Makes the next answers as long as the model's context."""

    def slow(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        route.continue_(post_data=json.dumps(body | {"ignore_eos": True, "max_tokens": -1}))

    page.route("**/v1/chat/completions", slow)


def test_the_page_answers_get_and_head_with_a_strict_policy(url: str) -> None:
    for method in ("GET", "HEAD"):
        answer = httpx.request(method, url, timeout=LIMIT)
        assert answer.status_code == 200
    page = httpx.get(url, timeout=LIMIT)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    again = httpx.get(url, headers={"if-none-match": page.headers["etag"]}, timeout=LIMIT)
    assert (again.status_code, again.content) == (304, b"")


def test_an_answer_streams_and_shows_its_numbers(page: Page, url: str) -> None:
    endless(page)
    ask(page, "Write a poem:")
    page.locator(".assistant.streaming .prose p").first.wait_for()
    page.get_by_role("button", name="Stop").click()
    ended(page, 2)
    numbers = page.locator(".assistant .meta").inner_text()
    assert "tokens/s" in numbers
    assert "first token" in numbers
    wait_until_free(url)


def test_escape_stops_and_frees_the_slot(page: Page, url: str) -> None:
    endless(page)
    ask(page, "Write a poem:")
    page.locator(".assistant.streaming .prose p").first.wait_for()
    page.keyboard.press("Escape")
    wait_until_free(url)
    text = ended(page, 2)
    assert text
    assert "stopped" in page.locator(".assistant .meta").inner_text()


def test_closing_the_tab_frees_the_slot(browser: Browser, url: str) -> None:
    with browsing(browser, url) as page:
        endless(page)
        ask(page, "Write a poem:")
        page.locator(".assistant.streaming .prose p").first.wait_for()
    wait_until_free(url)


def test_an_edited_message_gets_a_new_answer_and_drops_what_came_after(page: Page) -> None:
    for count, text in ((2, "First"), (4, "Second")):
        answers(page, f"Answer to {text}")
        ask(page, text)
        assert ended(page, count) == f"Answer to {text}"
    answers(page, "Answer to the edit")
    page.locator(".user").first.hover()
    page.get_by_role("button", name="Edit message").first.click()
    page.get_by_role("textbox", name="Edit message").fill("Changed")
    page.keyboard.press("Enter")
    page.locator(".prose", has_text="Answer to the edit").wait_for()
    ended(page, 2)
    assert page.locator(".user .body").all_inner_texts() == ["Changed"]
    assert page.locator(".assistant").count() == 1


def test_a_regenerated_answer_replaces_the_old_one(page: Page) -> None:
    answers(page, "Old")
    ask(page, "Question")
    assert ended(page, 2) == "Old"
    answers(page, "New")
    page.get_by_role("button", name="Regenerate answer").click()
    page.locator(".prose", has_text="New").wait_for()
    assert ended(page, 2) == "New"
    assert page.locator(".message").count() == 2


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
    for piece in ("[", "*a ", "`", "**a", "[a](", "_", "<h", "| ", "> ", "- ", "# ", "~~~ "):
        page.get_by_role("button", name="New conversation").click()
        answers(page, piece * (100_000 // len(piece)))
        ask(page, "Go on")
        ended(page, 2)


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


def test_conversations_are_kept_renamed_and_deleted(page: Page) -> None:
    answers(page, "An answer")
    ask(page, "Remember me")
    ended(page, 2)
    page.reload()
    row = page.locator("#conversations li")
    row.get_by_role("button", name="Remember me", exact=True).click()
    assert page.locator(".assistant .prose").inner_text() == "An answer"
    row.hover()
    row.get_by_role("button", name="Rename Remember me").click()
    page.get_by_role("textbox", name="Title of the conversation").fill("Kept")
    page.keyboard.press("Enter")
    row.hover()
    row.get_by_role("button", name="Delete Kept").click()
    assert row.count() == 0
    page.get_by_role("button", name="Undo").click()
    assert row.count() == 1
    row.hover()
    row.get_by_role("button", name="Delete Kept").click()
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")
    assert row.count() == 0


def test_settings_are_sent_and_the_key_only_as_a_header(page: Page) -> None:
    page.get_by_role("button", name="Settings").first.click()
    for label, value in (("Temperature", "0.5"), ("Top p", "0.8"), ("Top k", "7"), ("Seed", "3"), ("Most tokens", "5")):
        page.get_by_label(label).fill(value)
    page.get_by_label("System message").fill("Be brief.")
    page.get_by_label("API key").fill("secret-key")
    page.keyboard.press("Escape")
    with page.expect_request("**/v1/chat/completions") as found:
        ask(page, "Hello")
    request = found.value
    body = json.loads(request.post_data or "")
    wanted = {"temperature": 0.5, "top_p": 0.8, "top_k": 7, "seed": 3, "max_tokens": 5, "model": "demo", "stream": True}
    assert wanted.items() <= body.items()
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert request.headers["authorization"] == "Bearer secret-key"
    assert "secret-key" not in request.url
    ended(page, 2)
    assert "stopped at the token limit" in page.locator(".assistant .meta").inner_text()
    assert "secret-key" not in page.evaluate("JSON.stringify(localStorage)")


def test_an_error_is_shown_and_can_be_tried_again(page: Page) -> None:
    error = {"error": {"message": "the queue is full", "type": "rate_limit_error", "param": None, "code": "OVERLOADED"}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, json=error))
    ask(page, "Hello")
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert "The queue is full" in problem.inner_text()
    answers(page, "Now it works")
    page.get_by_role("button", name="Try again").click()
    page.locator(".prose", has_text="Now it works").wait_for()
    assert problem.count() == 0


def test_a_server_that_wants_a_key_is_given_one(page: Page) -> None:
    error = {"error": {"message": "a key is missing", "type": "authentication_error", "param": None, "code": "NO_KEY"}}

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, json=error)

    page.route("**/v1/*", guard)
    page.reload()
    page.get_by_label("API key").fill("secret")
    page.keyboard.press("Escape")
    page.locator("#model option").first.wait_for(state="attached")
    page.reload()
    page.locator("#model option").first.wait_for(state="attached")


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    answers(page, "By keyboard")
    page.keyboard.type("Two")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("lines")
    page.keyboard.press("Enter")
    assert ended(page, 2) == "By keyboard"
    assert page.locator(".user .body").inner_text() == "Two\nlines"
    names = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count():
            names.add(focused.get_attribute("aria-label") or focused.inner_text())
    assert {"Copy message", "Regenerate answer", "Edit message", "Settings", "New conversation"} <= names


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser: Browser, url: str, width: int) -> None:
    with browsing(browser, url, width, is_phone=width < 500) as page:
        wide = "word" * 100 + "\n\n```\n" + "x" * 400 + "\n```\n\n|" + "column|" * 30 + "\n|" + "-|" * 30
        answers(page, wide)
        ask(page, "w" * 400)
        ended(page, 2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelector('#scroller').scrollWidth") <= width


def test_the_server_s_load_is_shown(page: Page, url: str) -> None:
    ask(page, "Write a poem:")
    ended(page, 2)
    page.locator("#load", has_text="of 8 slots").wait_for()
    status = httpx.get(f"{url}/status", timeout=LIMIT).json()
    assert status["models"][0]["slots"] == 8


def test_the_reference_lists_every_endpoint(browser: Browser, url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json", timeout=LIMIT).json()["paths"]
    with browsing(browser, url) as page:
        page.goto(f"{url}/docs")
        page.locator("section").first.wait_for()
        shown = page.locator("section h2").all_inner_texts()
        assert len(shown) == sum(len(methods) for methods in paths.values())
