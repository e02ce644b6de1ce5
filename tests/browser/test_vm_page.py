"""A VM's page in Chromium: the picture of the screen renews itself, changes are marked live, and it fits a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ON, OFF = "/hosts/host1/vms/vm-0001", "/hosts/host1/vms/vm-0004"
PATIENT = 30_000


def test_the_picture_renews_itself(login: Login, fake_panel: PanelProcess) -> None:
    """It appears, is exchanged in place when it is old, and no live update of what is around it takes it away."""
    page = login(fake_panel)
    page.goto(ON)
    picture = page.locator(".screen img")
    expect(picture).to_have_js_property("complete", True, timeout=PATIENT)
    assert picture.evaluate("image => image.naturalWidth") == 320
    first = picture.get_attribute("src") or ""
    page.evaluate("window.emptied = 0")
    page.evaluate(
        """new MutationObserver(() => { window.emptied += document.querySelector(".screen img") ? 0 : 1 })
           .observe(document.querySelector("main"), {childList: true, subtree: true})"""
    )
    page.wait_for_function(
        "first => document.querySelector('.screen img').getAttribute('src') !== first", arg=first, timeout=PATIENT
    )
    assert page.evaluate("window.emptied") == 0
    assert page.locator(".toast-item").count() == 0


def test_a_hidden_tab_asks_for_none(login: Login, fake_panel: PanelProcess) -> None:
    page = login(fake_panel)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.seen !== true})")
    page.goto(ON)
    page.wait_for_load_state("networkidle")  # the scripts have run; a hidden tab has no stream either
    assert not [url for url in asked if "/screen" in url]
    page.evaluate("window.seen = true; document.dispatchEvent(new Event('visibilitychange'))")
    page.locator(".screen img").wait_for(timeout=PATIENT)


def test_off_and_on(login: Login, fake_panel: PanelProcess) -> None:
    """Its place says why there is none; once it runs, the picture is there without a reload."""
    page = login(fake_panel)
    page.goto(OFF)
    expect(page.locator(".screen")).to_contain_text("The VM is not running")
    page.click(".split-button button[type=submit] >> nth=0")
    page.locator(".screen img").wait_for(timeout=PATIENT)
    page.click('[popovertarget$="-power"]')
    page.click(":popover-open .menu-item.is-danger:has-text('Force off')")
    page.click("#confirm-dialog button[value=ok]")
    expect(page.locator(".screen")).to_contain_text("The VM is not running", timeout=PATIENT)


def test_what_waits_is_marked_live(login: Login, fake_panel: PanelProcess) -> None:
    """The boot order of a running VM: the form is sent, and the mark comes by itself."""
    page = login(fake_panel)
    page.goto(f"{ON}?tab=hardware")
    page.select_option("#boot_1", "network")
    page.click("#change-boot button[type=submit]")
    expect(page.locator("#fact-boot .tag-later")).to_contain_text("Network at the next start", timeout=PATIENT)
    page.reload()
    expect(page.locator("#boot_1")).to_have_value("network")


def test_without_javascript(login: Login, fake_panel: PanelProcess) -> None:
    """One picture, and the forms work."""
    page = login(fake_panel, javascript=False)
    page.goto(ON)
    picture = page.locator(".screen img")
    picture.wait_for(timeout=PATIENT)
    assert "/screen/picture" in (picture.get_attribute("src") or "")
    page.goto(f"{OFF}?tab=hardware")
    page.select_option("#iso", "virtio-win.iso")
    page.click("#change-iso button[type=submit]")
    page.wait_for_url("**tab=hardware")
    expect(page.locator("main")).to_contain_text("Changing")


def test_limits_are_saved_and_what_went_well_goes_by_itself(login: Login, fake_panel: PanelProcess) -> None:
    """A toast beside the page, which then goes; without scripts it stands above the page."""
    for javascript, rate in ((True, "25"), (False, "30")):
        page = login(fake_panel, javascript=javascript)
        page.goto(f"{OFF}?tab=network")
        page.fill("#speed_u", rate)
        page.fill("#nat_num", "")
        page.click("#limits button[type=submit]")
        said = page.locator("#toasts .toast-success" if javascript else "main .notice-success")
        expect(said).to_contain_text("Changing")
        expect(page.locator("main .notice-success")).to_have_count(0 if javascript else 1)
        expect(page.locator("#speed_u")).to_have_value(rate)
        if javascript:
            expect(said).to_have_count(0, timeout=PATIENT)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("tab", ["overview", "console", "hardware", "network", "danger"])
def test_nothing_hangs_over(login: Login, fake_panel: PanelProcess, viewport: dict[str, int], tab: str) -> None:
    page = login(fake_panel, viewport=viewport)
    page.goto(f"{ON}?tab={tab}")
    assert fits(page)


def fits(page: Page) -> bool:
    """Whether the page needs no scrolling to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
