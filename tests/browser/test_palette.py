"""The command palette and the navigation in a browser: by keys, by pointer, on a phone, and without JavaScript."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.browser.test_accessibility import broken, reader
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def opened(page: Page, text: str = "") -> None:
    """The palette, with the answer to ``text`` in it."""
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_visible()
    expect(page.locator("#palette-text")).to_be_focused()
    expect(page.locator("#palette-list [role=option]").first).to_be_visible()
    if text:
        page.keyboard.type(text)


def marked(page: Page) -> str:
    """The words of the option that Enter takes, as the field names it."""
    return str(
        page.evaluate("""() => document.getElementById(
            document.getElementById("palette-text").getAttribute("aria-activedescendant"))
            ?.querySelector(".palette-label").textContent ?? \"\"""")
    )


def test_by_keys(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel)
    opened(page)
    assert marked(page) == "Create VM"
    for key, label in (
        ("ArrowDown", "Add host"),
        ("ArrowUp", "Create VM"),
        ("ArrowUp", "Addresses"),
        ("ArrowDown", "Create VM"),
    ):
        page.keyboard.press(key)
        assert marked(page) == label
    expect(page.locator("#palette-list [aria-selected=true]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).to_be_hidden()
    opened(page, "vm-0007")
    expect(page.locator("#palette-said")).to_have_text(re.compile(r"^\d+ results?$"))
    expect(page.locator("#palette-vms + *")).to_contain_text("vm-0007")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/host1/vms/vm-0007")
    opened(page, "no such thing")
    expect(page.get_by_text("Nothing matches")).to_be_hidden()
    expect(page.locator("#palette-said")).to_have_text("0 results")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+k")
    expect(page.locator("#palette")).to_be_hidden()


def test_enter_takes_what_was_typed_and_not_what_was_shown(fake_panel: PanelProcess, login: Login) -> None:
    """Whoever types fast and presses Enter before the answer is there gets the answer."""
    page = login(fake_panel)
    opened(page)
    page.keyboard.insert_text("addresses")
    page.keyboard.press("Enter")
    page.wait_for_url("**/network/addresses")


def test_power_asks_as_everywhere(fake_panel: PanelProcess, login: Login) -> None:
    """``Force off`` names the VM and asks; ``Start`` does it; both tell how it went, and the page stays."""
    page = login(fake_panel)
    page.goto("/vms?q=vm-0010")
    row = page.locator("#vm-rows > tr")
    expect(row).to_contain_text("Running")
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    page.evaluate("window.notReloaded = true")
    opened(page, "force off vm-0010")
    expect(page.locator("#palette-list [role=option]").first).to_contain_text("Force off Machine vm-0010")
    page.keyboard.press("Enter")
    dialog = page.locator("#confirm-dialog")
    expect(dialog).to_contain_text("Machine vm-0010 is cut off at once")
    expect(page.locator("#palette")).to_be_hidden()
    dialog.get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text("Running")
    opened(page, "force off vm-0010")
    expect(page.locator("#palette-list [role=option]").first).to_contain_text("Force off Machine vm-0010")
    page.locator("#palette-list [role=option]").first.click()
    dialog.get_by_role("button", name="Force off").click()
    expect(page.locator("#toasts")).to_contain_text("Forcing Machine vm-0010 off.")
    expect(row.locator(".state-stopped")).to_be_visible(timeout=30_000)
    opened(page, "start vm-0010")
    expect(page.locator("#palette-list [role=option]").first).to_contain_text("Start Machine vm-0010")
    page.keyboard.press("Enter")
    expect(row.locator(".state-running")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.notReloaded") is True


def test_theme_and_language(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel)
    page.goto("/hosts")
    opened(page, "dark theme")
    expect(page.locator("#palette-list [role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    opened(page, "language")
    expect(page.locator("#palette-list [role=option]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    assert page.url.endswith("/hosts")


@pytest.mark.parametrize("way", ["wide-light-en", "narrow-dark-zh", "wide-dark-en", "narrow-light-zh"])
def test_no_rule_is_broken(chromium: Browser, fake_panel: PanelProcess, way: str) -> None:
    """The open palette: empty, with every kind of option, with nothing found; on a phone it has room."""
    context = reader(chromium, fake_panel, way)
    page = context.new_page()
    page.goto("/login")
    page.fill("input[name=token]", fake_panel.token)
    page.keyboard.press("Enter")
    page.wait_for_url(fake_panel.url + "/")
    page.locator("[data-palette]").click()
    expect(page.locator("#palette-list [role=option]").first).to_be_visible()
    problems = broken(page, "empty")
    for text in ("vm-0001", "start vm-0001", "host1", "nothing is called this"):
        page.fill("#palette-text", text)
        with page.expect_response(lambda response: "/palette?" in response.url):
            page.locator("#palette-text").dispatch_event("input")
        page.wait_for_function(
            "() => !document.querySelector('#palette .htmx-request, #palette .htmx-swapping, #palette .htmx-added')"
        )
        problems += broken(page, text)
    assert page.evaluate("document.documentElement.scrollWidth") <= (WIDE if "wide" in way else NARROW)["width"]
    page.locator("[data-palette-close]").click()
    expect(page.locator("#palette")).to_be_hidden()
    context.close()
    assert problems == []


def test_without_javascript(fake_panel: PanelProcess, login: Login) -> None:
    """No button that does nothing; the search is there, and the navigation is narrowed by a form."""
    page = login(fake_panel, javascript=False)
    expect(page.locator("[data-palette]")).to_be_hidden()
    page.fill("#search", "vm-0003")
    page.keyboard.press("Enter")
    page.wait_for_url("**/vms?q=vm-0003")
    page.get_by_role("button", name="Collapse navigation").click()
    page.wait_for_url("**/vms?q=vm-0003")
    assert page.locator(".side").bounding_box()["width"] < 80  # type: ignore[index]


def test_the_navigation_is_left_as_it_was(fake_panel: PanelProcess, login: Login) -> None:
    """Icons only, at once and on the next page; each still has its name."""
    page = login(fake_panel)
    side = page.locator(".side")
    assert side.bounding_box()["width"] > 200  # type: ignore[index]
    page.evaluate("window.notReloaded = true")
    with page.expect_response("**/preferences/side"):
        page.get_by_role("button", name="Collapse navigation").click()
    assert side.bounding_box()["width"] < 80  # type: ignore[index]
    assert page.evaluate("[window.notReloaded, scrollY]") == [True, 0]
    expect(page.get_by_role("button", name="Expand navigation")).to_be_focused()
    page.get_by_role("link", name="Hosts", exact=True).click()
    page.wait_for_url("**/hosts")
    assert side.bounding_box()["width"] < 80  # type: ignore[index]
    expect(page.get_by_role("link", name="Tasks", exact=True).first).to_have_attribute("title", "Tasks")
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.get_by_role("button", name="Open navigation").click()
    expect(side.get_by_text("Dashboard")).to_be_visible()
    assert side.bounding_box()["width"] > 200  # type: ignore[index]
    page.keyboard.press("Escape")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    with page.expect_response("**/preferences/side"):
        page.get_by_role("button", name="Expand navigation").click()
    assert side.bounding_box()["width"] > 200  # type: ignore[index]
