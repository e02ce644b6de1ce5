"""An operator with a real VM in a real browser: makes it, sees its screen, types into it, presses its buttons."""

from __future__ import annotations

import time
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect

from tests.browser.conftest import Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.timeout(600)]

NAME = "screen-1"


def screen(page: Page) -> Image.Image:
    """The VM's screen as the browser shows it."""
    return Image.open(BytesIO(page.locator("canvas").first.screenshot())).convert("L")


def lit(image: Image.Image) -> int:
    """How many pixels are not background."""
    return sum(image.histogram()[128:])


def difference(one: Image.Image, other: Image.Image) -> int:
    """How many pixels changed much."""
    if one.size != other.size:
        return one.size[0] * one.size[1]
    return sum(ImageChops.difference(one, other).histogram()[96:])


def until(check: Any, seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.5)
    raise AssertionError(f"Not within {seconds} s: {what}")


def settled(page: Page) -> Image.Image:
    """The screen once it has text and holds still for two seconds (a cursor may blink)."""
    last = screen(page)
    since = time.monotonic()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = screen(page)
        if difference(last, now) > 300:
            last, since = now, time.monotonic()
        elif lit(now) > 500 and time.monotonic() - since > 2:
            return now
    raise AssertionError("The screen did not come to rest with text on it.")


@pytest.fixture(scope="module")
def made(real_panel: PanelProcess) -> PanelProcess:
    """The panel, for tests that follow one VM through its life, in order."""
    return real_panel


def test_creates_a_vm(made: PanelProcess, login: Login) -> None:
    page = login(made)
    page.goto("/vms/new")
    page.fill("input[name=vm_uuid]", NAME)
    page.fill("input[name=ram_num]", "128")
    page.fill("input[name=hdd_num]", "1")
    page.fill("input[name=os_pass]", "openidcs-1")
    page.get_by_role("button", name="Create VM").click()
    made.until(f"/api/client/status/local/{NAME}", lambda status: status["agent"], 180)
    page.goto(f"/hosts/local/vms/{NAME}")
    expect(page.locator("main")).to_contain_text("Running")


def test_sees_the_screen_logs_in_and_types(made: PanelProcess, login: Login) -> None:
    page = login(made)
    page.goto(f"/console/local/{NAME}")
    page.wait_for_selector("canvas", timeout=20_000)
    prompt = settled(page)
    page.locator("canvas").first.click()
    page.keyboard.type("root", delay=120)
    page.keyboard.press("Enter")
    until(lambda: difference(prompt, screen(page)) > 300, 30, "the login name on the screen")
    settled(page)  # it asks for the password
    page.keyboard.type("openidcs-1", delay=120)
    page.keyboard.press("Enter")
    shell = settled(page)
    page.keyboard.type("seq 1 200; uname -a", delay=80)
    page.keyboard.press("Enter")
    until(lambda: difference(shell, screen(page)) > 2000, 30, "the output of a command")


def test_a_forward_opens_and_goes_without_a_reload(made: PanelProcess, login: Login) -> None:
    """Tried by the panel through the machine's real rules, to the HTTP server of the real guest."""
    page, other = login(made), login(made)
    for each in (page, other):
        each.goto(f"/hosts/local/vms/{NAME}?tab=network")
        each.evaluate("window.notReloaded = true")
    page.fill("#internal_port", "80")
    page.locator("form[action$='/forwards'] button[type=submit]").click()
    for each in (page, other):
        expect(each.locator("tr[id^=forward-] .state-online")).to_have_text("open", timeout=30_000)
    page.locator("tr[id^=forward-] button[type=submit]").click()
    for each in (page, other):
        expect(each.locator("tr[id^=forward-]")).to_have_count(0, timeout=15_000)
    assert other.evaluate("window.notReloaded") is True


