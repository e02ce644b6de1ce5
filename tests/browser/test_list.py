"""The VM list in a browser: by keys, and with rows selected while they change."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NARROW, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


def box(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=f"Select Machine {name}", exact=True)


def row(page: Page, name: str) -> Locator:
    return page.locator("#vm-rows > tr", has_text=name)


def test_keys(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel)
    page.goto("/vms")
    links, count = page.locator("#vm-rows .row-name"), page.locator(".bulk-count")
    expect(page.locator(".bulk-actions")).to_be_hidden()
    page.keyboard.press("j")
    expect(links.nth(0)).to_be_focused()
    for key, at in (("k", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(links.nth(at)).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("#vm-rows input:checked")).to_have_count(1)
    expect(links.nth(1)).to_be_focused()
    expect(count).to_have_text("Selected: 1")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(count).to_have_text("Selected: 2")
    page.keyboard.press("x")
    expect(count).to_have_text("Selected: 1")
    expect(page.get_by_role("button", name="Force off", exact=True).last).to_be_visible()
    page.fill("#filter-q", "")
    page.locator("#filter-q").press_sequentially("jkx")
    expect(page.locator("#filter-q")).to_have_value("jkx")
    expect(count).to_have_text("Selected: 1")
    page.locator("#vm-rows input[name=vm]").nth(3).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/host1/vms/vm-0004")
    page.go_back()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/hosts/host1/vms/vm-0001")


def test_all_of_the_page(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel)
    page.goto("/vms")
    every = page.get_by_role("checkbox", name="Select all on this page")
    every.first.check()
    expect(page.locator(".bulk-count")).to_have_text("Selected: 25")
    page.locator("#vm-rows input[name=vm]").first.uncheck()
    assert every.first.evaluate("box => box.indeterminate")
    every.first.check()
    every.first.uncheck()
    expect(page.locator("#vm-rows input:checked")).to_have_count(0)
    expect(page.locator(".bulk-count")).to_be_empty()


def test_a_selection_survives_and_rows_change_by_themselves(fake_panel: PanelProcess, login: Login) -> None:
    """One page keeps its ticks while the other stops the VMs."""
    page, other = login(fake_panel), login(fake_panel)
    for each in (page, other):
        each.goto("/vms?q=vm-000")
        expect(each.locator("#live-state")).to_have_attribute("data-state", "live")
        each.evaluate("window.notReloaded = true")
    names = ("vm-0001", "vm-0002")
    for name in names:
        expect(row(other, name)).to_contain_text("Running")
        box(other, name).check()
    other.locator("#vm-rows .row-name").first.focus()
    box(page, "vm-0001").check()
    box(page, "vm-0002").check()
    box(page, "vm-0004").check()
    page.locator(".bulk-actions").get_by_role("button", name="Force off").click()
    expect(page.locator("main")).to_contain_text("Possible for 2 of 3 selected VMs.")
    page.get_by_role("button", name="Force off 2 VMs").click()
    expect(page.locator("main")).to_contain_text("Begun for 2 of 3 VMs.")
    expect(page.locator("#task-rows > tr .state-success")).to_have_count(2, timeout=15_000)
    for name in names:
        expect(row(other, name).locator(".state-stopped")).to_be_visible(timeout=15_000)
        expect(box(other, name)).to_be_checked()
    expect(other.locator(".bulk-count")).to_have_text("Selected: 2")
    expect(other.locator("#vm-rows .row-name").first).to_be_focused()
    assert other.evaluate("window.notReloaded") is True
    page.get_by_role("link", name="Back to the list").click()
    page.wait_for_url("**/vms?q=vm-000")


def test_without_javascript(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, javascript=False)
    page.goto("/vms?q=vm-001")
    expect(page.locator(".bulk-actions")).to_be_hidden()
    expect(page.locator("[data-pick-all]:visible")).to_have_count(0)
    box(page, "vm-0012").check()
    page.locator(".bulk-actions").get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Start 1 VM").click()
    expect(page.locator("main")).to_contain_text("Begun for 1 of 1 VMs.")
    fake_panel.until("/api/client/status/host1/vm-0012", lambda status: status["state"] == "running")


def test_a_phone_has_room(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, viewport=NARROW)
    page.goto("/vms")
    box(page, "vm-0003").check()
    page.locator(".bulk").get_by_label("Select all on this page").check()
    expect(page.locator(".bulk-count")).to_have_text("Selected: 25")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.locator(".bulk-actions").get_by_role("button", name="Reset").click()
    expect(page.locator("main")).to_contain_text("They restart at once")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
