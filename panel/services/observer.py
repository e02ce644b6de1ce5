"""The observer: one loop per host that looks at what is really there, with a time limit. A dead host costs the others nothing,
and a busy panel does not call a host dead: what the panel itself does with the answers is not the host's time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime

import structlog

from panel.courtesy import Courtesy
from panel.engines.base import Engine
from panel.engines.hosttypes import Image
from panel.engines.types import VmEvent
from panel.errors import NotFound, PanelError
from panel.events import EventBus, HostChanged, LookWanted
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Vm
from panel.models.database import is_away
from panel.models.host import HostHealth
from panel.security import PANEL
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.engines import EnginePool, Patience, capabilities, limited
from panel.services.imagefiles import cds_of
from panel.services.nodes import Nodes
from panel.services.observations import Observations
from panel.services.texts import pack
from panel.settings import Settings

MAX_BACKOFF = 60.0  # seconds between tries of a host that does not answer
STATUS_EVERY = 10.0  # seconds between two looks at a host's load
INVENTORY_EVERY = 60.0  # seconds between two looks at its images and leftovers
MOST_ISOS = 200
FIELDS = ("health", "health_since", "problem", "seen_at", "version", "status", "leftovers", "isos")

terminal = structlog.get_logger("panel.observer")


class _Watch:
    """The loops of one host, and how to wake them."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.inventory = True
        self.job: asyncio.Task[None] | None = None
        self.last_status = 0.0
        self.last_inventory = 0.0
        self.prepared = False
        self.listing: asyncio.Task[list[Image]] | None = None


