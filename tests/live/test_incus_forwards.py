"""A whole panel and a real LXD: a forward of the panel's is a network forward of the server, and a page comes through it from
outside. It outlives restarts and an operator's hand, leaves others' alone, and goes with its VM. A domain leads there too."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from tests.lxd import IMAGE, Lxd, lxd
from tests.process import PanelProcess, proxy_settings

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

VM = "/box/web-1"
PORT = 28580
PAGE = "hello from the container\n"
SERVE = (
    f"mkdir -p /www; echo '{PAGE.strip()}' >/www/index.html; echo 'httpd -p 80 -h /www' >>/etc/rcS; httpd -p 80 -h /www"
)


@pytest.fixture(scope="module")
def server() -> Iterator[Lxd]:
    with lxd() as made:
        yield made


@pytest.fixture(scope="module")
def address(outside: tuple[str, str]) -> str:
    """This machine's, as others see it."""
    return outside[1]


@pytest.fixture(scope="module")
def panel(server: Lxd, address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    process = PanelProcess(tmp_path_factory.mktemp("panel"), **proxy_settings())
    process.start()
    host = {"server_name": "box", "engine_type": "LxContainer", "server_addr": server.socket,
            "network_nat": server.bridge, "forward_addr": address}  # fmt: skip
    process.ok("POST", "/api/server/create", host)
    process.until("/api/server/detail/box", lambda found: found["health"] == "online")
    process.until("/api/server/status/box", lambda status: status["seen_at"])
    yield process
    process.stop()


@pytest.fixture
def vm(panel: PanelProcess, server: Lxd) -> Iterator[str]:
    """A container that serves a page, now and after a restart; its address."""
    body = {"vm_uuid": "web-1", "vm_name": "网站 1", "os_name": IMAGE, "cpu_num": 1, "ram_num": 64, "hdd_num": 1,
            "nic_all": {"eth0": {"net_mode": "nat"}}, "start": True}  # fmt: skip
    made = panel.ok("POST", "/api/client/create/box?wait=100", body)
    assert made["status"] == "succeeded", made
    seen = panel.until(
        f"/api/client/ipaddr/detail{VM}", lambda data: data["addresses"] and data["addresses"][0]["seen"]
    )
    server.lxc("exec", "web-1", "--", "sh", "-c", SERVE)
    yield str(seen["addresses"][0]["ip_address"])
    panel.api("DELETE", f"/api/client/delete{VM}?wait=60")


def fetched(address: str, seconds: float = 0) -> str:
    """What comes through the forward, asked again until something does; empty when nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return httpx2.get(f"http://{address}:{PORT}/", timeout=3).text
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.3)


def soon(good: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.2)


def add(panel: PanelProcess, **more: int) -> dict[str, Any]:
    rule: dict[str, Any] = panel.ok(
        "POST", f"/api/client/natadd{VM}", {"external_port": PORT, "internal_port": 80} | more
    )
    assert (rule["state"], rule["problem"]) == ("applied", None)
    return rule


def test_a_page_comes_through_it(panel: PanelProcess, server: Lxd, vm: str, outside: tuple[str, str]) -> None:
    name, address = outside
    assert panel.ok("GET", f"/api/client/natget{VM}")["way"] == "native"
    assert not fetched(address)
    rule = add(panel)
    assert server.forwards() == {address: {PORT: f"{vm}:80"}}
    assert fetched(address, 10) == PAGE
    command = ["ip", "netns", "exec", name, "curl", "-sS", "-m", "5", f"http://{address}:{PORT}/"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout == PAGE
    panel.until(f"/api/client/published{VM}", lambda data: data["published"][0]["opening"] == "open", 30)
    panel.ok("POST", f"/api/client/powers{VM}?wait=60", {"action": "reset"})
    assert fetched(address, 20) == PAGE, "after a restart of the VM"
    assert panel.ok("DELETE", f"/api/client/natdel{VM}/0?id={rule['id']}")["problem"] is None
    assert server.forwards() == {}, "with the last port the panel's own object goes"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://{address}:{PORT}/", timeout=3)


def test_what_is_removed_by_hand_comes_back_and_others_stay(
    panel: PanelProcess, server: Lxd, vm: str, address: str
) -> None:
    server.forward(address, "tcp", 28700, vm, 81)
    add(panel)
    status, answer = panel.api("POST", f"/api/client/natadd{VM}", {"external_port": 28700, "internal_port": 80})
    assert status == 409, answer
    mine, theirs = {PORT: f"{vm}:80"}, {28700: f"{vm}:81"}
    assert server.forwards() == {address: mine | theirs}
    server.lxc("network", "forward", "port", "remove", server.bridge, address, "tcp", str(PORT))
    soon(lambda: server.forwards() == {address: mine | theirs})
    assert fetched(address, 10) == PAGE
    server.lxc("network", "forward", "delete", server.bridge, address)
    soon(lambda: server.forwards() == {address: mine})
    server.forward(address, "tcp", 28700, vm, 81)
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    soon(lambda: server.forwards() == {address: theirs})
    server.lxc("network", "forward", "delete", server.bridge, address)


def test_another_address_of_the_host_takes_them_along(panel: PanelProcess, server: Lxd, vm: str, address: str) -> None:
    add(panel)
    other = "198.51.100.7"
    try:
        panel.ok("PUT", "/api/server/update/box", {"forward_addr": other})
        soon(lambda: server.forwards() == {other: {PORT: f"{vm}:80"}})
    finally:
        panel.ok("PUT", "/api/server/update/box", {"forward_addr": address})
    soon(lambda: server.forwards() == {address: {PORT: f"{vm}:80"}})
    assert fetched(address, 10) == PAGE


def test_a_panel_that_starts_again_finds_them(panel: PanelProcess, server: Lxd, vm: str, address: str) -> None:
    add(panel)
    panel.kill()
    server.lxc("network", "forward", "port", "remove", server.bridge, address, "tcp", str(PORT))
    panel.start()
    soon(lambda: server.forwards() == {address: {PORT: f"{vm}:80"}}, 60)
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    soon(lambda: server.forwards() == {})


def test_a_port_of_this_machines_own_programs_is_refused(panel: PanelProcess, vm: str) -> None:
    """The server would take it from them: the panel asks this machine."""
    with socket.create_server(("0.0.0.0", 0)) as program:
        port = program.getsockname()[1]
        status, answer = panel.api("POST", f"/api/client/natadd{VM}", {"external_port": port, "internal_port": 80})
        assert (status, "own programs" in answer["msg"]) == (409, True), answer
    for port in (22, 8443):
        status, answer = panel.api("POST", f"/api/client/natadd{VM}", {"external_port": port, "internal_port": 80})
        assert status == 409, answer


def test_a_domain_leads_to_a_container(panel: PanelProcess, vm: str, address: str) -> None:
    body = {"domain": "box.example.test", "target_port": 80}
    made = panel.ok("POST", f"/api/client/proxys/create{VM}", body)
    assert (made["state"], made["problem"], made["target_ip"]) == ("applied", None, vm)
    url = f"http://{address}:{panel.settings['proxy_http_port']}/"

    def served() -> bool:
        try:
            return httpx2.get(url, headers={"Host": "box.example.test"}, timeout=3).text == PAGE
        except httpx2.TransportError:
            return False

    soon(served)
    assert panel.ok("DELETE", f"/api/client/proxys/delete{VM}/0?id={made['id']}")["problem"] is None
    assert not served()
