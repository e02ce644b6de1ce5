"""The drawer of tasks in a browser: it moves by itself, stays as it was left, and moves nothing else."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

HEAD = "#main h1"


@pytest.fixture(scope="module")
def panel(fake_panel: PanelProcess) -> PanelProcess:
    """With a second host, whose power actions take a while."""
    fake_panel.ok(
        "POST",
        "/api/server/create",
        {"server_name": "slow1", "engine_type": "FakeEngine", "server_addr": "two", "vms": "3",
         "behaviour": "slow", "delay": "8", "only": "power"},
    )  # fmt: skip
    fake_panel.until("/api/server/status/slow1", lambda status: status["seen_at"])
    fake_panel.ok("POST", "/api/client/scaner/slow1?wait=30")
    return fake_panel


def top(page: Page) -> float:
    box = page.locator(HEAD).bounding_box()
    assert box is not None
    return box["y"]


def test_a_task_shows_and_ends_in_the_drawer(panel: PanelProcess, login: Login) -> None:
    page = login(panel)
    page.goto("/logs")
    page.evaluate("window.notReloaded = true")
    drawer, before = page.locator("#drawer"), top(page)
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    page.locator("#drawer summary").click()
    expect(drawer).to_have_attribute("open", "")
    task = panel.ok("POST", "/api/client/powers/slow1/vm-0001?wait=0", {"action": "stop"})["task_id"]
    row = page.locator(f"#drawer-{task}")
    expect(row.locator("progress")).to_be_visible()
    expect(page.locator("#drawer-head progress")).to_be_visible()
    expect(row.locator("a[href$='/hosts/slow1/vms/vm-0001']")).to_be_visible()
    assert top(page) == before, "nothing above it moved"
    row.get_by_role("button", name="Cancel").click()
    page.locator("#confirm-dialog [value=ok]").click()
    expect(row).to_contain_text("Cancelled", timeout=15_000)
    expect(row.locator("progress")).to_have_count(0)
    expect(drawer).to_have_attribute("open", "")
    assert page.evaluate("window.notReloaded") is True
    row.locator(".drawer-name").click()
    page.wait_for_url(f"**/tasks/{task}")
    expect(page.locator("#drawer")).to_have_attribute("open", "")  # as it was left
    page.locator("#drawer summary").click()
    page.goto("/vms")
    expect(page.locator("#drawer:not([open])")).to_be_visible()


def test_without_javascript_on_a_phone(panel: PanelProcess, login: Login) -> None:
    page = login(panel, javascript=False, viewport=NARROW)
    page.goto("/settings")
    expect(page.locator("#drawer-body")).not_to_be_visible()
    page.locator("#drawer summary").click()
    expect(page.locator("#drawer-body")).to_contain_text("Scan a host for VMs")
    box, summary = page.locator("#drawer").bounding_box(), page.locator("#drawer summary").bounding_box()
    assert box is not None
    assert summary is not None
    assert box["y"] + box["height"] == NARROW["height"], "it sticks to the foot"
    assert summary["width"] <= NARROW["width"]
    page.locator("#drawer-body .drawer-all").click()
    page.wait_for_url("**/tasks")
