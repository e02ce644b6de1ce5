"""One VM on two networks: the panel's own NAT network with IPv4 and IPv6, and a bridge with a pool and a router beside it."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.live.conftest import DOCUMENT_IMAGE
from tests.live.libvirt_site import LibvirtSite, ssh
from tests.live.namespaces import run
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(500)]

VM = "/host1/pool-1"
PASSWORD = "pool-secret"


@dataclass(frozen=True)
class Wire:
    """A bridge of this machine, and a namespace on it that plays the router."""

    bridge: str
    router: str
    subnet4: str
    subnet6: str

    @property
    def gateways(self) -> tuple[str, str]:
        return str(ip_network(self.subnet4)[1]), str(ip_network(self.subnet6)[1])


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    tag = secrets.token_hex(2)
    made = Wire(f"oi{tag}b", f"oi-{tag}r", f"198.19.{int(tag[:2], 16)}.0/24", f"2001:db8:{tag}::/64")
    port = f"oi{tag}p"
    run("ip", "link", "add", made.bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0")
    try:
        run("ip", "link", "set", made.bridge, "up")
        run("ip", "netns", "add", made.router)
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "wire", "netns", made.router)
        run("ip", "link", "set", port, "master", made.bridge, "up")
        run("ip", "-n", made.router, "addr", "add", f"{made.gateways[0]}/24", "dev", "wire")
        run("ip", "-n", made.router, "addr", "add", f"{made.gateways[1]}/64", "dev", "wire", "nodad")
        run("ip", "-n", made.router, "link", "set", "wire", "up")
        yield made
    finally:
        run("ip", "netns", "del", made.router, check=False)
        run("ip", "link", "del", port, check=False)
        run("ip", "link", "del", made.bridge, check=False)


@pytest.fixture(scope="module")
def panel(site: LibvirtSite, wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel whose host has that bridge, with a pool of each family on it."""
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    process.ok("POST", "/api/server/create", {"server_name": "host1", "network_bridge": wire.bridge} | site.host)
    process.until("/api/server/network/host1", lambda data: len(data["networks"]) == 2)
    path = f"/api/server/network/host1/{wire.bridge}"
    for subnet, gateway in zip((wire.subnet4, wire.subnet6), wire.gateways, strict=True):
        first = ip_network(subnet)[10]
        process.ok(
            "POST", path,
            {"subnet": subnet, "gateway": gateway, "dns": [gateway], "ranges": [[str(first), str(first + 9)]]},
        )  # fmt: skip
    yield process
    process.stop()


@pytest.fixture(scope="module")
def vm(panel: PanelProcess) -> Iterator[dict[str, dict[int, str]]]:
    """A running VM; what it was given, by interface and family."""
    body: dict[str, Any] = {"vm_uuid": "pool-1", "os_name": DOCUMENT_IMAGE, "cpu_num": 1, "ram_num": 192, "hdd_num": 4}
    body["nic_all"] = {"eth0": {"net_mode": "nat"}, "eth1": {"net_mode": "bridge"}}
    made = panel.ok("POST", "/api/client/create/host1?wait=200", body | {"start": True, "os_pass": PASSWORD})
    assert made["status"] == "succeeded", made
    rows = panel.ok("GET", f"/api/client/ipaddr/detail{VM}")["addresses"]
    given: dict[str, dict[int, str]] = {"eth0": {}, "eth1": {}}
    for row in rows:
        given[row["interface"]][ip_address(row["ip_address"]).version] = row["ip_address"]
    yield given
    panel.api("DELETE", f"/api/client/delete{VM}?wait=60")


def answers(address: str, *inside: str, seconds: float = 120) -> bool:
    """Whether the guest's web server is reached, from this machine or from ``inside`` a namespace."""
    host = f"[{address}]" if ":" in address else address
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        command = [*inside, "curl", "-sS", "-g", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", f"http://{host}/"]
        if subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout == "200":
            return True
        time.sleep(0.5)
    return False


def test_the_network_has_both_families(panel: PanelProcess, site: LibvirtSite) -> None:
    networks = panel.ok("GET", "/api/server/network/host1")["networks"]
    own = next(network for network in networks if network["name"] == site.name)
    assert [ip_network(pool["subnet"]).version for pool in own["pools"]] == [4, 6]
    assert ip_network(own["pools"][1]["subnet"]).is_private


def test_the_guest_has_all_that_it_was_given(panel: PanelProcess, vm: dict[str, dict[int, str]], wire: Wire) -> None:
    assert set(vm["eth0"]) == set(vm["eth1"]) == {4, 6}
    assert vm["eth1"][4] == str(ip_network(wire.subnet4)[10])
    inside = ("ip", "netns", "exec", wire.router)
    for version in (4, 6):
        assert answers(vm["eth1"][version], *inside), f"IPv{version} on the bridge"
        assert answers(vm["eth0"][version]), f"IPv{version} on the NAT network"
    panel.until(f"/api/client/ipaddr/detail{VM}", lambda data: all(row["seen"] for row in data["addresses"]), 60)


def test_the_guest_reaches_its_gateways(panel: PanelProcess, vm: dict[str, dict[int, str]], wire: Wire) -> None:
    rows = panel.ok("GET", f"/api/client/ipaddr/detail{VM}")["addresses"]
    gateways = [row["gateway"] for row in rows]
    assert set(wire.gateways) < set(gateways)
    pings = " && ".join(f"ping -c 2 -w 10 {gateway}" for gateway in gateways)
    told = ssh(vm["eth0"][4], PASSWORD, f"{pings} && cat /etc/resolv.conf")
    assert f"nameserver {wire.gateways[0]}" in told


def test_a_guest_has_no_address_of_its_own_choice(vm: dict[str, dict[int, str]], wire: Wire) -> None:
    """The bridge's port is guarded as those of NAT networks are."""
    inside = ("ip", "netns", "exec", wire.router)
    stolen = {version: str(ip_address(address) + 5) for version, address in vm["eth1"].items()}
    more = f"ip addr add {stolen[4]}/24 dev eth1; ip addr add {stolen[6]}/64 dev eth1; ip addr"
    assert stolen[4] in ssh(vm["eth0"][4], PASSWORD, more)
    for version in (4, 6):
        assert not answers(stolen[version], *inside, seconds=3)
        assert answers(vm["eth1"][version], *inside)


def test_a_pool_in_use_stays(panel: PanelProcess, vm: dict[str, dict[int, str]], wire: Wire) -> None:
    pools = panel.ok("GET", "/api/server/network/host1")["networks"]
    pool = next(pool for network in pools for pool in network["pools"] if pool["subnet"] == wire.subnet4)
    assert [(row["vm_uuid"], row["seen"]) for row in pool["addresses"]] == [("pool-1", True)]
    status, envelope = panel.api("DELETE", f"/api/server/network/host1/{wire.bridge}/{pool['id']}")
    assert status == 409
    assert "pool-1" in envelope["msg"]
