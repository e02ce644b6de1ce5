"""Port forwards of a Proxmox host: the API is the double's; SSH, nftables and traffic are real, in network namespaces."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served
from tests.gateways.sshd import Sshd
from tests.gateways.world import A4, BR4, GW4, MAC_A, WAN4, World
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

TOKEN, SECRET = "openidcs@pve!panel", "a-secret"
VM = "/pve/vm-1"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Its host is the node pve1, its bridge the node's NAT bridge, and its first guest the first VM."""
    made = World()
    made.serve("a", 80)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    made = Cluster()
    made.add("debian-12", gib=1, template=True)
    made.leases[MAC_A] = A4
    return made


@pytest.fixture(scope="module")
def sshd(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd"), world.names["gw"], *world.link_here(), hostname="pve1")
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def panel(cluster: Cluster, sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(sshd.home))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    with served(pve(cluster, Door("root@pam", "x", f"{TOKEN}={SECRET}"))) as base:
        body = {"server_name": "pve", "engine_type": "PromoxSetup", "server_addr": base, "server_user": TOKEN,
                "server_pass": SECRET, "network_nat": "vmbr1"}  # fmt: skip
        process.ok("POST", "/api/server/create", body)
        process.until("/api/server/detail/pve", lambda host: host["health"] == "online")
        yield process
        process.stop()


@pytest.fixture(scope="module")
def vm(panel: PanelProcess, cluster: Cluster, world: World) -> str:
    """A VM whose interface is the world's first guest."""
    nics = {"eth0": {"net_mode": "nat", "mac_addr": MAC_A}}
    body = {"vm_uuid": "vm-1", "cpu_num": 1, "ram_num": 64, "hdd_num": 1, "os_name": "debian-12", "nic_all": nics}
    made = panel.ok("POST", "/api/client/create/pve?wait=60", body)
    assert made["status"] == "succeeded", made
    panel.ok("POST", f"/api/client/powers{VM}?wait=60", {"action": "start"})
    vmid = max(cluster.machines)
    world.ip("gw", "link set pa down", f"link set pa name tap{vmid}i0", f"link set tap{vmid}i0 up")
    return VM


def forward(panel: PanelProcess, port: int) -> tuple[int, dict[str, Any]]:
    return panel.api("POST", f"/api/client/natadd{VM}", {"external_port": port, "internal_port": 80})


def states(data: Any) -> list[str]:
    return [rule["state"] for rule in data["rules"]]


def test_without_ssh_it_says_why(panel: PanelProcess, vm: str) -> None:
    told = panel.ok("GET", f"/api/client/natget{vm}")
    assert told["way"] is None
    assert "no SSH access is given" in told["reason"]
    status, envelope = forward(panel, 8080)
    assert status == 409
    assert "ssh_addr" in envelope["msg"]


def test_traffic_passes_once_ssh_is_given(panel: PanelProcess, vm: str, world: World, sshd: Sshd) -> None:
    ssh = {"ssh_addr": f"{sshd.address}:{sshd.port}", "ssh_user": "root", "ssh_key_file": str(sshd.key)}
    panel.ok("PUT", "/api/server/update/pve", ssh)
    panel.until(f"/api/client/natget{vm}", lambda data: data["way"] == "ssh")
    panel.until("/api/server/detail/pve", lambda host: host["health"] == "online")
    deadline = time.monotonic() + 60
    status, envelope = forward(panel, 8080)
    while status == 409 and time.monotonic() < deadline:  # until the guest's agent was asked
        assert "no address on a NAT network yet" in envelope["msg"]
        time.sleep(0.5)
        status, envelope = forward(panel, 8080)
    assert (status, envelope["data"]["state"]) == (200, "applied"), envelope
    assert envelope["data"]["internal_ip"] == A4
    assert world.call("wan", GW4, 8080) == f"a 80 {BR4}", "the guest is asked by its node"
    assert world.call("wan", A4, 80) == f"a 80 {WAN4}", "what the node itself leaves open stays open"
    status, envelope = forward(panel, sshd.port)
    assert status == 409
    assert "one of its own programs" in envelope["msg"]


def test_its_traffic_is_counted_at_its_port(panel: PanelProcess, vm: str, world: World, cluster: Cluster) -> None:
    port = f"tap{max(cluster.machines)}i0"
    panel.until(f"/api/client/detail{vm}", lambda _data: port in world.run("gw", "nft", "list", "ruleset"))
    assert world.call("wan", GW4, 8080) == f"a 80 {BR4}"
    counters = world.run("gw", "nft", "list", "counters", "table", "bridge", "openidcs")
    assert counters.count("bytes 0") == 0, counters


def test_a_reboot_of_the_node(panel: PanelProcess, vm: str, world: World, sshd: Sshd) -> None:
    sshd.stop()
    away = panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["failed"])
    assert "SSH" in away["rules"][0]["problem"]
    assert panel.ok("GET", "/api/server/detail/pve")["health"] == "online", "all else does without SSH"
    world.run("gw", "nft", "flush", "ruleset")
    assert world.call("wan", GW4, 8080) is None
    sshd.start()
    panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["applied"])
    assert world.call("wan", GW4, 8080) == f"a 80 {BR4}"


def test_a_vm_that_moves_to_another_node(panel: PanelProcess, vm: str, world: World, cluster: Cluster) -> None:
    """Its NAT bridge there ends at that node: the forward fails with the reason, and leads to nobody else meanwhile."""
    machine = cluster.machines[max(cluster.machines)]
    machine.node = "pve2"
    told = panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["failed"])
    assert "The VM is on pve2, on a NAT network (vmbr1)" in told["rules"][0]["problem"]
    assert "pve2" in told["reason"], "and the page offers no new ones"
    assert world.call("wan", GW4, 8080) is None
    status, envelope = forward(panel, 8081)
    assert status == 409
    assert "pve2" in envelope["msg"]
    world.ip("gw", f"route add {A4}/32 via {WAN4} dev g0")  # as if that node routed it
    panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["applied"], 120)
    world.ip("gw", f"route del {A4}/32")
    machine.node = "pve1"
    panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["applied"])
    assert world.call("wan", GW4, 8080) == f"a 80 {BR4}"


def test_an_address_that_changed(panel: PanelProcess, vm: str, cluster: Cluster) -> None:
    cluster.leases[MAC_A] = "10.99.0.77"
    for action in ("suspend", "resume"):  # after which the guest's agent is asked, and not only once a minute
        panel.ok("POST", f"/api/client/powers{vm}?wait=60", {"action": action})
    told = panel.until(f"/api/client/natget{vm}", lambda data: states(data) == ["failed"], 120)
    assert "is no address of the VM any more" in told["rules"][0]["problem"]


def test_the_end_of_the_vm_ends_its_forwards(panel: PanelProcess, vm: str, world: World) -> None:
    panel.ok("DELETE", f"/api/client/delete{vm}?wait=60")
    assert "8080" not in world.run("gw", "nft", "list", "ruleset")
    assert SECRET not in panel.log.read_text()
