"""The conversations that the chat page keeps in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browser import browsing
from chat_page import STREAMING, another_tab, answers, ask, ended, endless, titles

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
pytest_plugins = ["chat_fixtures"]


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


def test_tabs_keep_each_other_s_conversations(page: Page, url: str) -> None:
    endless(page)
    ask(page, "In the first tab")
    page.locator(STREAMING).first.wait_for()
    other = another_tab(page, url)
    answers(other, "An answer")
    ask(other, "In the second tab")
    ended(other, 2)
    page.bring_to_front()
    page.get_by_role("button", name="Stop").click()
    ended(page, 2)
    both = ["In the first tab", "In the second tab"]
    assert titles(page) == both
    other.locator("#conversations li").nth(1).wait_for()
    assert titles(other) == both
    page.reload()
    page.locator("#conversations li").nth(1).wait_for()
    assert titles(page) == both


def test_an_edit_goes_on_while_another_tab_writes(page: Page, url: str) -> None:
    answers(page, "An answer")
    ask(page, "Question")
    ended(page, 2)
    other = another_tab(page, url)
    other.get_by_role("button", name="Question", exact=True).click()
    page.bring_to_front()
    page.locator(".user").hover()
    page.get_by_role("button", name="Edit message").click()
    field = page.get_by_role("textbox", name="Edit message")
    field.fill("Half an edit")
    answers(other, "Another answer")
    ask(other, "More")
    ended(other, 4)
    assert field.input_value() == "Half an edit"


def test_a_conversation_that_is_left_or_deleted_while_it_is_answered_stays_as_it_was_left(page: Page) -> None:
    endless(page)
    ask(page, "Left")
    page.locator(STREAMING).first.wait_for()
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Deleted")
    page.locator(STREAMING).first.wait_for()
    row = page.locator("#conversations li").first
    row.hover()
    row.get_by_role("button", name="Delete Deleted").click()
    page.get_by_role("button", name="Left", exact=True).click()
    assert page.locator(".assistant .prose").inner_text()
    assert "stopped" in page.locator(".assistant .meta").inner_text()
    assert titles(page) == ["Left"]


def test_a_browser_without_room_says_so_and_the_page_goes_on(page: Page) -> None:
    page.evaluate("""() => {
        for (const text of ["x".repeat(100_000), "x".repeat(100), ""])
            try { for (;;) localStorage.setItem(`other ${localStorage.length}`, text); } catch { /* full */ }
    }""")
    answers(page, "An answer")
    for count, text in enumerate(("One", "Two"), 1):
        page.get_by_role("button", name="New conversation").click()
        ask(page, text)
        ended(page, 2)
        page.locator("#toast", has_text="no room").wait_for()
        assert len(titles(page)) == count
    page.get_by_role("button", name="One", exact=True).click()
    assert page.locator(".user .body").inner_text() == "One"
    page.evaluate("localStorage.clear()")
    ask(page, "There is room again")
    ended(page, 4)
    page.reload()
    page.locator("#conversations li").first.wait_for()
    assert titles(page) == ["One", "Two"]


def test_conversations_are_in_a_drawer_on_a_phone(browser: Browser, url: str) -> None:
    with browsing(browser, url, 390, is_phone=True) as page:
        answers(page, "An answer")
        ask(page, "On a phone")
        ended(page, 2)
        page.get_by_role("button", name="Show conversations").tap()
        page.get_by_role("button", name="New conversation").tap()
        page.locator("#welcome").wait_for()
        page.get_by_role("button", name="Show conversations").tap()
        page.get_by_role("button", name="On a phone", exact=True).tap()
        assert page.locator(".assistant .prose").inner_text() == "An answer"
        page.get_by_role("button", name="Show conversations").tap()
        page.keyboard.press("Escape")
        page.locator("body:not(.drawer-open)").wait_for()
