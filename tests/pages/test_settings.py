"""The settings page: what this is, by names that people know."""

from __future__ import annotations

from tests.pages.conftest import Browser


async def test_about_one_process_over_sqlite(browser: Browser) -> None:
    await browser.get("/settings")
    assert "<dt>Database</dt><dd>SQLite</dd>" in browser.html
    assert 'id="processes"' not in browser.html, "there is one, which has nothing to share"


async def test_where_the_token_is(browser: Browser) -> None:
    """Not on a page: the pages that speak of it name the command that prints it."""
    await browser.get("/settings")
    assert "`openidcs token show` on the server prints it." in browser.text
    assert browser.token not in browser.html
