"""The VM list in a browser: by keys, and with rows selected while they change."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
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
    expect(page.locator("#live-state")).to_be_hidden()  # else it would connect for ever
    page.goto("/vms?q=vm-001")
    expect(page.locator(".bulk-actions")).to_be_hidden()
    expect(page.locator("[data-pick-all]:visible")).to_have_count(0)
    box(page, "vm-0012").check()
    page.locator(".bulk-actions").get_by_role("button", name="Start").click()
    page.get_by_role("button", name="Start 1 VM").click()
    expect(page.locator("main")).to_contain_text("Begun for 1 of 1 VMs.")
    fake_panel.until("/api/client/status/host1/vm-0012", lambda status: status["state"] == "running")


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "plain"])
def test_a_tag_for_several(fake_panel: PanelProcess, login: Login, javascript: bool) -> None:
    page = login(fake_panel, javascript=javascript)
    page.goto("/vms?q=vm-002")
    for name in ("vm-0020", "vm-0021"):
        box(page, name).check()
    page.get_by_role("button", name="Add a tag").click()
    page.get_by_label("Tag").fill("Rack-7")
    page.get_by_role("button", name="Add to 2 VMs").click()
    expect(page.locator("main")).to_contain_text("“rack-7”: changed on 2 of 2 VMs.")
    page.get_by_role("link", name="Back to the list").click()
    page.wait_for_url("**/vms?q=vm-002")
    for name in ("vm-0020", "vm-0021"):
        expect(row(page, name).locator(".tag")).to_have_text("rack-7")
        box(page, name).check()
    page.get_by_role("button", name="Remove a tag").click()
    page.get_by_label("Tag").select_option("rack-7")
    page.get_by_role("button", name="Remove from 2 VMs").click()
    expect(page.locator("main")).to_contain_text("“rack-7”: changed on 2 of 2 VMs.")
    page.goto("/vms?q=vm-002")
    expect(page.locator("#vm-rows .tag")).to_have_count(0)


def test_a_phone_has_room(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, viewport=NARROW)
    page.goto("/vms")
    box(page, "vm-0003").check()
    page.locator(".bulk").get_by_label("Select all on this page").check()
    expect(page.locator(".bulk-count")).to_have_text("Selected: 25")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    last, drawer = page.get_by_role("button", name="Remove a tag"), page.locator("#drawer").bounding_box()
    box_of_last = last.bounding_box()
    assert box_of_last is not None
    assert drawer is not None
    assert box_of_last["y"] + box_of_last["height"] <= drawer["y"], "the drawer lies over no button"
    page.locator(".bulk-actions").get_by_role("button", name="Reset").click()
    expect(page.locator("main")).to_contain_text("They restart at once")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_columns_are_chosen(fake_panel: PanelProcess, login: Login, viewport: dict[str, int]) -> None:
    """From a menu; the choice is there on the next visit, and rows that change keep it."""
    page = login(fake_panel, viewport=viewport)
    page.goto("/vms?q=vm-002")
    first = page.locator("#vm-rows > tr").first
    expect(first.locator(".cell-addresses")).to_be_visible()
    page.get_by_role("button", name="Columns and rows").click()
    menu = page.locator("#vms-look")
    menu.get_by_label("Addresses").uncheck()
    menu.get_by_label("Engine").check()
    menu.get_by_label("Rows per page").select_option("50")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    menu.get_by_role("button", name="Save").click()
    expect(page.locator("#vm-rows .cell-engine").first).to_be_visible()
    expect(page.locator(".cell-addresses")).to_have_count(0)
    assert page.url.endswith("/vms?q=vm-002")
    page.goto("/vms")
    expect(page.locator("#vm-rows > tr .cell-engine")).to_have_count(page.locator("#vm-rows > tr").count())
    assert page.locator("#vm-rows > tr").count() >= 30
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.goto("/vms?columns=state.host.engine.addresses.image.cpu.history.memory.disk.tags.created")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], "the table scrolls, not the page"
    page.get_by_role("button", name="Columns and rows").click()
    menu.get_by_role("button", name="Reset to defaults").click()
    expect(page.locator("#vm-rows .cell-addresses").first).to_be_visible()
    expect(page.locator("#vm-rows > tr")).to_have_count(25)


@pytest.mark.parametrize(
    ("viewport", "javascript"), [(WIDE, True), (NARROW, True), (WIDE, False)], ids=["wide", "narrow", "plain"]
)
def test_tags_and_a_saved_filter(
    fake_panel: PanelProcess, login: Login, viewport: dict[str, int], javascript: bool
) -> None:
    """A tag is written on a VM's page, leads to the list, and the filter is kept by name."""
    page = login(fake_panel, viewport=viewport, javascript=javascript)
    page.goto("/hosts/host1/vms/vm-0006")
    card = page.locator("#labels")
    card.locator("summary").click()
    card.get_by_label("Tags").fill("Prod, rack-7")
    card.get_by_label("Notes").fill("Ask Li first.")
    card.get_by_role("button", name="Save").click()
    expect(card.locator(".notes")).to_have_text("Ask Li first.")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    card.get_by_role("link", name="prod").click()
    page.wait_for_url("**/vms?tag=prod")
    expect(page.locator("#vm-rows > tr")).to_have_count(1)
    page.get_by_label("Name of the filter").fill("Production")
    page.get_by_role("button", name="Save filter").click()
    expect(page.get_by_role("link", name="Production")).to_have_attribute("aria-current", "true")
    page.goto("/vms")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.get_by_role("link", name="Production").click()
    expect(page.locator("#vm-rows > tr")).to_have_count(1)
    expect(page.locator("#filter-tag")).to_have_value("prod")
    page.get_by_role("button", name="Delete the filter Production").click()
    expect(page.get_by_role("link", name="Production")).to_have_count(0)
    page.goto("/hosts/host1/vms/vm-0006")
    card.locator("summary").click()
    card.get_by_label("Tags").fill("")
    card.get_by_label("Notes").fill("")
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Nothing is written about this VM yet.")


