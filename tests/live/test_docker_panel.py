"""A whole panel and a real Docker on this machine: a container is a VM with an address, a forward reaches it from outside though
Docker drops what is forwarded, and its terminal works in a real browser."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Login, chromium, login  # noqa: F401 - fixtures
from tests.browser.test_terminal import run as typed
from tests.browser.test_terminal import wait_for
from tests.live.namespaces import run
from tests.oci import TINY, Daemon, Docker, daemon
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.browser, pytest.mark.timeout(240)]

VM = "/box/web-1"
PORT = 28480


@pytest.fixture(scope="module")
def docker() -> Iterator[Daemon]:
    with daemon(Docker) as made:
        yield made


@pytest.fixture(scope="module")
def panel(docker: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """Its host is the daemon; what runs in its containers serves a page."""
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    host = {"server_name": "box", "engine_type": "OCInterface", "server_addr": str(docker.socket),
            "network_nat": "ocpanel", "command": "busybox httpd -f -p 80 -h /www"}  # fmt: skip
    process.ok("POST", "/api/server/create", host)
    process.until("/api/server/detail/box", lambda found: found["health"] == "online")
    process.until("/api/server/status/box", lambda status: status["seen_at"])
    yield process
    process.stop()


@pytest.fixture(scope="module")
def vm(panel: PanelProcess) -> Iterator[dict[str, Any]]:
    body = {"vm_uuid": "web-1", "vm_name": "网站 1", "os_name": TINY, "cpu_num": 1, "ram_num": 64, "hdd_num": 1,
            "nic_all": {"eth0": {"net_mode": "nat"}}, "os_pass": "Secret-1", "start": True}  # fmt: skip
    made = panel.ok("POST", "/api/client/create/box?wait=100", body)
    assert made["status"] == "succeeded", made
    yield panel.until(f"/api/client/ipaddr/detail{VM}", lambda data: data["addresses"] and data["addresses"][0]["seen"])
    panel.api("DELETE", f"/api/client/delete{VM}?wait=60")


def fetch(outside: tuple[str, str], seconds: float = 20) -> str:
    """What the outside gets over HTTP; empty when nothing."""
    name, address = outside
    deadline = time.monotonic() + seconds
    while True:
        command = ["ip", "netns", "exec", name, "curl", "-sS", "-m", "3", f"http://{address}:{PORT}/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.stdout
        time.sleep(0.5)


def test_a_container_is_a_vm(panel: PanelProcess, vm: dict[str, Any], docker: Daemon) -> None:
    shown = panel.ok("GET", f"/api/client/detail{VM}")
    assert (shown["vm_name"], shown["cpu_num"], shown["ram_num"]) == ("网站 1", 1, 64)
    given = vm["addresses"][0]["ip_address"]
    assert given in docker.cli("inspect", "web-1")
    shadow = docker.cli("exec", "web-1", "cat", "/etc/shadow")
    assert "$6$" in shadow


def test_a_forward_reaches_it_from_outside(panel: PanelProcess, vm: dict[str, Any], outside: tuple[str, str]) -> None:
    run("iptables", "-P", "FORWARD", "DROP")  # as dockerd sets it where forwarding was off before
    assert not fetch(outside, 0)
    rule = panel.ok("POST", f"/api/client/natadd{VM}", {"external_port": PORT, "internal_port": 80})
    assert (rule["state"], rule["problem"]) == ("applied", None)
    assert fetch(outside) == "hello from the container\n"
    panel.ok("POST", f"/api/client/powers{VM}?wait=60", {"action": "reset"})
    assert fetch(outside) == "hello from the container\n", "its address is the same after a restart"
    assert panel.ok("DELETE", f"/api/client/natdel{VM}/0?id={rule['id']}")["problem"] is None
    assert not fetch(outside, 0)


def test_its_terminal_in_a_browser(panel: PanelProcess, vm: dict[str, Any], login: Login) -> None:  # noqa: F811
    page: Page = login(panel)
    page.goto(f"/console{VM}?kind=text")
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=20_000)
    wait_for(page, "# ")
    typed(page, "echo an''swer 虚拟 é; cat /www/index.html")
    wait_for(page, "answer 虚拟 é")
    wait_for(page, "hello from the container")


def test_what_others_made_is_adopted_and_left_alone(panel: PanelProcess, docker: Daemon) -> None:
    number = docker.cli("run", "-d", "--name", "theirs", "--network", "none", TINY).strip()
    try:
        result = panel.ok("POST", "/api/client/scaner/box?wait=60")["result"]
        assert result["added"] == ["theirs"]
        status, answer = panel.api("DELETE", "/api/client/delete/box/theirs?wait=60")
        assert docker.cli("ps", "-q", "--no-trunc", "--filter", "name=theirs").strip() == number, (status, answer)
    finally:
        docker.cli("rm", "-f", "theirs")
