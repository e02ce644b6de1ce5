"""Gateways: one per machine, each brought in line with the database whenever something changed, and looked at again and again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol as Shape

import structlog

from panel.engines.types import EngineKind
from panel.errors import PanelError, Unsupported
from panel.events import EventBus, HostRemoved, VmChanged
from panel.gateways.kernel import Difference
from panel.gateways.memory import MemoryGateway
from panel.gateways.nft import NftGateway
from panel.gateways.ports import taken_ports
from panel.gateways.runner import LocalRunner
from panel.gateways.types import Protocol, RuleSet
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Forward, Host, RuleState
from panel.security import PANEL
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.engines import EnginePool
from panel.services.texts import pack
from panel.services.wishes import Wish, read_wish

LOOK_EVERY = 5.0  # seconds between two looks at a machine's kernel
APPLY_SECONDS = 60.0
LOCAL = "this machine"

terminal = structlog.get_logger("panel.gateways")


class Gateway(Shape):
    """What a machine's gateway can do. Every method raises a ``PanelError`` when it cannot."""

    async def apply(self, ruleset: RuleSet) -> object:
        """Make it so, whole or not at all."""

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """How what is there differs."""

    async def present(self) -> bool:
        """Whether anything of ours is there."""

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """The ports that forwards must not take: the machine's own programs listen there."""


class LocalGateway:
    """nftables of this machine."""

    def __init__(self) -> None:
        self._runner = LocalRunner()
        self._nft = NftGateway(self._runner)

    async def apply(self, ruleset: RuleSet) -> None:
        """With nothing to do, our tables go."""
        if ruleset == RuleSet():
            await self._nft.clear()
            return
        for warning in (await self._nft.apply(ruleset)).warnings:
            terminal.warning(str(warning))

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """See ``NftGateway``; nothing wanted and nothing there is no drift."""
        if ruleset == RuleSet():
            return []
        return await self._nft.drift(ruleset)

    async def present(self) -> bool:
        """Whether one of our tables is there."""
        return bool((await self._nft.read()).families)

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """See ``taken_ports``."""
        return await taken_ports(self._runner, protocol)