def test_a_card_on_a_phone(fake_panel: PanelProcess, login: Login) -> None:
    """An IPv6 address lies under no button; the line of the last hour is neither shown nor offered."""
    page = login(fake_panel, viewport=NARROW)
    page.goto("/vms?q=vm-0001")
    cells = page.locator("#vm-rows > tr").first
    cells.locator(".cell-addresses").evaluate(
        "cell => cell.innerHTML = '<span class=\"mono address\">2001:db8:85a3:1234:5678:8a2e:370:7334</span>'"
    )
    address, buttons = cells.locator(".address").bounding_box(), cells.locator(".row-actions").bounding_box()
    assert address
    assert buttons
    wide = cells.locator(".address").evaluate("address => address.scrollWidth")
    assert address["x"] + wide <= buttons["x"] + buttons["width"] - 3 * 40, "three buttons of 40 px"
    expect(page.locator(".cell-history").first).to_be_hidden()
    page.get_by_role("button", name="Columns and rows").click()
    expect(page.locator("#vms-look").get_by_label("Memory")).to_be_visible()
    expect(page.locator("#vms-look [value=history]")).to_be_hidden()


def test_the_last_hour_and_a_creation_arrive(fake_panel: PanelProcess, login: Login) -> None:
    """Without a reload: the line of a VM that runs, and that another makes a VM; one click shows its row, on top."""
    page = login(fake_panel)
    page.goto("/vms")
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    page.evaluate("window.notReloaded = true")
    expect(page.locator("#vm-rows .spark").first).to_be_visible(timeout=15_000)
    body = {"vm_uuid": "made-now", "os_name": "Debian 12", "cpu_num": 1, "ram_num": 512, "hdd_num": 10}
    fake_panel.ok("POST", "/api/client/create/host1", body)
    expect(page.locator("#new-vms")).to_have_text("1 new VM – show", timeout=15_000)
    expect(row(page, "made-now")).to_have_count(0)
    assert page.evaluate("window.notReloaded") is True
    page.locator("#new-vms a").click()
    expect(page.locator("#vm-rows > tr").first).to_contain_text("made-now", timeout=15_000)
    expect(row(page, "made-now").locator(".state-stopped")).to_be_visible(timeout=15_000)
    page.evaluate("window.notReloaded = true")
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    fake_panel.ok("DELETE", "/api/client/delete/host1/made-now?wait=20")
    expect(row(page, "made-now")).to_have_class("is-gone", timeout=15_000)
    assert page.evaluate("window.notReloaded") is True


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_usual_columns_fit_into_1280_pixels(fake_panel: PanelProcess, login: Login, language: str) -> None:
    page = login(fake_panel)
    page.context.add_cookies([{"name": "openidcs_language", "value": language, "url": fake_panel.url}])
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto("/vms")
    expect(page.locator("#vm-rows > tr").first).to_be_visible()
    assert (
        page.evaluate(
            "(() => { const t = document.querySelector('.table-scroll'); return t.scrollWidth - t.clientWidth })()"
        )
        <= 0
    )
