"""A long form whose login ended: what was typed comes back after the next login, where it was, without secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Page, Response, expect

from tests.browser.conftest import Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

TOLD = "The login had ended."
LOGIN = re.compile(r"/login\?next=")


def kept(page: Page) -> str | None:
    """The draft, as the browser holds it."""
    value: str | None = page.evaluate("sessionStorage.getItem('openidcs-draft')")
    return value


def left(answer: Response) -> list[str]:
    """The fields that were left, when it is an answer to a check of the form of a new VM."""
    if not answer.url.endswith("/vms/new/check"):
        return []
    return parse_qs(answer.request.post_data or "").get("left", [""])[0].split()


def enter(panel: PanelProcess, page: Page) -> None:
    page.fill("input[name=token]", panel.token)
    page.keyboard.press("Enter")


def test_a_vm_that_was_being_described(fake_panel: PanelProcess, login: Login) -> None:
    """It is the check of a field that hears of it: the page goes to the login, and back."""
    fake_panel.ok(
        "POST", "/api/server/create", {"server_name": "other1", "engine_type": "FakeEngine", "server_addr": "x"}
    )
    fake_panel.until("/api/server/status/other1", lambda status: status["seen_at"])
    page = login(fake_panel)
    page.goto("/vms/new?host=other1")
    page.locator("[name=os_name][value='Ubuntu 24.04']").check(force=True)
    page.fill("[name=cpu_num]", "7")
    page.fill("[name=os_pass]", "s3cret-1")
    page.fill("[name=vm_uuid]", "typed-1")
    with page.expect_response(lambda answer: "vm_uuid" in left(answer)):  # the last check that is asked for so far
        page.focus("[name=vm_name]")
    page.context.clear_cookies()
    page.keyboard.insert_text("A long title")
    page.keyboard.press("Tab")
    page.wait_for_url(LOGIN)
    assert "A long title" in str(kept(page))
    assert "s3cret" not in str(kept(page))
    enter(fake_panel, page)
    page.wait_for_url(re.compile(r"/vms/new\?host=other1$"))
    expect(page.locator("#toasts")).to_contain_text(TOLD)
    for name, value in {
        "vm_uuid": "typed-1",
        "vm_name": "A long title",
        "cpu_num": "7",
        "host": "other1",
        "os_pass": "",
    }.items():
        expect(page.locator(f"[name={name}]")).to_have_value(value)
    expect(page.locator("[name=os_name]:checked")).to_have_value("Ubuntu 24.04")
    assert kept(page) is None
    expect(page.locator("#new-summary")).to_contain_text("typed-1")  # it was checked anew


def test_a_host_that_was_sent_too_late(fake_panel: PanelProcess, login: Login) -> None:
    """Its engine too; and what came to its end is no draft any more."""
    page = login(fake_panel)
    page.goto("/hosts/new?engine=proxmox")
    for name in ("server_name", "server_addr", "server_user", "server_pass"):
        page.fill(f"[name={name}]", f"typed-{name.replace('_', '-')}")
    page.context.clear_cookies()
    page.get_by_role("button", name="Add host").click()
    page.wait_for_url(LOGIN)
    assert "typed-server-pass" not in str(kept(page))
    enter(fake_panel, page)
    page.wait_for_url(re.compile(r"/hosts/new\?engine=proxmox$"))
    expect(page.locator("[name=server_addr]")).to_have_value("typed-server-addr")
    expect(page.locator("[name=server_pass]")).to_have_value("")
    expect(page.locator("#toasts")).to_contain_text(TOLD)
    page.reload()
    expect(page.locator("[name=server_addr]")).to_have_value("")
    page.goto("/vms/new")
    expect(page.locator("[name=vm_uuid]")).to_have_value("")


def test_no_other_login_brings_it(fake_panel: PanelProcess, login: Login) -> None:
    """Of a form that was sent well: its page opened anew after some other login is empty."""
    page = login(fake_panel)
    page.goto("/hosts/new?engine=fake")
    page.fill("[name=server_name]", "drafted1")
    page.fill("[name=server_addr]", "drafted1")
    page.get_by_role("button", name="Add host").click()
    page.wait_for_url("**/hosts/drafted1")
    page.context.clear_cookies()
    page.goto("/logs")
    enter(fake_panel, page)
    expect(page.locator("#main h1")).to_have_text("Logs")
    page.goto("/hosts/new?engine=fake")
    expect(page.locator("[name=server_name]")).to_have_value("")
    expect(page.locator("#toasts")).not_to_contain_text(TOLD)
