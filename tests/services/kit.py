"""What the tests of the services share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from panel.engines.types import NicMode
from panel.models import Task, TaskLine, Vm
from panel.services.container import Services
from panel.services.texts import unpack
from panel.services.vms import NicRequest, VmRequest
from tests.conftest import ADMIN


def request(name: str, **more: Any) -> VmRequest:
    """A small VM."""
    values = {"title": name, "os_name": "Debian 12", "cpu_count": 1, "memory_mib": 512, "disk_gib": 4}
    return VmRequest(name=name, **(values | more))


def nic(mac: str) -> NicRequest:
    return NicRequest("eth0", NicMode.NAT, mac)


async def make(services: Services, name: str = "vm-1", host: str = "host1", **more: Any) -> Vm:
    """Make a VM and wait for it."""
    _vm, task = await services.vms.create(ADMIN, await services.hosts.get(host), request(name, **more))
    ended = await services.tasks.wait(task.id, 10)
    assert ended.status == "succeeded", ended.message
    return await services.vms.get(host, name)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 5.0) -> None:
    """Wait until ``condition`` is true."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def lines(task: Task) -> list[tuple[str, str]]:
    """A task's log: (level, message)."""
    rows = await TaskLine.filter(task_id=task.id).order_by("id")
    return [(row.level, str(unpack(row.message))) for row in rows]
