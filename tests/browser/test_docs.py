"""The API's reader in a real browser: it follows the theme, also while it is open."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

# how light a colour is, 0 to 255, and that of the first thing behind an element that has one
LIGHTNESS = """element => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
  const behind = node => /, 0\\)$|transparent/.test(getComputedStyle(node).backgroundColor) ? behind(node.parentElement) : node;
  return [light(getComputedStyle(element).color), light(getComputedStyle(behind(element)).backgroundColor)];
}"""


def lightness(page: Page) -> tuple[float, float]:
    """Of the reader's title, and of what is behind it."""
    title = page.locator("#swagger h1").first
    expect(title).to_be_visible(timeout=20000)
    text, ground = title.evaluate(LIGHTNESS)
    return text, ground


def test_the_reader_follows_the_theme(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, scheme="dark")
    page.goto("/docs")
    text, ground = lightness(page)
    assert (ground < 60, text > 180) == (True, True)
    page.emulate_media(color_scheme="light")
    expect(page.locator("html.dark-mode")).to_have_count(0)
    text, ground = lightness(page)
    assert (text < 100, ground > 240) == (True, True)