class GatewayService:
    """Keeps machines' rules what the database says. A machine may be several hosts of the panel: they share its tables."""

    def __init__(self, pool: EnginePool, events: EventBus, audit: AuditLog) -> None:
        self._pool = pool
        self._events = events
        self._audit = audit
        self._gateways: dict[str, Gateway] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._applied: dict[str, RuleSet] = {}
        self._failing: set[str] = set()
        self._looked: dict[str, float] = {}
        self._waiting: dict[int, bool] = {}
        self._arrived = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []

    # -- which ---------------------------------------------------------------------------------------------------

    def machine(self, host: Host) -> str | None:
        """What machine a host is, or None for one whose rules the panel cannot make."""
        if host.engine is EngineKind.FAKE:
            return f"fake {host.address}"
        try:
            return LOCAL if self._pool.even_disabled(host).on_this_machine else None
        except PanelError:  # its settings make no sense any more
            return None

    def why_not(self, host: Host) -> str | None:
        """Why a host has no forwards, as a msgid; None when it has."""
        if self.machine(host) is not None:
            return None
        return _("The panel makes forwards only on the machine that it runs on, and this host is another one.")

    def of(self, host: Host) -> tuple[str, Gateway]:
        """A host's machine and gateway. ``Unsupported`` says why there is none."""
        machine = self.machine(host)
        if machine is None:
            raise Unsupported(
                _("The panel makes forwards only on the machine that it runs on, and this host is another one.")
            )
        if machine not in self._gateways:
            self._gateways[machine] = LocalGateway() if machine == LOCAL else MemoryGateway()
        return machine, self._gateways[machine]

    def lock(self, machine: str) -> asyncio.Lock:
        """Held while a machine's forwards or rules change."""
        return self._locks.setdefault(machine, asyncio.Lock())

    async def host_ids(self, machine: str) -> list[int]:
        """The hosts that are this machine."""
        return [host.id for host in await Host.all() if self.machine(host) == machine]

    # -- bringing in line ----------------------------------------------------------------------------------------

    async def converge(self, host: Host, *, look: bool = False) -> Text | None:
        """Make the machine's rules what the database says; with ``look``, after looking at what is there. Returns what went
        wrong, which is also kept with the forwards; None when all is well, or the host has no gateway."""
        if self.machine(host) is None:
            return None
        machine, gateway = self.of(host)
        async with self.lock(machine):
            return await self._converge(machine, gateway, look=look)

    async def converge_locked(self, host: Host) -> Text | None:
        """The same for whoever has the machine's lock."""
        machine, gateway = self.of(host)
        return await self._converge(machine, gateway, look=False)

    async def _converge(self, machine: str, gateway: Gateway, *, look: bool) -> Text | None:
        ids = await self.host_ids(machine)
        wish = await read_wish(ids)
        known = self._applied.get(machine) == wish.ruleset
        drifted: list[Difference] = []
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                if known and look:
                    drifted = await gateway.drift(wish.ruleset)
                if not known or drifted:
                    await self._apply(machine, gateway, wish.ruleset)
        except (PanelError, TimeoutError) as error:
            text = error.text if isinstance(error, PanelError) else Text(_("The gateway did not answer in time."))
            await self._failed(machine, ids, text, everything=known)
            return text
        self._applied[machine] = wish.ruleset
        await self._applied_now(machine, ids, wish)
        if drifted:
            await self._put_right(machine, drifted)
        return None

    async def _apply(self, machine: str, gateway: Gateway, ruleset: RuleSet) -> None:
        if ruleset == RuleSet() and machine not in self._applied and not await gateway.present():
            return  # nothing wanted, nothing there: not our business
        await gateway.apply(ruleset)

    async def _applied_now(self, machine: str, ids: list[int], wish: Wish) -> None:
        rows = await Forward.filter(host_id__in=ids).values("id", "vm_id", "host_id", "state")
        there = {int(rule.id) for rule in wish.ruleset.forwards}
        news = [row for row in rows if row["id"] in there and row["state"] != RuleState.APPLIED]
        await Forward.filter(id__in=[row["id"] for row in news]).update(
            state=RuleState.APPLIED, applied_at=now(), problem=None
        )
        for forward_id, why in wish.left_out.items():
            await Forward.filter(id=forward_id).update(state=RuleState.FAILED, problem=pack(why))
        for row in news:
            self._events.publish(VmChanged(row["vm_id"], row["host_id"]))
        if machine in self._failing:
            self._failing.discard(machine)
            text = Text(_("The rules of {machine} are applied again."), {"machine": machine})
            await self._audit.write(PANEL, "gateway.applied", "gateway", machine, text)

    async def _failed(self, machine: str, ids: list[int], text: Text, *, everything: bool) -> None:
        """An apply that failed left the old rules; a look that failed leaves us ignorant of ``everything``."""
        self._applied.pop(machine, None)
        query = Forward.filter(host_id__in=ids)
        if not everything:
            query = query.exclude(state=RuleState.APPLIED)
        touched = await query.values("vm_id", "host_id")
        await query.update(state=RuleState.FAILED, problem=pack(text))
        for row in touched:
            self._events.publish(VmChanged(row["vm_id"], row["host_id"]))
        if machine not in self._failing:
            self._failing.add(machine)
            await self._audit.write(PANEL, "gateway.failed", "gateway", machine, text, level="error")

    async def _put_right(self, machine: str, drifted: list[Difference]) -> None:
        first = ", ".join(sorted({f"{item.kind} {item.subject}" for item in drifted})[:5])
        text = Text(
            _("{count} rules of {machine} were not as they should be ({first}), and were put right."),
            {"count": len(drifted), "machine": machine, "first": first},
        )
        await self._audit.write(PANEL, "gateway.drift", "gateway", machine, text, level="warning")

    # -- behind everyone's back ----------------------------------------------------------------------------------

    def wake(self, host_id: int, *, look: bool = False) -> None:
        """Bring the host's machine in line soon; never waits. ``look``: nothing is known to have changed."""
        self._waiting[host_id] = self._waiting.get(host_id, False) or not look
        self._arrived.set()

    def start(self) -> None:
        """Begin to serve ``wake``."""
        loop = asyncio.get_running_loop()
        self._jobs = [loop.create_task(work, name="gateways") for work in (self._serve(), self._listen())]

    async def stop(self) -> None:
        """End. The rules stay as they are."""
        for job in self._jobs:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job

    async def _listen(self) -> None:
        """The rules of a host that the panel forgets go."""
        with self._events.subscribe() as events:
            async for event in events:
                if isinstance(event, HostRemoved):
                    self.wake(event.host_id)

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            waiting, self._waiting = self._waiting, {}
            for host_id, changed in waiting.items():
                try:
                    await self._serve_one(host_id, changed)
                except Exception:
                    terminal.exception("gateway not brought in line", host=host_id)

    async def _serve_one(self, host_id: int, changed: bool) -> None:
        host = await Host.get_or_none(id=host_id)
        if host is None:  # forgotten: its rules go from its machine, which other hosts may be as well
            for machine, gateway in self._gateways.items():
                async with self.lock(machine):
                    await self._converge(machine, gateway, look=False)
            return
        machine = self.machine(host) or ""
        due = time.monotonic() - self._looked.get(machine, -LOOK_EVERY) >= LOOK_EVERY
        if due:
            self._looked[machine] = time.monotonic()
        if due or changed or machine not in self._applied:
            await self.converge(host, look=due)
