"""The chat page in a browser: what a user does there, and answers that a test chooses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from patience import eventually
from raw_http import Address

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

LIMIT = 20.0
LONG = ("--ctx-size", "16384")
"""Options of a server whose answers without an end last for seconds."""
STREAMING = ".assistant.streaming .prose p"
"""A paragraph of an answer that is on its way."""


def wait_until_free(url: str) -> None:
    """Waits until no stream is left on the server."""
    assert eventually(lambda: Address(url).streams() == 0, LIMIT)


def ask(page: Page, text: str) -> None:
    """Sends a message."""
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

    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", fulfil)


def endless(page: Page) -> None:
    """Makes the next answers as long as the model's context."""

    def slow(route: Route) -> None:
        body = json.loads(route.request.post_data or "{}")
        route.continue_(post_data=json.dumps(body | {"ignore_eos": True, "max_tokens": -1}))

    page.unroute("**/v1/chat/completions")
    page.route("**/v1/chat/completions", slow)


def titles(page: Page) -> list[str]:
    """The conversations in the list."""
    return page.locator("#conversations .title").all_inner_texts()


def another_tab(page: Page, url: str) -> Page:
    """A second tab of the same browser."""
    tab = page.context.new_page()
    tab.goto(url)
    tab.locator("#model option").first.wait_for(state="attached")
    return tab