def test_a_domain_opens_and_goes_without_a_reload(made: PanelProcess, login: Login) -> None:
    """Served by a real Caddy, with a certificate that its own authority issues meanwhile."""
    page, other = login(made), login(made)
    for each in (page, other):
        each.goto(f"/hosts/local/vms/{NAME}?tab=network")
        each.evaluate("window.notReloaded = true")
    page.fill("#domain", "shop.example.test")
    page.fill("#target_port", "80")
    page.locator("form[action$='/domains'] button[type=submit]").click()
    for each in (page, other):
        row = each.locator("tr[id^=domain-]")
        expect(row).to_contain_text("https://shop.example.test")
        expect(row.get_by_text("open", exact=True)).to_be_visible(timeout=30_000)
        expect(row).to_contain_text("Caddy Local Authority", timeout=15_000)
    page.locator("tr[id^=domain-] button[type=submit]").click()
    for each in (page, other):
        expect(each.locator("tr[id^=domain-]")).to_have_count(0, timeout=15_000)
    assert other.evaluate("window.notReloaded") is True


def test_power_buttons_change_the_row_without_reloading(made: PanelProcess, login: Login) -> None:
    page = login(made)
    page.goto("/vms")
    page.evaluate("window.notReloaded = true")
    row = page.locator("tr", has_text=NAME)
    expect(row).to_contain_text("Running")
    made.ok("POST", f"/api/client/powers/local/{NAME}", {"action": "suspend"})
    expect(row).to_contain_text("Suspended", timeout=15_000)
    made.ok("POST", f"/api/client/powers/local/{NAME}", {"action": "resume"})
    expect(row).to_contain_text("Running", timeout=15_000)
    press(page, row, "stop")
    expect(row).to_contain_text("Stopped", timeout=15_000)
    press(page, row, "start")
    expect(row).to_contain_text("Running", timeout=15_000)
    assert page.evaluate("window.notReloaded") is True


def press(page: Page, row: Any, action: str) -> None:
    """Press a power button of a row, through its menu and its confirmation when it has them."""
    button = row.locator(f"button[name=action][value={action}]")
    if not button.is_visible():
        row.locator("button[popovertarget]").last.click()
    button.click()
    confirm = page.locator("dialog[open] button.btn-danger, dialog[open] button.btn-primary")
    if page.locator("dialog[open]").count():
        confirm.last.click()


def test_the_console_of_a_stopped_vm_says_so_and_starts_it(made: PanelProcess, login: Login) -> None:
    made.ok("POST", f"/api/client/powers/local/{NAME}", {"action": "stop"})
    page = login(made)
    page.goto(f"/console/local/{NAME}")
    start = page.get_by_role("button", name="Start").first
    expect(start).to_be_visible(timeout=10_000)
    start.click()
    page.wait_for_selector("canvas", timeout=30_000)
    until(lambda: lit(screen(page)) > 200, 60, "something on the screen")


def test_a_remote_url_opens_once_for_someone_without_a_login(made: PanelProcess, chromium: Any) -> None:
    url = made.ok("GET", f"/api/client/remote/local/{NAME}")["url"]
    context = chromium.new_context()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("canvas", timeout=20_000)
    assert "ticket" not in page.url
    page.reload()
    page.wait_for_selector("canvas", timeout=20_000)
    other = chromium.new_context()
    stranger = other.new_page()
    stranger.goto(url)
    assert stranger.locator("canvas").count() == 0
    context.close()
    other.close()


def test_without_javascript_the_list_and_power_work(made: PanelProcess, login: Login) -> None:
    page = login(made, javascript=False)
    page.goto(f"/hosts/local/vms/{NAME}")
    page.locator("main button[popovertarget]").first.click()  # a native popover: it needs no script
    page.locator("button[name=action][value=suspend]").first.click()
    made.until(f"/api/client/status/local/{NAME}", lambda status: status["state"] == "suspended", 20)
    page.goto("/vms?state=suspended")
    expect(page.locator("tr", has_text=NAME)).to_contain_text("Suspended")
    page.goto("/vms?state=stopped")
    expect(page.locator("main")).not_to_contain_text(NAME)
    made.ok("DELETE", f"/api/client/delete/local/{NAME}")
