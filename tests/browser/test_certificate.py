"""A host with a certificate that nobody vouches for, from the form to its VM's forwards: seen, accepted by its button, added."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Login
from tests.engines.common.workstation import PASSWORD, USER, Sealed, sealed
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel without hosts."""
    process = PanelProcess(tmp_path_factory.mktemp("certificate-panel"), observe_seconds="0.5")
    process.start()
    yield process
    process.stop()


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Sealed]:
    """A Workstation with a certificate of its own making."""
    with sealed(tmp_path) as made:
        yield made
        made.world.close()


def fill(page: Page, double: Sealed, name: str) -> None:
    page.goto("/hosts/new?engine=vmware_workstation")
    page.fill("#server_name", name)
    page.fill("#server_addr", double.base)
    page.fill("#server_user", USER)
    page.fill("#server_pass", PASSWORD)
    page.fill("#images_path", "D:/Images")


def test_accepted_without_leaving_the_form(panel: PanelProcess, login: Login, double: Sealed) -> None:
    page = login(panel)
    fill(page, double, "ws")
    page.evaluate("window.notReloaded = true")
    page.get_by_role("button", name="Test connection").click()
    result = page.locator("#test-result")
    expect(result).to_contain_text(double.fingerprint)
    expect(page.locator("#fingerprint")).to_have_value("")
    accept = result.get_by_role("button", name="Accept this certificate")
    accept.click()
    expect(result).to_contain_text("Connected to 127.0.0.1")
    expect(accept).to_have_count(0)
    expect(page.locator("#fingerprint")).to_have_value(double.fingerprint)
    expect(page.locator("#server_pass")).to_have_value(PASSWORD)
    assert page.evaluate("window.notReloaded") is True
    page.get_by_role("button", name="Add host").click()
    page.wait_for_url(panel.url + "/hosts/ws")
    panel.until("/api/server/status/ws", lambda status: status["health"] == "online")
    assert panel.ok("GET", "/api/server/detail/ws")["options"]["fingerprint"] == double.fingerprint

    task = {"vm_uuid": "vm-1", "cpu_num": 1, "ram_num": 512, "hdd_num": 1, "os_name": "Debian 12", "start": True}
    made = panel.ok("POST", "/api/client/create/ws", task)
    panel.until(f"/api/system/tasker?id={made['task_id']}", lambda found: found["tasks"][0]["status"] == "succeeded")
    page.goto("/hosts/ws/vms/vm-1?tab=network")
    expect(page.locator("main")).to_contain_text("The hypervisor itself leads the ports to the VM (127.0.0.1:")
    expect(page.locator("#traffic")).to_contain_text("neither counted nor limited")
    page.fill("#internal_port", "80")
    page.locator("form[action$='/forwards'] button[type=submit]").click()
    expect(page.locator("tr[id^=forward-]")).to_have_count(1)
    ((vmnet, protocol, port),) = double.world.forwards
    assert (vmnet, protocol, 20000 <= port < 30000) == ("vmnet8", "tcp", True)
    page.locator("tr[id^=forward-] button[type=submit]").click()
    expect(page.locator("tr[id^=forward-]")).to_have_count(0)
    assert double.world.forwards == {}
    panel.ok("DELETE", "/api/server/delete/ws")


def test_accepted_without_javascript_on_a_small_screen(panel: PanelProcess, login: Login, double: Sealed) -> None:
    page = login(panel, javascript=False, viewport=NARROW)
    fill(page, double, "ws2")
    page.get_by_role("button", name="Add host").click()
    expect(page.locator("#test-result")).to_contain_text(double.fingerprint)
    page.fill("#server_pass", PASSWORD)  # a secret is not sent back
    page.get_by_role("button", name="Accept this certificate").click()
    expect(page.locator("#test-result")).to_contain_text("Connected to 127.0.0.1")
    expect(page.locator("#fingerprint")).to_have_value(double.fingerprint)
    page.fill("#server_pass", PASSWORD)
    page.get_by_role("button", name="Add host").click()
    page.wait_for_url(panel.url + "/hosts/ws2")
    panel.ok("DELETE", "/api/server/delete/ws2")


def test_another_certificate_is_not_accepted_by_itself(panel: PanelProcess, login: Login, double: Sealed) -> None:
    page = login(panel)
    fill(page, double, "ws3")
    page.fill("#fingerprint", ":".join(["AB"] * 32))
    page.get_by_role("button", name="Test connection").click()
    result = page.locator("#test-result")
    expect(result).to_contain_text(double.fingerprint)
    expect(result).to_contain_text("another certificate")
    expect(result).not_to_contain_text("Connected")
    page.get_by_role("button", name="Add host").click()
    expect(page.locator("#test-result")).to_contain_text("another certificate")
    assert page.url == panel.url + "/hosts/new"
