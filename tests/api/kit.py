"""What the tests of the API share."""

from __future__ import annotations

import asyncio
from typing import Any

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld, world
from panel.models import HostImage
from tests.conftest import ApiClient

SMALL = {"os_name": "Debian 12", "cpu_num": 1, "ram_num": 512, "hdd_num": 4}


def small(name: str, **more: Any) -> dict[str, Any]:
    """The body of a small VM."""
    return SMALL | {"vm_uuid": name} | more


async def make_vm(api: ApiClient, name: str = "vm-1", host: str = "host1", **more: Any) -> dict[str, Any]:
    """Make a VM and wait for it; its detail."""
    made = await api.ok("POST", f"/api/client/create/{host}?wait=10", small(name, **more))
    assert made["status"] == "succeeded", made
    found: dict[str, Any] = await api.ok("GET", f"/api/client/detail/{host}/{name}")
    return found


async def make_host(api: ApiClient, name: str, **options: str) -> None:
    """Add a fake host of a world of its own."""
    await api.ok(
        "POST", "/api/server/create", {"server_name": name, "engine_type": "FakeEngine", "server_addr": name} | options
    )
    async with asyncio.timeout(5):
        while not await HostImage.filter(host__name=name).exists():
            await asyncio.sleep(0.02)


def turn(manner: Manner, address: str = "world1", **values: Any) -> FakeWorld:
    """Make a fake host behave badly from now on."""
    found = world(address)
    found.behaviour = Behaviour(manner=manner, **values)
    return found


async def log_of(api: ApiClient, task_id: str) -> list[tuple[str, str]]:
    """A task's log: (level, message)."""
    tasks = (await api.ok("GET", f"/api/system/tasker?id={task_id}"))["tasks"]
    assert len(tasks) == 1
    return [(line["level"], line["message"]) for line in tasks[0]["log"]]
