"""A Proxmox host through the API, from adding it to deleting its VM, over the double."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from panel.models import Host
from panel.services.container import Services
from tests.api.test_vmware import ended
from tests.certs import made
from tests.conftest import ApiClient, seen
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served

USER, SECRET = "panel@pve!openidcs", "s3cret-of-the-token"


async def test_a_host_and_its_vm(api: ApiClient, services: Services, tmp_path: Path) -> None:
    world = Cluster()
    world.add("debian-12", gib=2, template=True)
    world.add("old")
    own = made("localhost")
    pem = tmp_path / "pve.pem"
    pem.write_text(own.key_pem + own.pem)
    fingerprint = fingerprint_of(own.certificate.public_bytes(Encoding.DER))
    with served(pve(world, Door("root@pam", "x", f"{USER}={SECRET}")), pem=pem) as base:
        body = {"server_name": "pve", "server_addr": base, "server_user": USER, "server_pass": SECRET,
                "engine_type": "PromoxSetup", "network_nat": "vmbr1"}  # fmt: skip
        status, answer = await api("POST", "/api/server/create", body)
        assert (status, answer["data"]) == (503, {"field": "fingerprint", "fingerprint": fingerprint})
        body["fingerprint"] = fingerprint
        status, answer = await api("POST", "/api/server/create", body | {"server_user": "root"})
        assert (status, answer["data"]) == (400, {"field": "server_user"})
        told = await api.ok("POST", "/api/server/create", body)
        assert told["version"] == "Proxmox VE 8.4.1"
        await seen(services, "pve")
        assert (await api.ok("GET", "/api/server/status/pve"))["health"] == "online"
        before = set(world.volumes)
        wanted = {"vm_uuid": "vm-001", "vm_name": "测试虚拟机", "cpu_num": 2, "ram_num": 2048, "hdd_num": 4,
                  "os_name": "debian-12", "nic_all": {"eth0": {"net_mode": "nat"}}}  # fmt: skip
        task = (await api.ok("POST", "/api/client/create/pve", wanted))["task_id"]
        await ended(api, task)
        shown = await api.ok("GET", "/api/client/detail/pve/vm-001")
        assert (shown["vm_name"], shown["cpu_num"], shown["ram_num"]) == ("测试虚拟机", 2, 2048)
        await api.ok("POST", "/api/client/powers/pve/vm-001", {"action": "start"})
        assert (await api.ok("GET", "/api/client/status/pve/vm-001"))["state"] == "running"
        assert (await api.ok("GET", "/api/client/remote/pve/vm-001"))["url"]
        result = (await api.ok("POST", "/api/client/scaner/pve"))["result"]
        assert (result["total"], result["added"]) == (2, ["old"])
        await api.ok("DELETE", "/api/client/delete/pve/vm-001")
        assert world.volumes == before
        assert SECRET not in (await Host.get(name="pve")).secret
