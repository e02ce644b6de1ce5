"""Pages that are open all day stay still: what begins, changes and ends elsewhere moves no row that is there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
BOTH = pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
PLACES = """rows => Object.fromEntries([...document.querySelectorAll(rows)].map((row, n) => {
  const box = row.getBoundingClientRect(); return [row.id || n, [box.top, box.left]] }))"""
BLOCKS = "main .card, main .tabs, main tr"
SHIFTS = """() => { window.shifts = [];
  const by = ({ previousRect: was, currentRect: is }) => [is.top - was.top, is.bottom - was.bottom];
  const moved = s => { const [top, bottom] = by(s); return top * bottom > 0 && Math.min(Math.abs(top), Math.abs(bottom)) >= 1 };
  const told = s => `${s.node?.id || s.node?.className} ${s.previousRect.y} -> ${s.currentRect.y}`;
  new PerformanceObserver(list => list.getEntries().forEach(
    entry => window.shifts.push(...entry.sources.filter(moved).map(told)))).observe({ type: "layout-shift" }) }"""


@pytest.fixture(scope="module")
def panel(fake_panel: PanelProcess) -> PanelProcess:
    """With a host whose work takes a moment, so that a task is seen at work."""
    fields = {"server_name": "slow1", "engine_type": "FakeEngine", "server_addr": "two", "vms": "3", "behaviour": "slow",
              "delay": "2", "only": "power"}  # fmt: skip
    fake_panel.ok("POST", "/api/server/create", fields)
    fake_panel.until("/api/server/status/slow1", lambda status: status["seen_at"])
    fake_panel.ok("POST", "/api/client/scaner/slow1?wait=30")
    for name in ("away", "lost1", "lost2"):
        fields = {"server_name": name, "engine_type": "FakeEngine", "server_addr": name, "vms": "2"}
        fake_panel.ok("POST", "/api/server/create", fields)
        fake_panel.until(f"/api/server/status/{name}", lambda status: status["seen_at"])
        fake_panel.ok("POST", f"/api/client/scaner/{name}?wait=30")
    return fake_panel


def opened(page: Page, path: str) -> None:
    """Open a page, and begin to watch it once it is live and told what it missed."""
    page.goto(path)
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    page.wait_for_timeout(1500)
    page.evaluate(SHIFTS)
    page.evaluate("window.notReloaded = true")


def still(page: Page, rows: str, before: dict[str, Any]) -> None:
    """No row of ``before`` is elsewhere now, and the browser saw nothing jump up or down."""
    page.wait_for_timeout(1500)
    after = page.evaluate(PLACES, rows)
    assert before
    assert {row: place for row, place in after.items() if row in before} == before
    assert page.evaluate("window.shifts") == []
    assert page.evaluate("window.notReloaded") is True


def small(name: str) -> dict[str, Any]:
    """First in the list by its title."""
    return {
        "vm_uuid": name,
        "vm_name": f"A {name}",
        "os_name": "Debian 12",
        "cpu_num": 1,
        "ram_num": 512,
        "hdd_num": 10,
    }


@BOTH
@pytest.mark.parametrize("path", ["/tasks", "/hosts/slow1?tab=tasks", "/hosts/slow1/vms/vm-0001?tab=tasks"])
def test_new_tasks_are_counted_above_the_list(
    panel: PanelProcess, login: Login, path: str, viewport: dict[str, int]
) -> None:
    panel.api("POST", "/api/client/powers/slow1/vm-0001?wait=20", {"action": "start"})
    running = panel.ok("POST", "/api/client/powers/slow1/vm-0001?wait=0", {"action": "reset"})["task_id"]
    page = login(panel, viewport=viewport)
    opened(page, path)
    line, rows = page.locator("#new-tasks"), "#task-rows > tr"
    before, high = page.evaluate(PLACES, rows), line.bounding_box()
    expect(page.locator(f"#task-{running} .state-success")).to_be_visible(timeout=15_000)
    expect(line).to_have_text("No new tasks")
    made = panel.ok("POST", "/api/client/powers/slow1/vm-0001?wait=20", {"action": "reset"})["task_id"]
    expect(line).to_have_text("1 new task – show", timeout=15_000)
    expect(page.locator(f"#task-{made}")).to_have_count(0)
    still(page, rows, before)
    assert line.bounding_box() == high
    line.get_by_role("link").click()
    expect(page.locator(f"#task-{made}")).to_have_count(1)
    expect(line).to_have_text("No new tasks")


@BOTH
def test_vms_come_change_and_go(panel: PanelProcess, login: Login, viewport: dict[str, int]) -> None:
    made = (f"old-{viewport['width']}", f"gone-{viewport['width']}", f"new-{viewport['width']}")
    old, ends, new = made
    for name in (old, ends):
        panel.ok("POST", "/api/client/create/slow1?wait=20", small(name))
    page = login(panel, viewport=viewport)
    opened(page, "/vms")
    rows, line = "#vm-rows > tr", page.locator("#new-vms")
    before = page.evaluate(PLACES, rows)
    gone = page.locator(rows, has_text=ends)
    gone.get_by_role("checkbox").check()
    panel.ok("DELETE", f"/api/client/delete/slow1/{ends}?wait=20")
    expect(gone).to_have_class("is-gone", timeout=15_000)
    expect(page.locator(".bulk-count")).to_be_empty()
    panel.ok("POST", "/api/client/create/slow1?wait=20", small(new))
    expect(line).to_have_text("1 new VM – show", timeout=15_000)
    panel.ok("POST", f"/api/client/powers/slow1/{old}?wait=0", {"action": "start"})
    expect(page.locator(rows, has_text=old).locator(".row-task")).to_be_visible()
    assert page.evaluate(PLACES, rows) == before
    expect(page.locator(rows, has_text=old).locator(".state-running")).to_be_visible(timeout=15_000)
    still(page, rows, before)
    line.get_by_role("link").click()
    expect(page.locator(rows).first).to_contain_text(new)
    for name in (old, new):
        panel.ok("DELETE", f"/api/client/delete/slow1/{name}?wait=20")


@BOTH
def test_the_dashboard_and_the_open_drawer(panel: PanelProcess, login: Login, viewport: dict[str, int]) -> None:
    panel.api("POST", "/api/client/powers/slow1/vm-0002?wait=20", {"action": "start"})
    page = login(panel, viewport=viewport)
    page.locator("#drawer summary").click()
    opened(page, "/")
    expect(page.locator("#drawer")).to_have_attribute("open", "")
    tasks, hosts = "#drawer .drawer-row", "#host-rows > tr"
    before, above = page.evaluate(PLACES, tasks), page.evaluate(PLACES, hosts)
    made = panel.ok("POST", "/api/client/powers/slow1/vm-0002?wait=0", {"action": "reset"})["task_id"]
    expect(page.locator(f"#drawer-{made} progress")).to_have_count(1)
    expect(page.locator(f"#drawer-{made}")).not_to_contain_text("Cancel", timeout=15_000)
    expect(page.locator("#activity")).to_contain_text("vm-0002", timeout=20_000)
    still(page, tasks, before)
    still(page, hosts, above)
    page.locator("#drawer summary").click()


@BOTH
@pytest.mark.parametrize(
    "path", ["/hosts/away/vms/vm-0001", "/hosts/away/vms/vm-0001?tab=danger", "/hosts/away", "/hosts", "/vms"]
)
def test_a_host_goes_away_and_comes_back(
    panel: PanelProcess, login: Login, path: str, viewport: dict[str, int]
) -> None:
    """What is told of it has its place already."""
    page = login(panel, viewport=viewport)
    opened(page, path)
    word, before = page.locator("main .state").filter(visible=True), page.evaluate(PLACES, BLOCKS)
    panel.ok("PUT", "/api/server/update/away", {"behaviour": "refusing", "only": "observe"})
    expect(word.filter(has_text=re.compile("Unreachable|Unknown")).first).to_be_visible(timeout=30_000)
    page.wait_for_timeout(1500)
    if path.startswith("/hosts/"):
        note = page.locator(".note")
        expect(note).to_contain_text("refuses connections")
        note.click()
        expect(page.locator(".note-all li").first).to_contain_text("refuses connections")
        page.keyboard.press("Escape")
    panel.ok("PUT", "/api/server/update/away", {"behaviour": ""})
    expect(word.filter(has_text=re.compile("Unreachable|Unknown"))).to_have_count(0, timeout=30_000)
    still(page, BLOCKS, before)


@BOTH
def test_notices_of_a_vm_come_and_go(panel: PanelProcess, login: Login, viewport: dict[str, int]) -> None:
    """A change that waits for the next start, a task, and a VM that is no more."""
    name = f"noted-{viewport['width']}"
    panel.ok("POST", "/api/client/create/away?wait=20", small(name))
    panel.api("POST", f"/api/client/powers/away/{name}?wait=20", {"action": "start"})
    page = login(panel, viewport=viewport)
    opened(page, f"/hosts/away/vms/{name}?tab=danger")
    note, before = page.locator(".note:not(.note-calm)"), page.evaluate(PLACES, BLOCKS)
    expect(note).to_have_count(0)
    panel.ok("PUT", f"/api/client/update/away/{name}?wait=20", {"ram_num": 256})
    expect(note).to_contain_text("At the next start", timeout=15_000)
    panel.api("POST", f"/api/client/powers/away/{name}?wait=20", {"action": "stop"})
    expect(note).to_have_count(0, timeout=15_000)
    panel.ok("DELETE", f"/api/client/delete/away/{name}?wait=20")
    expect(page.locator("h1")).to_have_text("This VM is no longer there.", timeout=15_000)
    still(page, BLOCKS, before)


@BOTH
def test_what_needs_attention_comes_and_goes(panel: PanelProcess, login: Login, viewport: dict[str, int]) -> None:
    """Its card is as high with nothing as with much, and what is read keeps its place."""
    page = login(panel, viewport=viewport)
    opened(page, "/")
    box, rows = page.locator(".attention-box"), page.locator(".attention > li")
    high, hosts = box.bounding_box(), page.evaluate(PLACES, "#host-rows > tr")
    before = rows.count()
    for name in ("lost1", "lost2"):
        panel.ok("PUT", f"/api/server/update/{name}", {"behaviour": "refusing", "only": "observe"})
        expect(rows.filter(has_text=name)).to_be_visible(timeout=30_000)
    places = page.evaluate(PLACES, ".attention > li")
    assert len(places) == before + 2
    panel.ok("PUT", "/api/server/update/lost1", {"behaviour": ""})
    expect(rows.filter(has_text="lost1")).to_have_class(re.compile("is-settled"), timeout=30_000)
    still(page, ".attention > li", places)
    panel.ok("PUT", "/api/server/update/lost2", {"behaviour": ""})
    expect(rows).to_have_count(before, timeout=30_000)
    still(page, "#host-rows > tr", hosts)
    assert box.bounding_box() == high


def test_without_javascript_the_line_is_a_link(panel: PanelProcess, login: Login) -> None:
    page = login(panel, javascript=False)
    page.goto("/tasks")
    made = panel.ok("POST", "/api/client/powers/host1/vm-0001?wait=20", {"action": "reset"})["task_id"]
    expect(page.locator(f"#task-{made}")).to_have_count(0)
    page.get_by_role("link", name="Look for new ones").click()
    expect(page.locator(f"#task-{made}")).to_have_count(1)
