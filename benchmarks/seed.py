"""Fills an empty database with fake hosts and their VMs: ``python -m benchmarks.seed``, JSON on standard input.

``[[name, vms, {option: value}], ...]``. Prints the access token. As after a scan and one round of observation, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from panel.app import build_services
from panel.engines.fake.view import view_vm
from panel.engines.fake.world import world
from panel.engines.types import EngineKind
from panel.models import Host, Nic, Vm
from panel.models.database import close_database, migrate, open_database
from panel.services.clock import now
from panel.settings import load_settings


async def seed(hosts: list[tuple[str, int, dict[str, str]]]) -> str:
    """Make them; the access token."""
    settings = load_settings()
    services = build_services(settings)
    await migrate(settings.database)
    await open_database(settings.database)
    await services.access.ensure_token()
    for name, vms, options in hosts:
        host = await Host.create(
            name=name, engine=EngineKind.FAKE, address=name, options=options | {"vms": str(vms)}, secret=""
        )
        await _fill(host, vms)
    token = await services.access.token()
    await close_database()
    return token


async def _fill(host: Host, vms: int) -> None:
    here = world(host.address, vms=vms)
    seen = {vm.ref: view_vm(vm, here.clock(), {}, ()) for vm in here.vms.values()}
    moment = now()
    common: dict[str, Any] = {"host_id": host.id, "managed": False, "seen_at": moment, "state_since": moment}
    await Vm.bulk_create(
        [
            Vm(
                name=one.name, ref=ref, title=one.title, os_name=one.os_name, cpu_count=one.cpu_count,
                memory_mib=one.memory_mib, disk_gib=one.disk_gib, state=one.state, known_state=one.state, **common,
            )
            for ref, one in seen.items()
        ]
    )  # fmt: skip
    await Nic.bulk_create(
        [
            Nic(
                vm_id=vm_id, name="eth0", mac=nic.mac, mode=nic.mode, network=nic.network,
                addresses=list(nic.addresses), port=nic.port, model=nic.model, apart=nic.apart,
            )
            for vm_id, ref in await Vm.filter(host_id=host.id).values_list("id", "ref")
            for nic in seen[ref].nics
        ]
    )  # fmt: skip


if __name__ == "__main__":
    print(asyncio.run(seed(json.load(sys.stdin))))
