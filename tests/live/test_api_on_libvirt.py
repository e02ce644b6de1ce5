"""The API document's own examples against real libvirt: one VM's whole life, over HTTP."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import DOCUMENT_IMAGE
from tests.live.libvirt_site import LibvirtSite, ssh
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

VM = "/host1/vm-001"

# 创建虚拟机, word for word
CREATE = {
    "vm_uuid": "vm-001",
    "vm_name": "测试虚拟机",
    "os_name": "Windows 10 x64",
    "cpu_num": 2,
    "ram_num": 4096,
    "hdd_num": 50,
    "nic_all": {"eth0": {"net_mode": "nat", "ip4_addr": "192.168.1.100", "mac_addr": "00:50:56:00:00:01"}},
}


@pytest.fixture(scope="module")
def site(demo_image: Path) -> Iterator[LibvirtSite]:
    """A site whose NAT network is the document's, so that its examples fit word for word."""
    made = LibvirtSite(demo_image, DOCUMENT_IMAGE)
    try:
        made.make_network("192.168.1.1", 24)
        yield made
    finally:
        made.clean()


@pytest.fixture(scope="module")
def vm(panel: PanelProcess, site: LibvirtSite) -> Iterator[PanelProcess]:
    """The document's VM, made by its example and started by its example."""
    panel.until("/api/server/status/host1", lambda status: status["seen_at"])
    begun = time.monotonic()
    task = panel.ok("POST", "/api/client/create/host1", CREATE)
    assert time.monotonic() - begun < 5, "create answers at once"
    ended = panel.until(f"/api/system/tasker?id={task['task_id']}", lambda data: data["tasks"][0]["ended_at"])
    assert ended["tasks"][0]["status"] == "succeeded", ended
    panel.ok("POST", f"/api/client/powers{VM}", {"action": "start"})
    panel.until(f"/api/client/status{VM}", lambda status: status["agent"], 120)
    yield panel
    panel.api("DELETE", f"/api/client/delete{VM}")


def detail(panel: PanelProcess) -> Any:
    return panel.ok("GET", f"/api/client/detail{VM}")


def address(panel: PanelProcess) -> str:
    """The VM's IPv4 address as the API tells it."""
    data = panel.until(f"/api/client/detail{VM}", lambda data: data["nic_all"]["eth0"]["ip4_addr"], 60)
    found: str = data["nic_all"]["eth0"]["ip4_addr"]
    return found


