"""Gateways: one per machine, each brought in line with the database whenever something changed, and looked at again and again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress

import structlog

from panel.engines.types import EngineKind
from panel.errors import PanelError, Unsupported
from panel.events import EventBus, HostChanged, HostRemoved, RulesWanted, VmChanged
from panel.gateways.kernel import Difference, DifferenceKind, Traffic
from panel.gateways.memory import MemoryGateway
from panel.gateways.runner import LocalRunner
from panel.gateways.types import RuleSet
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Forward, Host, RuleState
from panel.models.database import is_away
from panel.security import PANEL
from panel.services.asks import Asks
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.engines import EnginePool
from panel.services.machines import Gateway, KernelGateway
from panel.services.natives import NativeGateway, Natives
from panel.services.nodes import Nodes, Surveyed
from panel.services.notices import Notices
from panel.services.remotes import Remotes
from panel.services.texts import pack, unpack
from panel.services.traffic import TrafficKeeper
from panel.services.ways import LOCAL, Way, WayKind, no_way, way_of
from panel.services.wishes import Wish, read_wish

LOOK_EVERY = 5.0  # seconds between two looks at a machine's kernel
APPLY_SECONDS = 60.0
SETTINGS = (  # columns of a host that say what machine it is: the others cost more than these to read
    "id", "name", "engine", "address", "user", "secret", "disks_path", "images_path", "launch_path", "options",
    "machine",
)  # fmt: skip
MOST_AT_ONCE = 16  # other machines that are brought in line at the same time; this one never waits for them
CARRYING = frozenset({"table", "chain", "map", "rule", "order", "sysctl"})  # differences in these can touch any forward

terminal = structlog.get_logger("panel.gateways")


class GatewayService:
    """Keeps machines' rules what the database says. A machine may be several hosts of the panel: they share its tables."""

    def __init__(self, pool: EnginePool, events: EventBus, audit: AuditLog, nodes: Nodes, asks: Asks) -> None:
        self._nodes = nodes
        self._asks = asks
        asks.parts["gateway"] = self.converge
        nodes.gained.append(self._gained)
        nodes.lost.append(self._lost)
        self._pool = pool
        self._events = events
        self._audit = audit
        self._gateways: dict[str, Gateway] = {}
        self._remotes = Remotes()
        self._natives = Natives()
        self._machines: dict[int, str] = {}  # what a host was when it was served last
        self._locks: dict[str, asyncio.Lock] = {}
        self._applied: dict[str, RuleSet] = {}
        self._refused: dict[str, Mapping[str, Text]] = {}
        self._failing: set[str] = set()
        self._traffic = TrafficKeeper(events, audit)
        self._counted: dict[str, dict[str, Traffic]] = {}
        self._notices = Notices(events, audit)
        self._looked: dict[str, float] = {}
        self._waiting: dict[int, bool] = {}
        self._arrived = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    # -- which ---------------------------------------------------------------------------------------------------

    def way(self, host: Host) -> Way | None:
        """How the panel makes a host's rules; None for one whose rules it cannot make."""
        if host.engine is EngineKind.FAKE and not host.options.get("forwards"):
            return Way(WayKind.IMAGINARY, f"fake {host.address}")  # without an engine: there may be very many
        try:
            engine = self._pool.even_disabled(host)
        except PanelError:  # its settings make no sense any more
            return None
        return way_of(engine, host.machine if self._pool.elsewhere(host) else "")

    def here(self, host: Host) -> bool:
        """Whether a host is this machine."""
        return self._pool.is_here(host)

    def machine(self, host: Host) -> str | None:
        """What machine a host is, or None for one whose rules the panel cannot make."""
        way = self.way(host)
        return way.machine if way else None

    def why_not(self, host: Host) -> str | None:
        """Why a host has no forwards, as a msgid; None when it has."""
        return None if self.way(host) is not None else no_way(host.engine)

    def limits(self, host: Host) -> bool:
        """Whether rates and traffic of a host's VMs are limited: its traffic passes rules of the panel's."""
        way = self.way(host)
        return way is not None and way.kind is not WayKind.NATIVE

    def of(self, host: Host) -> tuple[str, Gateway]:
        """A host's machine and gateway. ``Unsupported`` says why there is none."""
        way = self.way(host)
        if way is None:
            raise Unsupported(no_way(host.engine))
        self._pool.require_here(host)
        machine = way.machine
        if way.kind is WayKind.NATIVE:  # the host's own login, which need not be that of the machine's other hosts
            self._gateways[machine] = self._natives.of(machine, host.engine, self._pool.connection(host))
        elif way.endpoint is not None:  # likewise
            self._gateways[machine] = self._remotes.of(machine, way.endpoint)
        elif machine not in self._gateways:
            local = way.kind is WayKind.LOCAL
            self._gateways[machine] = KernelGateway(LocalRunner()) if local else MemoryGateway()
        return machine, self._gateways[machine]

    def lock(self, machine: str) -> asyncio.Lock:
        """Held while a machine's forwards or rules change."""
        return self._locks.setdefault(machine, asyncio.Lock())

    async def host_ids(self, machine: str) -> list[int]:
        """The hosts that are this machine."""
        return [host.id for host in await Host.all().only(*SETTINGS) if self.machine(host) == machine]

    async def survey(self) -> dict[int, Surveyed]:
        """What machines all hosts are: for those who share hosts among processes."""
        hosts = await Host.all().only(*SETTINGS)
        machines = {host.id: self.machine(host) for host in hosts}
        return {host_id: Surveyed(machine, local=machine == LOCAL) for host_id, machine in machines.items()}

    # -- bringing in line ----------------------------------------------------------------------------------------

    async def converge(self, host: Host, *, look: bool = False) -> Text | None:
        """Make the machine's rules what the database says; with ``look``, after looking at what is there. Returns what went
        wrong, which is also kept with the forwards; None when all is well, or the host has no gateway. Where another process
        watches the host, that one does it."""
        if self.machine(host) is None:
            return None
        if not self._nodes.owns(host.id):
            return await self._asks.converge("gateway", host.id)
        machine, gateway = self.of(host)
        async with self.lock(machine):
            return await self._converge(machine, gateway, look=look)

    async def converge_locked(self, host: Host) -> Text | None:
        """The same for whoever has the machine's lock."""
        if not self._nodes.owns(host.id):
            return await self._asks.converge("gateway", host.id)
        machine, gateway = self.of(host)
        return await self._converge(machine, gateway, look=False)

    async def _converge(self, machine: str, gateway: Gateway, *, look: bool) -> Text | None:
        ids = await self.host_ids(machine)
        problem = await self._count(machine, gateway, ids)
        ignorant = problem is not None
        await self._traffic.judge(ids)
        wish = await read_wish(ids)
        known = self._applied.get(machine) == wish.ruleset
        if problem is None:
            problem = await self._bring(machine, gateway, ids, wish, look=look)
        if problem is not None:
            await self._failed(machine, ids, problem, everything=known or ignorant)
            return problem
        self._applied[machine] = wish.ruleset
        await self._applied_now(machine, ids, wish)
        if self._nodes.id is not None:
            await self._notices.keep(machine, ids)
        return None

    async def _count(self, machine: str, gateway: Gateway, ids: list[int]) -> Text | None:
        """Write down what the counters say, before anything changes them. Returns why they could not be read."""
        if self._applied.get(machine) == RuleSet():
            return None  # nothing of ours is there
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                seen = await gateway.counters()
        except (PanelError, TimeoutError) as error:
            return _reason(error)
        if self._counted.get(machine) != seen and await self._traffic.count(ids, seen):
            self._counted[machine] = seen
        return None

    async def _bring(self, machine: str, gateway: Gateway, ids: list[int], wish: Wish, *, look: bool) -> Text | None:
        """Rules first, then rates: what is wrong with those is told, and holds up nothing. Returns why the rules are not."""
        told_only = await Host.filter(id__in=ids, report_only=True).exists()
        try:
            async with asyncio.timeout(APPLY_SECONDS):
                known = await self._is_known(machine, gateway, wish.ruleset, told_only)
                drifted = await gateway.drift(wish.ruleset) if known and look else []
                again = look and bool(self._refused.get(machine))  # what was refused may be accepted by now
                if not known or ((drifted or again) and not told_only):
                    await self._apply(machine, gateway, wish.ruleset)
                complaints = await gateway.limit(wish.shaped)
        except (PanelError, TimeoutError) as error:
            return _reason(error)
        await self._notices.say(machine, "rates", complaints)
        if drifted and not told_only:
            await self._notices.put_right(machine, drifted)
        if look or not known or not told_only:
            await self._notices.differs(machine, ids, drifted if told_only else [])
        return None

    async def _is_known(self, machine: str, gateway: Gateway, ruleset: RuleSet, told_only: bool) -> bool:
        """Whether these rules were applied already; where drift is only told, by an earlier run of the panel too."""
        if machine in self._applied or not told_only:
            return self._applied.get(machine) == ruleset
        if isinstance(gateway, NativeGateway):  # which keeps no revision: what holds is with the forwards
            ids = [int(rule.id) for rule in ruleset.forwards]
            return not await Forward.filter(id__in=ids, applied_at=None).exists()
        return await gateway.revision() == ruleset.revision

    async def _apply(self, machine: str, gateway: Gateway, ruleset: RuleSet) -> None:
        if ruleset == RuleSet() and machine not in self._applied and not await gateway.present():
            return  # nothing wanted, nothing there: not our business
        applied = await gateway.apply(ruleset)
        self._counted.pop(machine, None)
        self._refused[machine] = applied.refused
        await self._traffic.retire(applied.retired)
        await self._notices.say(machine, "rules", applied.warnings)

    async def _applied_now(self, machine: str, ids: list[int], wish: Wish) -> None:
        rows = await Forward.filter(host_id__in=ids).values("id", "vm_id", "host_id", "state", "problem")
        refused = {int(name): text for name, text in self._refused.get(machine, {}).items()}
        wrong = self._drifted_forwards(machine, wish) | refused | wish.left_out
        there = {int(rule.id) for rule in wish.ruleset.forwards} - wrong.keys()
        news = [row for row in rows if row["id"] in there and row["state"] != RuleState.APPLIED]
        await Forward.filter(id__in=[row["id"] for row in news]).update(
            state=RuleState.APPLIED, applied_at=now(), problem=None
        )
        for row in rows:
            why = pack(wrong[row["id"]]) if row["id"] in wrong else None
            if why is not None and (row["state"], row["problem"]) != (RuleState.FAILED, why):
                await Forward.filter(id=row["id"]).update(state=RuleState.FAILED, problem=why)
                news.append(row)
        for row in news:
            self._events.publish(VmChanged(row["vm_id"], row["host_id"]))
        if machine in self._failing:
            self._failing.discard(machine)
            text = Text(_("The rules of {machine} are applied again."), {"machine": machine})
            await self._audit.write(PANEL, "gateway.applied", "gateway", machine, text)

    def _drifted_forwards(self, machine: str, wish: Wish) -> dict[int, Text]:
        """The forwards that drift touches; a part of the tables that is gone touches them all."""
        drifted = self._notices.drift(machine)
        text = Text(_("Someone changed its rules on the host, and the host's setting is to report that only."))
        every = any(item.kind is not DifferenceKind.FOREIGN and item.what in CARRYING for item in drifted)
        touched = {item.forward for item in drifted}
        return {int(rule.id): text for rule in wish.ruleset.forwards if every or rule.id in touched}

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

    # -- what pages show -----------------------------------------------------------------------------------------

    def drift_of(self, machine: str) -> list[Difference]:
        """What differs on a machine whose drift is only told; empty when nothing does."""
        return self._notices.drift(machine)

    def notices(self, host: Host) -> list[Text]:
        """What is to be said of the host's gateway: drift that stays, and what it warns of."""
        machine = self.machine(host)
        if machine is None:
            return []
        if not self._nodes.owns(host.id):  # as its process has noted
            return [text for row in host.notices or [] if (text := unpack(row))]
        return self._notices.of(machine)

    # -- behind everyone's back ----------------------------------------------------------------------------------

    def wake(self, host_id: int, *, look: bool = False) -> None:
        """Bring the host's machine in line soon; never waits. ``look``: nothing is known to have changed."""
        if not self._nodes.owns(host_id) and host_id not in self._machines:
            if not look:
                self._events.publish(RulesWanted(host_id))
            return
        self._waiting[host_id] = self._waiting.get(host_id, False) or not look
        self._arrived.set()

    async def _gained(self, host_ids: Sequence[int]) -> None:
        """What another process applied is looked at before it is believed."""
        for host_id in host_ids:
            self.wake(host_id)

    async def _lost(self, host_ids: Sequence[int]) -> None:
        """Another process serves them: nothing is remembered of their machines. The rules stay."""
        gone = set()
        for host_id in host_ids:
            self._waiting.pop(host_id, None)
            if job := self._serving.get(host_id):
                job.cancel()
                await asyncio.wait([job], timeout=1.0)
            if machine := self._machines.pop(host_id, ""):
                gone.add(machine)
        for machine in gone - set(self._machines.values()):
            for known in (self._applied, self._counted, self._looked):
                known.pop(machine, None)
            self._failing.discard(machine)
            self._notices.forget(machine)
            if self._gateways.pop(machine, None) is not None:
                await self._remotes.forget(machine)

    def start(self) -> None:
        """Begin to serve ``wake``."""
        loop = asyncio.get_running_loop()
        self._jobs = [loop.create_task(work, name="gateways") for work in (self._serve(), self._listen())]

    async def stop(self) -> None:
        """End. The rules stay as they are."""
        for job in (*self._jobs, *self._serving.values()):
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job
        await self._remotes.close()
        await self._natives.close()

    async def _listen(self) -> None:
        """The rules of a host that the panel forgets go; those of one that does not answer are looked at, which tells."""
        with self._events.subscribe() as events:
            async for event in events:
                if isinstance(event, HostRemoved | HostChanged):
                    self.wake(event.host_id, look=isinstance(event, HostChanged))

    async def _serve(self) -> None:
        """One job per host: a machine that hangs holds up nobody but its own hosts."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            for host_id in [each for each in self._waiting if each not in self._serving]:
                work = self._serve_host(host_id, self._waiting.pop(host_id))
                self._serving[host_id] = asyncio.get_running_loop().create_task(work, name=f"gateway {host_id}")

    async def _serve_host(self, host_id: int, changed: bool) -> None:
        try:
            await self._serve_one(host_id, changed)
        except Exception as error:
            if is_away(error):
                terminal.warning("the database does not answer", host=host_id, reason=type(error).__name__)
            else:
                terminal.exception("gateway not brought in line", host=host_id)
        finally:
            self._serving.pop(host_id, None)
            if host_id in self._waiting:
                self._arrived.set()

    async def _serve_one(self, host_id: int, changed: bool) -> None:
        host = await Host.get_or_none(id=host_id)
        machine = self.machine(host) or "" if host else ""
        former = self._machines.pop(host_id, machine)
        if machine:
            self._machines[host_id] = machine
        if former != machine:
            await self._leave(former)
        if host is None or not (host.enabled or changed):
            return
        due = time.monotonic() - self._looked.get(machine, -LOOK_EVERY) >= LOOK_EVERY
        if due:
            self._looked[machine] = time.monotonic()
        if due or changed or machine not in self._applied:
            async with self._slots if machine != LOCAL else nullcontext():
                await self.converge(host, look=due)

    async def _leave(self, machine: str) -> None:
        """A host that was this machine is so no more: its rules go, and with the last one all that we know of the machine."""
        gateway = self._gateways.get(machine)
        if gateway is None:
            return
        async with self.lock(machine):
            problem = await self._converge(machine, gateway, look=False)
            if problem is None and not await self.host_ids(machine):
                self._gateways.pop(machine, None)
                self._applied.pop(machine, None)
                self._refused.pop(machine, None)
                await self._remotes.forget(machine)
                await self._natives.forget(machine)


def _reason(error: PanelError | TimeoutError) -> Text:
    return error.text if isinstance(error, PanelError) else Text(_("The gateway did not answer in time."))
