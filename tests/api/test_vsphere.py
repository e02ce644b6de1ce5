"""A vCenter through the API, from adding it to deleting its VM, over VMware's simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from panel.engines.common.tls import fingerprint_of
from panel.models import Host
from panel.services.container import Services
from tests.api.test_vmware import ended
from tests.certs import made
from tests.conftest import ApiClient, seen
from tests.doubles.vcsim import vcsim
from tests.doubles.vcsim_world import World

USER, SECRET = "panel@vsphere.local", "s3cret-of-the-panel"


@pytest.mark.live
async def test_a_host_and_its_vm(api: ApiClient, services: Services, tmp_path: Path) -> None:
    own = made("localhost")
    pem = tmp_path / "vcsim.pem"
    pem.write_text(own.key_pem + own.pem)
    fingerprint = fingerprint_of(own.certificate.public_bytes(Encoding.DER))
    with vcsim(pem, USER, SECRET) as base:
        world = World(base, USER, SECRET)
        world.add("debian-12", gib=2, template=True)
        world.add("old")
        body = {"server_name": "vc", "server_addr": base, "server_user": USER, "server_pass": SECRET,
                "engine_type": "vSphereESXi", "network_nat": "VM Network"}  # fmt: skip
        status, answer = await api("POST", "/api/server/create", body)
        assert (status, answer["data"]) == (503, {"field": "fingerprint", "fingerprint": fingerprint})
        body["fingerprint"] = fingerprint
        status, answer = await api("POST", "/api/server/create", body | {"cluster": "no such"})
        assert (status, answer["data"]) == (400, {"field": "cluster"})
        told = await api.ok("POST", "/api/server/create", body)
        assert told["version"].startswith("VMware vCenter")
        await seen(services, "vc")
        await the_login_in_guests_is_kept_and_not_shown(api, services)
        wanted = {"vm_uuid": "vm-001", "vm_name": "测试虚拟机", "cpu_num": 2, "ram_num": 2048, "hdd_num": 4,
                  "os_name": "debian-12", "nic_all": {"eth0": {"net_mode": "nat"}}}  # fmt: skip
        await ended(api, (await api.ok("POST", "/api/client/create/vc", wanted))["task_id"])
        shown = await api.ok("GET", "/api/client/detail/vc/vm-001")
        assert (shown["vm_name"], shown["cpu_num"], shown["ram_num"]) == ("测试虚拟机", 2, 2048)
        result = (await api.ok("POST", "/api/client/scaner/vc"))["result"]
        assert (result["total"], result["added"]) == (2, ["old"])
        await api.ok("DELETE", "/api/client/delete/vc/vm-001")
        assert not (world.folder / "vm-001").exists()


async def the_login_in_guests_is_kept_and_not_shown(api: ApiClient, services: Services) -> None:
    """A secret of the engine's own: sealed in the row, absent from answers; left empty it stays."""
    await api.ok("PUT", "/api/server/update/vc", {"guest_user": "openidcs", "guest_pass": SECRET})
    await api.ok("PUT", "/api/server/update/vc", {"guest_user": "other", "guest_pass": ""})
    row = await Host.get(name="vc")
    assert row.options["guest_pass"]
    assert SECRET not in str(row.options)
    assert services.pool.connection(row).secrets["guest_pass"] == SECRET
    shown = await api.ok("GET", "/api/server/detail/vc")
    assert shown["options"]["guest_user"] == "other"
    assert "guest_pass" not in shown["options"]
