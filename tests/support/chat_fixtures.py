"""The fixtures of the tests of the chat page, which name this module as their plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import browsing, chromium
from chat_page import LONG
from http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the demo model, whose context is so long that an answer without an end lasts for seconds."""
    with serving(*LONG) as server:
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