def virsh(*arguments: str) -> str:
    done = subprocess.run(
        ["virsh", "-c", "qemu:///system", *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_what_was_asked_for_is_what_runs(vm: PanelProcess, site: LibvirtSite) -> None:
    seen = detail(vm)
    assert (seen["vm_name"], seen["cpu_num"], seen["ram_num"]) == ("测试虚拟机", 2, 4096)
    assert seen["hdd_num"] == 50
    assert seen["state"] == "running"
    assert seen["nic_all"]["eth0"]["mac_addr"] == "00:50:56:00:00:01"
    assert virsh("domstate", "vm-001") == "running"
    graphics = virsh("dumpxml", "vm-001")
    assert "0.0.0.0" not in graphics
    given = vm.until(f"/api/client/ipaddr/detail{VM}", lambda data: data["addresses"][0]["seen"], 60)
    assert [row["ip_address"] for row in given["addresses"]] == ["192.168.1.100"]


def test_password_then_log_in_with_it(vm: PanelProcess) -> None:
    vm.ok("POST", f"/api/client/password{VM}", {"password": "new-password"})
    assert "uid=0" in ssh(address(vm), "new-password", "id")


def test_the_disk_grew_to_what_was_asked_for(vm: PanelProcess) -> None:
    vm.ok("POST", f"/api/client/password{VM}", {"password": "new-password"})
    kib = int(ssh(address(vm), "new-password", "df -k / | tail -1").split()[1])
    assert kib > 45 * 1024 * 1024
    assert ssh(address(vm), "new-password", "hostname").strip() == "vm-001"


def test_suspend_resume_reset(vm: PanelProcess) -> None:
    """A start wakes it too: the document has no resume."""
    states = {"suspend": "suspended", "resume": "running", "start": "running", "reset": "running"}
    for action in ("suspend", "resume", "suspend", "start", "reset"):
        state = states[action]
        done = vm.ok("POST", f"/api/client/powers{VM}", {"action": action})
        assert done["status"] == "succeeded"
        assert vm.ok("GET", f"/api/client/status{VM}")["state"] == state
    status, envelope = vm.api("POST", f"/api/client/powers{VM}", {"action": "start"})
    assert status == 409
    assert "running" in envelope["msg"]
    vm.until(f"/api/client/status{VM}", lambda status: status["agent"], 120)


def test_changes_live_or_at_the_next_start_and_says_which(vm: PanelProcess) -> None:
    changed = vm.ok("PUT", f"/api/client/update{VM}", {"vm_name": "新名字", "ram_num": 2048, "hdd_num": 51})
    told = changed["result"]["live"] + changed["result"]["at_next_start"]
    assert sorted(told) == ["disk_gib", "memory_mib", "title"]
    assert detail(vm)["hdd_num"] == 51
    assert detail(vm)["vm_name"] == "新名字"
    status, envelope = vm.api("PUT", f"/api/client/update{VM}", {"hdd_num": 20})
    assert (status, envelope["data"]) == (400, {"field": "hdd_num"})


def test_two_at_once_one_wins(vm: PanelProcess) -> None:
    vm.ok("POST", f"/api/client/powers{VM}", {"action": "suspend"})
    first = vm.ok("POST", f"/api/client/powers{VM}?wait=0", {"action": "resume"})
    second, envelope = vm.api("POST", f"/api/client/powers{VM}?wait=0", {"action": "resume"})
    if second == 409 and "Task" in envelope["msg"]:
        assert first["task_id"] in envelope["msg"]
    else:  # the first was over already: then the state forbids the second
        assert second == 409
        assert "running" in envelope["msg"]
    vm.until(f"/api/client/status{VM}", lambda status: status["state"] == "running", 30)


def test_shut_down_from_inside_shows_within_a_second(vm: PanelProcess) -> None:
    vm.ok("POST", f"/api/client/password{VM}", {"password": "new-password"})
    ssh(address(vm), "new-password", "(sleep 1; poweroff) >/dev/null 2>&1 &")
    deadline = time.monotonic() + 90
    while virsh("domstate", "vm-001") != "shut off" and time.monotonic() < deadline:
        time.sleep(0.1)
    vm.until(f"/api/client/status{VM}", lambda status: status["state"] == "stopped", 2)
    status, envelope = vm.api("POST", f"/api/client/powers{VM}", {"action": "stop"})
    assert status == 409
    assert "stopped" in envelope["msg"]
    status, envelope = vm.api("POST", f"/api/client/password{VM}", {"password": "x"})
    assert status == 409


def test_shutdown_asks_the_guest(vm: PanelProcess) -> None:
    vm.api("POST", f"/api/client/powers{VM}", {"action": "start"})
    vm.until(f"/api/client/status{VM}", lambda status: status["agent"], 120)
    done = vm.ok("POST", f"/api/client/powers{VM}?wait=120", {"action": "shutdown"})
    assert done["status"] == "succeeded"
    assert virsh("domstate", "vm-001") == "shut off"


def test_scan_adopts_what_others_made_and_delete_keeps_their_disks(vm: PanelProcess, site: LibvirtSite) -> None:
    foreign = site.folder / "foreign.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", foreign, "1G"], check=True, timeout=30)
    xml = site.folder / "foreign.xml"
    xml.write_text(
        f"<domain type='qemu'><name>{site.name}-foreign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{foreign}'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
    virsh("define", str(xml))
    name = f"{site.name}-foreign"
    found = vm.ok("POST", "/api/client/scaner/host1")["result"]
    assert name in found["added"]
    assert name not in vm.ok("POST", "/api/client/scaner/host1")["result"]["added"]
    assert vm.ok("GET", f"/api/client/detail/host1/{name}")["managed"] is False
    for other in found["added"]:  # VMs of other tests and of this machine: leave them, forget the entries' tasks only
        assert vm.ok("GET", f"/api/client/detail/host1/{other}")
    done = vm.ok("DELETE", f"/api/client/delete/host1/{name}")
    assert str(foreign) in done["result"]["kept"]
    assert foreign.exists()
    assert name not in virsh("list", "--all", "--name")


def test_a_vanished_vm_is_missing_not_stopped(vm: PanelProcess, site: LibvirtSite) -> None:
    body = {"vm_uuid": f"{site.name}-gone", "cpu_num": 1, "ram_num": 64, "hdd_num": 1}
    vm.ok("POST", "/api/client/create/host1?wait=60", body)
    virsh("undefine", f"{site.name}-gone")
    assert f"{site.name}-gone" in vm.ok("POST", "/api/client/scaner/host1")["result"]["missing"]
    assert vm.ok("GET", f"/api/client/status/host1/{site.name}-gone")["state"] == "missing"
    vm.ok("DELETE", f"/api/client/delete/host1/{site.name}-gone")
    assert not any(f"{site.name}-gone" in name for name in site.files()), "its disk is not orphaned"


def test_delete_removes_all_that_the_panel_made(vm: PanelProcess, site: LibvirtSite) -> None:
    vm.ok("DELETE", f"/api/client/delete{VM}")
    assert vm.api("GET", f"/api/client/detail{VM}")[0] == 404
    assert "vm-001" not in virsh("list", "--all", "--name").split()
    assert not any("vm-001" in name for name in site.files())