class Observer:
    """Keeps looking at every enabled host."""

    def __init__(
        self,
        settings: Settings,
        pool: EnginePool,
        observations: Observations,
        events: EventBus,
        audit: AuditLog,
        courtesy: Courtesy,
        nodes: Nodes,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._observations = observations
        self._nodes = nodes
        self._events = events
        self._audit = audit
        self._courtesy = courtesy
        self._watches: dict[int, _Watch] = {}
        # what other services look at, rarely
        self.inventories: list[Callable[[Host, Engine, Patience], Awaitable[None]]] = []
        self.rounds: list[Callable[[int], None]] = []  # told of each round that went well
        self.measured: Callable[[Host], None] = lambda _host: None  # told of the host's load in each such round
        nodes.gained.append(self._gained)
        nodes.lost.append(self._lost)

    async def _gained(self, host_ids: Sequence[int]) -> None:
        """Begin with those that are enabled."""
        for host_id in await Host.filter(id__in=list(host_ids), enabled=True).values_list("id", flat=True):
            self.add(int(str(host_id)))

    async def _lost(self, host_ids: Sequence[int]) -> None:
        """End their loops, and wait for what is being written."""
        await _end([job for host_id in host_ids if (job := self._take_out(host_id))])

    async def stop(self) -> None:
        """End all loops."""
        jobs = [watch.job for watch in self._watches.values() if watch.job]
        self._watches.clear()
        await _end(jobs)

    def add(self, host_id: int) -> None:
        """Begin to look at a host; anew when it was looked at already. One that another process watches is left to it."""
        self.remove(host_id)
        if not self._nodes.owns(host_id):
            return
        watch = self._watches[host_id] = _Watch()
        watch.job = asyncio.get_running_loop().create_task(self._loop(host_id, watch), name=f"observer {host_id}")

    def remove(self, host_id: int) -> None:
        """Stop looking at a host."""
        if job := self._take_out(host_id):
            job.cancel()

    def _take_out(self, host_id: int) -> asyncio.Task[None] | None:
        watch = self._watches.pop(host_id, None)
        return watch.job if watch else None

    def look_now(self, host_id: int, *, inventory: bool = False) -> None:
        """Start the host's next round at once; with ``inventory``, images and leftovers too."""
        if watch := self._watches.get(host_id):
            watch.inventory = watch.inventory or inventory
            watch.wake.set()
        elif not self._nodes.owns(host_id):
            self._events.publish(LookWanted(host_id, inventory))

    async def _loop(self, host_id: int, watch: _Watch) -> None:
        failures = 0
        listener: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    host = await Host.get_or_none(id=host_id)
                    if host is None or not host.enabled:
                        return
                    engine = await self._look(host, watch)
                    failures = 0 if engine else failures + 1
                    if engine and capabilities(host.engine).events and (listener is None or listener.done()):
                        listener = asyncio.create_task(self._listen(host_id, engine, watch))
                except Exception as error:
                    if is_away(error):  # it may answer again
                        terminal.warning("the database does not answer", host=host_id, reason=type(error).__name__)
                    else:
                        failures += 1
                        terminal.exception("observation failed", host=host_id)
                await self._pause(watch, failures)
        finally:
            if listener:
                listener.cancel()

    async def _look(self, host: Host, watch: _Watch) -> Engine | None:
        """One round. The engine when it went well; else the host's row says what is wrong, and None."""
        try:
            engine = self._pool.of(host)
            await self._round(host, engine, watch)
            return engine
        except PanelError as error:
            problem = error
        except Exception as error:
            if is_away(error):
                raise  # that is not the host
            terminal.exception("observation failed", host=host.name)
            problem = PanelError(_("An internal error; the panel's log has its trace."))
        watch.prepared = False
        await self._failed(host, problem)
        return None

    async def _pause(self, watch: _Watch, failures: int) -> None:
        pause = min(MAX_BACKOFF, self._settings.observe_seconds * 2 ** min(failures, 6))
        with suppress(TimeoutError):
            async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):  # noqa: S311 - spreads hosts
                await watch.wake.wait()
        watch.wake.clear()

    async def _round(self, host: Host, engine: Engine, watch: _Watch) -> None:
        patience = Patience(self._settings.observe_timeout)
        if not watch.prepared:
            info = await patience.ask(engine.probe())
            await patience.ask(engine.prepare())
            host.version, watch.prepared = info.version, True
        await self._courtesy.give_way()
        began, asked_at = time.monotonic(), now()
        seen = await patience.ask(engine.observe())
        await self._observations.apply_round(host, seen, began)
        told = capabilities(host.engine).host_load
        if told and (began - watch.last_status >= STATUS_EVERY or host.status is None):
            host.status, watch.last_status = asdict(await patience.ask(engine.host_status())), began
        if watch.inventory or began - watch.last_inventory >= INVENTORY_EVERY:
            watch.inventory, watch.last_inventory = False, began
            await self._take_inventory(host, engine, watch, patience)
        await self._healthy(host, asked_at)
        self.measured(host)
        for tell in self.rounds:
            tell(host.id)

    async def _take_inventory(self, host: Host, engine: Engine, watch: _Watch, patience: Patience) -> None:
        for look in self.inventories:
            await self._courtesy.give_way()
            await look(host, engine, patience)
        if capabilities(host.engine).images:
            await self._store_images(host, engine, watch, patience)
        if capabilities(host.engine).iso:
            host.isos = [asdict(iso) for iso in (await patience.ask(engine.list_isos()))[:MOST_ISOS]]
        host.leftovers = [asdict(item) for item in await patience.ask(engine.leftovers())]

    async def _store_images(self, host: Host, engine: Engine, watch: _Watch, patience: Patience) -> None:
        found = [*await patience.ask(engine.list_images()), *await patience.ask(_listed(engine, watch))]
        images = {image.key: image for image in found}
        known = {row.key: row for row in await HostImage.filter(host_id=host.id)}
        await HostImage.filter(id__in=[row.id for key, row in known.items() if key not in images]).delete()
        for key, image in images.items():
            values = {k: v for k, v in asdict(image).items() if k != "key"}
            row = known.get(key)
            if row is None:
                await HostImage.create(host_id=host.id, key=key, seen_at=now(), **values)
            elif any(getattr(row, name) != value for name, value in values.items()):
                await row.update_from_dict(values | {"seen_at": now()}).save()

    async def _healthy(self, host: Host, asked_at: datetime) -> None:
        came_back = host.health is not HostHealth.ONLINE
        if came_back:
            host.health, host.health_since, host.problem = HostHealth.ONLINE, now(), None
        host.seen_at = asked_at
        # only while enabled: a disable that came in between wins
        await Host.filter(id=host.id, enabled=True).update(**{name: getattr(host, name) for name in FIELDS})
        self._events.publish(HostChanged(host.id))
        if came_back:
            await self._audit.write(PANEL, "host.online", "host", host.name, Text(_("The host answers.")))

    async def _failed(self, host: Host, error: PanelError) -> None:
        problem = pack(error.text)
        went_away = host.health is not HostHealth.UNREACHABLE
        if went_away:
            host.health, host.health_since = HostHealth.UNREACHABLE, now()
        host.problem = problem
        updated = await Host.filter(id=host.id, enabled=True).update(
            health=host.health, health_since=host.health_since, problem=problem
        )
        if updated and went_away:
            await self._observations.host_lost(host)
            await self._audit.write(PANEL, "host.unreachable", "host", host.name, error.text, level="error")
        self._events.publish(HostChanged(host.id))

    async def _listen(self, host_id: int, engine: Engine, watch: _Watch) -> None:
        try:
            async for event in engine.watch():
                await self._heard(host_id, engine, watch, event)
        except PanelError:
            pass  # the next round finds out, and listens again
        except Exception:
            terminal.exception("event stream failed", host=host_id)

    async def _heard(self, host_id: int, engine: Engine, watch: _Watch, event: VmEvent) -> None:
        vm = await Vm.get_or_none(host_id=host_id, ref=event.ref, creating=False) if event.ref else None
        if vm is None:
            watch.wake.set()
            return
        try:
            await self._observations.apply_one(vm, await limited(engine.inspect(vm.ref)))
        except NotFound:
            await self._observations.apply_missing(vm)
        except PanelError:
            watch.wake.set()


async def _listed(engine: Engine, watch: _Watch) -> list[Image]:
    """The CD images of a host. One listing at a time, however long it takes: the thread that reads a share whose server is gone
    does not come back, and there are not many."""
    if watch.listing is None or watch.listing.done():
        watch.listing = asyncio.create_task(cds_of(engine))
        watch.listing.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may wait any more
    return await asyncio.shield(watch.listing)


async def _end(jobs: Iterable[asyncio.Task[None]]) -> None:
    ending = list(jobs)
    for job in ending:
        job.cancel()
    if ending:
        await asyncio.wait(ending, timeout=1.0)
