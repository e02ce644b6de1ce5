"""The API document's own example host, from adding it to deleting its VM, over the double of vmrest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from panel.engines.common import sshtrust
from panel.models import Host
from panel.services.container import Services
from tests.conftest import ApiClient, seen
from tests.doubles.hostshell import GUEST_PASSWORD, GUEST_USER, shell
from tests.engines.common.workstation import PASSWORD, USER, sealed
from tests.services.kit import until

DOCUMENTED = {
    "server_name": "host1",
    "server_user": USER,
    "server_pass": PASSWORD,
    "engine_type": "VMWareSetup",
    "system_path": "D:/VMs",
    "images_path": "D:/Images",
    "launch_path": "C:/Program Files (x86)/VMware/VMware Workstation",
}


async def test_the_documents_host(api: ApiClient, services: Services, tmp_path: Path) -> None:
    with sealed(tmp_path) as double:
        double.world.add("Windows 10 x64")
        double.world.add("old", r"D:\VMs")
        body = DOCUMENTED | {"server_addr": double.base}
        status, answer = await api("POST", "/api/server/create", body)
        assert status == 503
        assert answer["data"] == {"field": "fingerprint", "fingerprint": double.fingerprint}
        status, answer = await api("POST", "/api/server/create", body | {"fingerprint": "AB"})
        assert (status, answer["data"]) == (400, {"field": "fingerprint"})
        status, answer = await api(
            "POST", "/api/server/create", body | {"fingerprint": double.fingerprint, "server_pass": "wrong"}
        )
        assert status == 503
        assert "server_pass" in answer["msg"]
        told = await api.ok("POST", "/api/server/create", body | {"fingerprint": double.fingerprint})
        assert (told["version"], told["accelerated"]) == ("VMware Workstation", None)
        await seen(services, "host1")
        shown = await api.ok("GET", "/api/server/detail/host1")
        assert {name: shown[name] for name in DOCUMENTED if name != "server_pass"} == {
            name: value for name, value in DOCUMENTED.items() if name != "server_pass"
        }
        status = await api.ok("GET", "/api/server/status/host1")
        assert status["health"] == "online"
        await life_of_a_vm(api, double.world.files)
        assert double.world.bindings["vmnet8"] == {}
        assert PASSWORD not in (await Host.get(name="host1")).secret


async def life_of_a_vm(api: ApiClient, files: set[str]) -> None:
    """Create as the document has it, power, console, password, scan, delete."""
    before = set(files)
    body = {"vm_uuid": "vm-001", "vm_name": "测试虚拟机", "cpu_num": 2, "ram_num": 4096, "hdd_num": 50}
    status, answer = await api("POST", "/api/client/create/host1", body)
    assert (status, answer["data"]) == (400, {"field": "os_name"})
    nic = {"eth0": {"net_mode": "nat", "mac_addr": "00:50:56:00:00:01"}}
    made = await api.ok("POST", "/api/client/create/host1", body | {"os_name": "Windows 10 x64", "nic_all": nic})
    await ended(api, made["task_id"])
    shown = await api.ok("GET", "/api/client/detail/host1/vm-001")
    assert (shown["vm_name"], shown["cpu_num"], shown["ram_num"]) == ("测试虚拟机", 2, 4096)
    for action, state in (("start", "running"), ("suspend", "suspended"), ("resume", "running")):
        await api.ok("POST", "/api/client/powers/host1/vm-001", {"action": action})
        assert (await api.ok("GET", "/api/client/status/host1/vm-001"))["state"] == state
    assert (await api.ok("GET", "/api/client/remote/host1/vm-001"))["url"]
    status, answer = await api("POST", "/api/client/password/host1/vm-001", {"password": "new-password"})
    assert (status, "by vmrun on its host" in answer["msg"]) == (409, True)
    status, answer = await api("PUT", "/api/client/update/host1/vm-001", {"hdd_num": 60})
    assert (status, "size of a disk" in answer["msg"]) == (409, True)
    result = (await api.ok("POST", "/api/client/scaner/host1"))["result"]
    assert (result["total"], result["added"]) == (2, ["old"])
    status, answer = await api("DELETE", "/api/client/delete/host1/old")
    assert status == 409
    assert "did not make this VM" in answer["msg"]
    await api.ok("DELETE", "/api/client/delete/host1/vm-001")
    assert files == before


async def ended(api: ApiClient, task: Any) -> None:
    """Wait for a task to succeed."""
    async with asyncio.timeout(30):
        while True:
            found = (await api.ok("GET", f"/api/system/tasker?id={task}"))["tasks"][0]
            if found["status"] not in {"queued", "running"}:
                assert found["status"] == "succeeded", found
                return
            await asyncio.sleep(0.05)


async def test_its_network_and_passwords(
    api: ApiClient, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses are bindings of the NAT network, forwards its NAT device's, and SSH sets the guest's password."""
    with sealed(tmp_path) as double, shell(double.world, tmp_path) as opened:
        monkeypatch.setattr(sshtrust, "SYSTEM_KNOWN_HOSTS", (str(opened.known_hosts),))
        body = DOCUMENTED | opened.options | {"server_addr": double.base, "fingerprint": double.fingerprint}
        await api.ok("POST", "/api/server/create", body)
        await seen(services, "host1")
        shown = await api.ok("GET", "/api/server/detail/host1")
        assert (shown["options"]["guest_user"], "guest_pass" in shown["options"]) == (GUEST_USER, False)
        assert GUEST_PASSWORD not in str((await Host.get(name="host1")).options)
        nic = {"eth0": {"net_mode": "nat", "mac_addr": "00:50:56:00:00:01"}}
        wanted = {"vm_uuid": "vm-001", "cpu_num": 1, "ram_num": 512, "hdd_num": 50, "os_name": "Debian 12",
                  "os_pass": "first-password", "nic_all": nic, "flu_num": 5, "start": True}  # fmt: skip
        await ended(api, (await api.ok("POST", "/api/client/create/host1", wanted))["task_id"])
        machine = next(vm for vm in double.world.machines.values() if "vm-001" in vm.path)
        assert double.world.bindings["vmnet8"] == {"00:50:56:00:00:01": "192.168.77.3"}, (
            "after the host and its NAT device"
        )
        assert machine.passwords["root"] == "first-password"
        await api.ok("POST", "/api/client/password/host1/vm-001", {"password": "new-password"})
        assert machine.passwords["root"] == "new-password"

        forward = {"protocol": "tcp", "external_port": 8080, "internal_port": 80, "internal_ip": "192.168.77.3"}
        made = await api.ok("POST", "/api/client/natadd/host1/vm-001", forward)
        assert made["state"] == "applied"
        (rule,) = double.world.forwards.values()
        assert (rule["port"], rule["guest"]) == (8080, {"ip": "192.168.77.3", "port": 80})
        assert (await api.ok("GET", "/api/client/natget/host1/vm-001"))["way"] == "native"
        for port in (5901, opened.port, double.port):  # a screen's, SSH's, vmrest's own
            status, answer = await api("POST", "/api/client/natadd/host1/vm-001", forward | {"external_port": port})
            assert (status, answer["data"]) == (409, {"field": "external_port"})
        double.world.forwards.clear()

        async def back() -> bool:
            return ("vmnet8", "tcp", 8080) in double.world.forwards

        await until(back, 15)
        await api.ok("DELETE", "/api/client/natdel/host1/vm-001/0")
        assert double.world.forwards == {}
        await api.ok("POST", "/api/client/natadd/host1/vm-001", forward)
        await api.ok("DELETE", "/api/client/delete/host1/vm-001")
        assert double.world.bindings["vmnet8"] == {}
        assert double.world.forwards == {}
