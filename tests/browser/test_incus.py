"""A real LXD through the panel's pages: the host by its form, over HTTPS with a trust token; a container, and its terminal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Login
from tests.browser.test_console import problems, until
from tests.browser.test_terminal import PASTE, run, shown, wait_for
from tests.lxd import IMAGE, Lxd, lxd
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.timeout(240)]

VM = "/lxd1/box-1"


@pytest.fixture(scope="module")
def server() -> Iterator[Lxd]:
    with lxd() as made:
        yield made


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def page(panel: PanelProcess, login: Login) -> Page:
    return login(panel)


def connected(page: Page) -> None:
    page.goto(f"/console{VM}?kind=text")
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=20_000)
    wait_for(page, "# ")


def test_the_host_is_added_by_its_form(server: Lxd, panel: PanelProcess, page: Page) -> None:
    """Seen, accepted, added: the token, spent by the test, is needed once."""
    token = server.token("panel")
    page.goto("/hosts/new?engine=incus")
    page.fill("input[name=server_name]", "lxd1")
    page.fill("input[name=server_addr]", server.address)
    page.fill("input[name=server_pass]", token)
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("#test-result")).to_contain_text(server.fingerprint, timeout=15_000)
    page.get_by_role("button", name="Accept this certificate").click()
    expect(page.locator("#test-result")).to_contain_text("LXD 5.", timeout=15_000)
    page.locator("main").get_by_role("button", name="Add host").click()
    page.wait_for_url(panel.url + "/hosts/lxd1")
    panel.until("/api/server/status/lxd1", lambda status: status["health"] == "online" and status["seen_at"])
    text = panel.log.read_text() + page.content()
    assert token not in text
    assert "PRIVATE KEY" not in text


def test_a_container_is_made_and_gets_the_address_that_it_was_given(server: Lxd, panel: PanelProcess) -> None:
    panel.until("/api/server/detail/lxd1", lambda host: host["health"] == "online")
    body = {"vm_uuid": "box-1", "vm_name": "容器", "os_name": IMAGE, "cpu_num": 1, "ram_num": 128, "hdd_num": 1,
            "os_pass": "pass-of-box", "nic_all": {"eth0": {"net_mode": "nat"}}, "start": True}  # fmt: skip
    made = panel.ok("POST", "/api/client/create/lxd1?wait=60", body)
    assert made["status"] == "succeeded", made
    assert server.password_is("box-1", "root", "pass-of-box")
    told = panel.until(
        f"/api/client/ipaddr/detail{VM}", lambda data: data["addresses"][0]["seen"] and data["seen"][0]["addresses"], 60
    )
    assert told["addresses"][0]["ip_address"].startswith(server.subnet)
    for action, state in (("suspend", "suspended"), ("resume", "running")):
        panel.ok("POST", f"/api/client/powers{VM}?wait=30", {"action": action})
        panel.until(f"/api/client/status{VM}", lambda status, state=state: status["state"] == state, 20)


def test_the_terminal_answers_in_any_script(page: Page) -> None:
    found = problems(page)
    connected(page)
    run(page, "echo an''swer 虚拟 é")
    wait_for(page, "answer 虚拟 é")
    wide = page.locator(".xterm-rows > div").count()
    page.set_viewport_size({"width": 900, "height": 500})

    def told() -> bool:
        rows = page.locator(".xterm-rows > div").count()
        run(page, "clear; stty size")
        page.wait_for_timeout(300)
        return rows < wide and f"{rows} " in shown(page)

    until(page, told, "the smaller size in the shell")
    assert found == []


def test_a_long_paste_loses_nothing(page: Page) -> None:
    connected(page)
    run(page, "stty -echo")
    run(page, "sha256sum")
    page.get_by_role("button", name="Paste", exact=True).click()
    page.locator("#console-paste-text").fill(PASTE)
    page.locator("#console-paste").get_by_role("button", name="Paste").click()
    page.keyboard.press("Control+d")
    wait_for(page, hashlib.sha256(PASTE.encode()).hexdigest(), 60)


def test_the_page_of_the_container(page: Page, tmp_path: Path) -> None:
    """No screen is offered, and the page says why."""
    page.goto("/hosts/lxd1/vms/box-1")
    expect(page.locator("main")).to_contain_text("容器")
    expect(page.locator("main")).to_contain_text("answers")
    page.screenshot(path=tmp_path / "vm.png")


def test_what_somebody_else_does_shows_at_once(server: Lxd, panel: PanelProcess) -> None:
    server.lxc("stop", "-f", "box-1")
    panel.until(f"/api/client/status{VM}", lambda status: status["state"] == "stopped", 10)


def test_it_is_deleted_whole(server: Lxd, panel: PanelProcess) -> None:
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    assert server.instances() == []
    assert server.api("/1.0/profiles/openidcs")["config"] == {}
