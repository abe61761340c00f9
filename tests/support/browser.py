"""Chromium, driven by Playwright: the system's, or the one that `make test` had Playwright install."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT: Final = 30_000.0
"""Milliseconds after which a page that does not do what a test waits for has failed."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser, which takes seconds to start: a module's tests share it."""
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def browsing(browser: Browser, url: str, width: int = 1280, *, is_phone: bool = False) -> Iterator[Page]:
    """A page of the server at `url`. What the page does wrong fails the test at the end of the block.

    That is an error of a script, a message of the browser about the Content-Security-Policy, or a request to elsewhere.
    """
    wrong: list[str] = []

    def asked(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob"} and f"{address.scheme}://{address.netloc}" != url:
            wrong.append(f"asked {request.url}")

    context = browser.new_context(viewport={"width": width, "height": 800}, is_mobile=is_phone, has_touch=is_phone)
    with context:
        context.set_default_timeout(LIMIT)
        page = context.new_page()
        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(f"raised {error}"))
        page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
        page.goto(url)
        page.locator("#model option").first.wait_for(state="attached")
        yield page
    assert wrong == []
