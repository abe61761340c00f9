"""The chat page at `/`, in a browser."""

from __future__ import annotations

import contextlib
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
from browser import browsing
from chat_page import LIMIT, LONG, STREAMING, answers, ask, ended, endless, wait_until_free
from http_server import serving
from raw_http import Address, chat_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.slow
pytest_plugins = ["chat_fixtures"]


@contextlib.contextmanager
def asking(url: str, body: dict[str, object]) -> Iterator[None]:
    """A client that waits for a whole answer, and leaves at the end of the block."""
    peer = Address(url).open(chat_request(**body))
    with contextlib.closing(peer):
        yield


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
    page.locator(STREAMING).first.wait_for()
    page.get_by_role("button", name="Stop").click()
    ended(page, 2)
    numbers = page.locator(".assistant .meta").inner_text()
    assert "tokens/s" in numbers
    assert "first token" in numbers
    wait_until_free(url)


def test_escape_stops_and_frees_the_slot(page: Page, url: str) -> None:
    endless(page)
    ask(page, "Write a poem:")
    page.locator(STREAMING).first.wait_for()
    page.keyboard.press("Escape")
    wait_until_free(url)
    text = ended(page, 2)
    assert text
    assert "stopped" in page.locator(".assistant .meta").inner_text()


def test_closing_the_tab_frees_the_slot(browser: Browser, url: str) -> None:
    with browsing(browser, url) as page:
        endless(page)
        ask(page, "Write a poem:")
        page.locator(STREAMING).first.wait_for()
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


def test_a_server_that_goes_away_and_comes_back_is_asked_again(browser: Browser) -> None:
    with serving(*LONG) as server, browsing(browser, server.url) as page:
        endless(page)
        ask(page, "Write a poem:")
        page.locator(STREAMING).first.wait_for()
        server.process.kill()
        server.process.wait(LIMIT)
        problem = page.get_by_role("alert")
        problem.wait_for()
        assert page.locator(".assistant .prose").inner_text()
        page.locator("#load", has_text="no connection").wait_for()
        with serving("--port", server.url.rpartition(":")[2]):
            page.locator("#load:not(:has-text('no connection'))").wait_for()
            page.unroute("**/v1/chat/completions")
            page.get_by_role("button", name="Try again").click()
            ended(page, 2)
            assert problem.count() == 0


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


@pytest.mark.parametrize(("width", "is_phone"), [(390, False), (390, True), (1024, True), (1280, False)])
def test_keys_are_explained_only_where_there_is_a_keyboard(
    browser: Browser, url: str, width: int, *, is_phone: bool
) -> None:
    with browsing(browser, url, width, is_phone=is_phone) as page:
        hints = page.locator(".hints")
        assert hints.is_visible() == (width == 1280)
        assert "Shift+Enter starts a new line" in (hints.text_content() or "")


def test_every_control_has_a_name_for_screen_readers(page: Page) -> None:
    answers(page, "```js\nlet x = 1;\n```\n\n|a|\n|-|\n|1|\n")
    ask(page, "Show all")
    ended(page, 2)
    page.get_by_role("button", name="Settings").first.click()
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, textarea, select, a, .table")]
        .filter((one) => one.closest("#toast") === null)
        .filter((one) => !(one.getAttribute("aria-label") || one.innerText || one.labels?.length))
        .map((one) => one.outerHTML)""")
    assert nameless == []


def test_the_server_s_load_is_shown(page: Page, url: str) -> None:
    ask(page, "Write a poem:")
    ended(page, 2)
    page.locator("#load", has_text="0 of 8 slots").wait_for()
    with ExitStack() as clients:
        busy = {"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": True, "n": 10}
        for _ in range(2):
            clients.enter_context(asking(url, busy))
        page.locator("#load", has_text="8 of 8 slots").wait_for()
        page.locator("#load", has_text="12 queued").wait_for()
    page.locator("#load", has_text="0 of 8 slots").wait_for()
    status = httpx.get(f"{url}/status", timeout=LIMIT).json()
    assert status["models"][0]["slots"] == 8


def test_the_reference_lists_every_endpoint(browser: Browser, url: str) -> None:
    paths = httpx.get(f"{url}/openapi.json", timeout=LIMIT).json()["paths"]
    with browsing(browser, url) as page:
        page.goto(f"{url}/docs")
        page.locator("section").first.wait_for()
        shown = page.locator("section h2").all_inner_texts()
        assert len(shown) == sum(len(methods) for methods in paths.values())
