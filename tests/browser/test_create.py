"""The page that makes a VM, in a browser: with a keyboard, a mouse, on a phone, without JavaScript."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.browser.test_accessibility import AXE, broken, log_in
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def opened(login: Login, panel: PanelProcess, **how: Any) -> Page:
    """The form, in a browser of that kind."""
    page = login(panel, **how)
    page.goto("/vms/new")
    return page


def checked(page: Page) -> Any:
    """Waits for the answer to a check."""
    return page.expect_response(lambda response: response.url.endswith("/vms/new/check"))


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_a_field_is_checked_when_it_is_left(
    fake_panel: PanelProcess, login: Login, viewport: dict[str, int], scheme: str
) -> None:
    """The message is tied to the field, goes when it is mended, and nothing else that was typed is touched."""
    page = opened(login, fake_panel, viewport=viewport, scheme=scheme)
    name = page.locator("#vm_uuid")
    expect(name).to_be_focused()
    page.keyboard.type("a b")
    page.keyboard.press("Tab")
    expect(page.locator("#vm_uuid-error")).to_contain_text("1 to 63 letters")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_have_attribute("aria-describedby", "vm_uuid-error vm_uuid-help")
    assert page.locator(".field-error").count() == 1, "fields that nobody was in are not told"
    page.fill("#os_pass", "p4ss w0rd")
    page.fill("#vm_uuid", "vm-0001")
    expect(page.locator("#vm_uuid-error")).to_contain_text("already")
    page.fill("#vm_uuid", "web-9")
    expect(page.locator("#vm_uuid-error")).to_have_count(0)
    expect(name).not_to_have_attribute("aria-invalid", "true")
    expect(name).to_have_attribute("aria-describedby", "vm_uuid-help")
    assert page.input_value("#os_pass") == "p4ss w0rd"
    expect(page.locator("#new-summary")).to_contain_text("with the password above")
    assert "p4ss w0rd" not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"


def test_images_are_chosen_with_the_keyboard(fake_panel: PanelProcess, login: Login) -> None:
    """Arrows move through the cards, sizes follow, and one that was changed stays."""
    page = opened(login, fake_panel)
    page.fill("#cpu_num", "6")
    first = page.get_by_role("radio", name="Debian 12")
    expect(first).to_be_checked()
    first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Windows 10")).to_be_checked()
    expect(page.get_by_role("radio", name="Windows 10")).to_be_focused()
    expect(page.locator("#hdd_num")).to_have_value("60")
    expect(page.locator("#ram_num")).to_have_value("4096")
    expect(page.locator("#cpu_num")).to_have_value("6")
    expect(page.get_by_role("radio", name="Windows 10")).to_be_focused()
    expect(page.locator("#new-summary")).to_contain_text("Windows 10 x64")
    expect(page.locator("#new-summary")).to_contain_text("60 GiB")


def test_the_summary_and_the_request_follow_what_is_typed(fake_panel: PanelProcess, login: Login) -> None:
    """While it is typed; what is copied is what is shown."""
    page = opened(login, fake_panel)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#vm_uuid").press_sequentially("typed-1")
    expect(page.locator("#new-summary")).to_contain_text("typed-1")
    expect(page.locator("#vm_uuid")).to_be_focused()
    page.get_by_role("button", name="Copy JSON").click()
    expect(page.locator(".toast-item")).to_contain_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied)["vm_uuid"] == "typed-1"
    page.get_by_role("button", name="Copy curl").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('curl -X POST'))")
    assert f"{fake_panel.url}/api/client/create/host1" in page.evaluate("navigator.clipboard.readText()")
    status, answer = fake_panel.api("POST", "/api/client/create/host1?wait=20", json.loads(copied))
    assert (status, answer["code"]) == (200, 200)


def test_a_press_is_not_lost_to_a_message_that_appears(fake_panel: PanelProcess, login: Login) -> None:
    """While the pointer is down nothing moves; after it the field that was left is checked."""
    page = opened(login, fake_panel)
    page.fill("#vm_uuid", "a b")
    card = page.locator(".pick", has_text="Ubuntu")
    before = card.bounding_box()
    assert before
    page.mouse.move(before["x"] + 20, before["y"] + 10)
    page.mouse.down()
    page.wait_for_timeout(700)  # longer than the page waits before it asks, and the panel needs to answer
    assert card.bounding_box() == before
    with checked(page):
        page.mouse.up()
    expect(page.get_by_role("radio", name="Ubuntu")).to_be_checked()
    expect(page.locator("#vm_uuid-error")).to_be_visible()


def test_another_host_brings_its_images_and_capacity(fake_panel: PanelProcess, login: Login) -> None:
    fields = {"server_name": "zeta", "engine_type": "FakeEngine", "server_addr": "zeta"}
    fake_panel.ok("POST", "/api/server/create", fields)
    fake_panel.until("/api/server/status/zeta", lambda status: status["seen_at"])
    page = opened(login, fake_panel)
    expect(page.locator("#host")).to_have_value("zeta")  # it has more room
    page.select_option("#host", "host1")
    expect(page.locator("#new-capacity")).to_contain_text("Capacity of host1")
    expect(page.locator("input[name=images_of]")).to_have_value("host1")
    expect(page.locator("#new-summary dd").nth(1)).to_have_text("host1")
    fake_panel.ok("DELETE", "/api/server/delete/zeta")


@pytest.mark.parametrize("javascript", [True, False])
def test_name_image_create(fake_panel: PanelProcess, login: Login, javascript: bool) -> None:
    """Nothing else is needed, even by the largest image; a double click makes one."""
    page = opened(login, fake_panel, javascript=javascript)
    name = f"three-{int(javascript)}"
    page.fill("#vm_uuid", name)
    page.get_by_role("radio", name="Windows 10").check()
    page.get_by_role("button", name="Create VM").dblclick()
    page.wait_for_url(f"**/hosts/host1/vms/{name}")
    fake_panel.until(f"/api/client/status/host1/{name}", lambda status: status["state"] == "running")
    assert fake_panel.ok("GET", f"/api/client/detail/host1/{name}")["hdd_num"] == 60


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_without_javascript_every_error_is_at_its_field(
    fake_panel: PanelProcess, login: Login, viewport: dict[str, int]
) -> None:
    page = opened(login, fake_panel, javascript=False, viewport=viewport)
    page.fill("#vm_uuid", "a b")
    page.fill("#vm_name", "My shop")
    page.fill("#cpu_num", "0")
    page.fill("#mac_addr", "zz")
    for button in ("Check", "Create VM"):
        page.get_by_role("button", name=button).click()
        for field in ("vm_uuid", "cpu_num", "mac_addr"):
            expect(page.locator(f"#{field}-error")).to_be_visible()
            expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#vm_name")).to_have_value("My shop")
        expect(page.locator("#new-summary")).to_contain_text("My shop")
    name = f"plain-{viewport['width']}"
    page.fill("#vm_uuid", name)
    page.fill("#cpu_num", "1")
    page.fill("#mac_addr", "")
    page.press("#mac_addr", "Enter")  # the form's first button makes the VM
    page.wait_for_url(f"**/hosts/host1/vms/{name}")


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_messages_and_warnings_break_no_rule(
    chromium: Browser, fake_panel: PanelProcess, viewport: dict[str, int], scheme: str
) -> None:
    """axe-core, with errors and warnings shown. The form as it is first shown is among tests of all pages."""
    context = chromium.new_context(
        viewport=viewport,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        base_url=fake_panel.url,
        bypass_csp=True,
        reduced_motion="reduce",
    )
    context.add_init_script(AXE)
    page = context.new_page()
    page.goto("/login")
    log_in(page, fake_panel)
    page.goto("/vms/new")
    page.fill("#vm_uuid", "a b")
    page.fill("#ram_num", "999999")
    page.fill("#os_pass", "x")
    expect(page.locator("#vm_uuid-error")).to_be_visible()
    expect(page.locator("#ram_num-warning")).to_be_visible()
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": viewport["width"], "height": height})
    problems = broken(page, "/vms/new")
    context.close()
    assert not problems, "\n".join(problems)
