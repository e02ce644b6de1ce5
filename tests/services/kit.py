"""What the tests of the services share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from panel.engines.types import NicMode
from panel.gateways.sites import MemorySites
from panel.models import Host, Proxy, Task, TaskLine, Vm
from panel.services.audit import LogFilter
from panel.services.container import Services
from panel.services.proxies import ProxyRequest
from panel.services.specs import NicRequest
from panel.services.texts import unpack
from panel.services.vms import VmRequest
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


async def add_domain(services: Services, vm: Vm, domain: str = "www.example.com", port: int = 80, **more: Any) -> Proxy:
    """Let a domain lead to a VM."""
    return await services.proxies.add(ADMIN, vm, ProxyRequest(domain, port, **more))


async def proxy_of(services: Services, host: str = "host1") -> MemorySites:
    """The proxy of a fake host."""
    _machine, found = services.sites.of(await Host.get(name=host))
    assert isinstance(found, MemorySites)
    return found


async def served(services: Services, host: str = "host1") -> list[str]:
    """The domains that it serves."""
    return [site.domain for site in (await proxy_of(services, host)).applied.sites]


async def logged(services: Services, action: str) -> list[tuple[str, str]]:
    """The log's entries of an action, newest first: (level, message)."""
    _total, entries = await services.audit.read(LogFilter(action=action))
    return [(entry.level, str(unpack(entry.message))) for entry in entries]
