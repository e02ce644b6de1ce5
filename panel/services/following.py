"""What this process does when another one of the panel tells it something."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from panel.events import (
    ConvergeAsked,
    Event,
    EventBus,
    HostChanged,
    HostConfigured,
    HostRemoved,
    LookWanted,
    Resynced,
    RulesWanted,
    TaskLogged,
    VmChanged,
    VmRemoved,
)
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskLine
from panel.models.host import HostHealth
from panel.services.asks import Asks
from panel.services.clock import now
from panel.services.engines import EnginePool
from panel.services.gateways import GatewayService
from panel.services.nodes import Nodes
from panel.services.observations import Observations
from panel.services.observer import Observer
from panel.services.sites import SiteService
from panel.services.taskends import LIVING
from panel.services.texts import pack

terminal = structlog.get_logger("panel.following")


class Follower:
    """Keeps what this process has in memory true to what others did, and does what only it can: it watches the host."""

    def __init__(
        self,
        nodes: Nodes,
        asks: Asks,
        pool: EnginePool,
        observer: Observer,
        observations: Observations,
        gateways: GatewayService,
        sites: SiteService,
        events: EventBus,
    ) -> None:
        self._nodes = nodes
        self._asks = asks
        self._pool = pool
        self._observer = observer
        self._observations = observations
        self._gateways = gateways
        self._sites = sites
        self._events = events
        self._work: set[asyncio.Task[None]] = set()
        events.arrivals.append(self.hear)

    def hear(self, event: Event) -> None:
        """An event of another process. Never waits."""
        match event:
            case HostConfigured(host_id=host_id):
                self._begin(self._configured(host_id))
            case HostRemoved(host_id=host_id):
                self._observer.remove(host_id)
                self._begin(self._pool.forget(host_id))
            case VmRemoved(vm_id=vm_id):
                self._observations.forget(vm_id)
            case VmChanged(vm_id=vm_id, host_id=host_id) if self._nodes.owns(host_id):
                self._observations.touch(vm_id)  # a round that began before this must not undo it
            case LookWanted(host_id=host_id, inventory=inventory) if self._nodes.owns(host_id):
                self._observer.look_now(host_id, inventory=inventory)
            case RulesWanted(host_id=host_id) if self._nodes.owns(host_id):
                self._gateways.wake(host_id)
            case ConvergeAsked(host_id=host_id) if self._nodes.owns(host_id):
                self._begin(self._asks.answer(event))
            case Resynced():
                for host_id in self._nodes.mine or ():
                    self._begin(self._look_anew(host_id))
                    self._gateways.wake(host_id)
                self._sites.wake()

    async def _configured(self, host_id: int) -> None:
        """It connects otherwise than before, or is switched on or off."""
        await self._pool.forget(host_id)
        await self._look_anew(host_id)

    async def _look_anew(self, host_id: int) -> None:
        if await Host.exists(id=host_id, enabled=True):
            self._observer.add(host_id)
        else:
            self._observer.remove(host_id)

    async def unreached(self, host_ids: Sequence[int]) -> None:
        """Hosts that only a machine reaches on which no process runs: nobody knows how they are, and that is said."""
        for host in await Host.filter(id__in=list(host_ids), enabled=True):
            text = Text(
                _(
                    "Nobody watches this host: it is reached by a socket of machine {machine}, where no process of the panel "
                    "runs. Start one there, or give the host an address that every process reaches."
                ),
                {"machine": host.machine},
            )
            if host.health is HostHealth.UNREACHABLE and host.problem == pack(text):
                continue
            changes: dict[str, Any] = {"health": HostHealth.UNREACHABLE, "health_since": now(), "problem": pack(text)}
            if await Host.filter(id=host.id, enabled=True).update(**changes):
                await self._observations.host_lost(host)
                await self._tell_tasks(host)
                self._events.publish(HostChanged(host.id))

    async def _tell_tasks(self, host: Host) -> None:
        """What has begun on such a host, or waits for it, is settled or begun by a process on its machine only."""
        wait = Text(_("Waits until a process of the panel runs on machine {machine} again."), {"machine": host.machine})
        for task in await Task.filter(host_id=host.id, status__in=LIVING):
            await TaskLine.create(task_id=task.id, at=now(), level="warning", message=pack(wait))
            self._events.publish(TaskLogged(task.id))

    async def stop(self) -> None:
        """End what is being done."""
        for job in list(self._work):
            job.cancel()
        if self._work:
            await asyncio.wait(list(self._work), timeout=1.0)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(self._done(work))
        self._work.add(job)
        job.add_done_callback(self._work.discard)

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            terminal.exception("what another process told was not followed")
