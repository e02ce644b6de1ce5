"""A VM's network in a browser: what changes shows by itself, and what somebody is typing stays."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NARROW, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NAME = "published-1"
TAB = f"/hosts/host1/vms/{NAME}?tab=network"


@pytest.fixture(scope="module")
def panel(fake_panel: PanelProcess) -> PanelProcess:
    """With a running VM that has an address."""
    body = {"vm_uuid": NAME, "cpu_num": 1, "ram_num": 128, "hdd_num": 1, "nic_all": {"eth0": {"net_mode": "nat"}}}
    fake_panel.ok("POST", "/api/client/create/host1?wait=30", body | {"start": True})
    fake_panel.until(f"/api/client/status/host1/{NAME}", lambda status: status["state"] == "running")
    return fake_panel


def test_a_forward_opens_and_goes_without_a_reload(panel: PanelProcess, login: Login) -> None:
    page, other = login(panel), login(panel)
    for each in (page, other):
        each.goto(TAB)
    other.evaluate("window.notReloaded = true")
    other.fill("#ip_address", "192.168.1.")  # somebody is typing
    expect(other.locator("main")).to_contain_text("No port of the host leads to this VM.")
    page.fill("#internal_port", "80")
    page.locator("form[action$='/forwards'] button[type=submit]").click()
    page.wait_for_url(f"**{TAB}")
    page.evaluate("window.notReloaded = true")
    for each in (page, other):
        row = each.locator("tr[id^=forward-]")
        expect(row).to_contain_text("tcp 20000", timeout=15_000)
        expect(row.locator(".state-online")).to_have_text("open", timeout=15_000)
        assert each.evaluate("window.notReloaded") is True
    panel.ok("POST", f"/api/client/powers/host1/{NAME}", {"action": "stop"})
    expect(other.locator("tr[id^=forward-]")).to_contain_text("The VM is not running.", timeout=15_000)
    panel.ok("POST", f"/api/client/powers/host1/{NAME}", {"action": "start"})
    expect(other.locator("tr[id^=forward-] .state-online")).to_have_text("open", timeout=15_000)
    page.locator("tr[id^=forward-] button[type=submit]").click()
    expect(other.locator("tr[id^=forward-]")).to_have_count(0, timeout=15_000)
    expect(other.locator("main")).to_contain_text("No port of the host leads to this VM.")
    assert other.evaluate("window.notReloaded") is True
    assert other.input_value("#ip_address") == "192.168.1."


def test_published_and_the_network_of_all_hosts_fit_a_phone(panel: PanelProcess, login: Login) -> None:
    rule = panel.ok("POST", f"/api/client/natadd/host1/{NAME}", {"protocol": "tcp", "internal_port": 22})
    page = login(panel, viewport=NARROW)
    for path in (f"/hosts/host1/vms/{NAME}", "/network", "/network/domains", "/network/addresses", TAB,
                 "/hosts/host1?tab=settings"):  # fmt: skip
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], path
    page.goto("/network")
    page.locator(f"#forward-{rule['id']} a[href*='{NAME}']").click()
    expect(page.locator("tr[id^=forward-]")).to_contain_text(f"tcp {rule['external_port']}")
    panel.ok("DELETE", f"/api/client/natdel/host1/{NAME}/0?id={rule['id']}")
