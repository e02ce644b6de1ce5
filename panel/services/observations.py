"""Writing down what was seen: observations become rows, in bulk, and only what changed is written and told."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from panel.courtesy import Courtesy
from panel.engines.types import NicObservation, PowerState, Snapshot, VmObservation
from panel.events import EventBus, VmChanged
from panel.models import Address, Host, Nic, Vm
from panel.models.plain import plain_rows
from panel.models.writing import write_changes
from panel.services.cleaning import cleaned
from panel.services.clock import now

STORED = (
    "title", "cpu_count", "memory_mib", "disk_gib", "state", "known_state", "state_since", "seen_at", "agent",
    "cpu_percent", "memory_used_mib", "rates", "hardware",
)  # fmt: skip  # not "pending" and "planned": their task writes them, and a row read before that must not undo it
NEWS = tuple(name for name in STORED if name not in {"seen_at", "state_since"})  # what a change of is worth telling
READ = ("id", "ref", "pending", *NEWS)
NIC = ("mode", "network", "addresses", "port", "model", "apart")  # what is seen of an interface, beside its MAC
AT_ONCE = 2  # rounds at the database at the same time: a request waits for these few, not for all hosts
SLICE = 25  # VMs that are gone through at once: requests come first between two slices
COUNTERS = {
    "disk_read": "disk_read_bytes",
    "disk_write": "disk_write_bytes",
    "net_rx": "net_rx_bytes",
    "net_tx": "net_tx_bytes",
}


Wires = dict[str, tuple[Any, ...]]  # of one VM, by MAC: the values of ``NIC``


@dataclass(slots=True)
class Known:
    """What the row of a VM says of what was seen: no model, which would cost as much as all else of a round together.

    Attributes:
        state_since: set with a new state, else None.
        wires: its interfaces as they were, ``nic_ids`` their rows.
        nics: its interfaces as they were seen, where that is something else.
    """

    id: int
    ref: str
    pending: list[str]
    title: str
    cpu_count: int
    memory_mib: int
    disk_gib: float
    state: PowerState
    known_state: PowerState
    agent: bool | None
    cpu_percent: float | None
    memory_used_mib: int | None
    rates: dict[str, float]
    hardware: dict[str, Any] | None
    planned: dict[str, Any] | None = None
    state_since: datetime | None = None
    seen_at: datetime | None = None
    wires: Wires = field(default_factory=dict)
    nic_ids: dict[str, int] = field(default_factory=dict)
    nics: tuple[NicObservation, ...] | None = None

    def values(self) -> tuple[Any, ...]:
        """In the order of ``NEWS``."""
        return tuple(getattr(self, name) for name in NEWS)


@dataclass(frozen=True, slots=True)
class _Moment:
    """When a hypervisor was asked; its answer may be written down later."""

    at: float  # time.monotonic()
    when: datetime


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    seen: VmObservation


class Observations:
    """Applies what engines report to the rows of VMs."""

    def __init__(self, events: EventBus, courtesy: Courtesy | None = None) -> None:
        self._events = events
        self._courtesy = courtesy or Courtesy()
        self._samples: dict[int, _Sample] = {}
        self._touched: dict[int, float] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._storing: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)  # by host
        self.rewired: Callable[[int], None] = lambda _host_id: None  # told of a host whose interfaces changed
        self.measured: Callable[[int, Sequence[Known]], None] = lambda _host_id, _vms: (
            None
        )  # told what a round measured

    def touch(self, vm_id: int) -> None:
        """A service acts on the VM: a round that began before this must not overwrite what it finds."""
        self._touched[vm_id] = time.monotonic()

    def forget(self, vm_id: int) -> None:
        """The VM is gone."""
        self._samples.pop(vm_id, None)
        self._touched.pop(vm_id, None)

    async def apply_round(self, host: Host, seen: Iterable[VmObservation], began: float) -> None:
        """One round of a host. ``began``: ``time.monotonic()`` before the hypervisor was asked."""
        async with self._slots:
            await self._apply_round(host, {item.ref: item for item in seen}, began)

    async def _apply_round(self, host: Host, by_ref: Mapping[str, VmObservation], began: float) -> None:
        await self._courtesy.give_way()
        rows = await _known(host)
        asked = _Moment(began, now() - timedelta(seconds=time.monotonic() - began))
        changes: dict[int, dict[str, Any]] = {}
        measured: list[Known] = []
        for number, vm in enumerate(rows, 1):
            if self._touched.get(vm.id, 0.0) < began:
                before, counted = vm.values(), vm.id in self._samples  # else its numbers are of long ago
                self._apply(vm, by_ref.get(vm.ref), asked)
                if changed := _changed(vm, before):
                    changes[vm.id] = changed
                if counted and vm.state is PowerState.RUNNING:
                    measured.append(vm)
            if number % SLICE == 0:
                await self._courtesy.give_way()
        self.measured(host.id, measured)
        await self._store_round(host, rows, changes, asked)

    def _apply(self, vm: Known, seen: VmObservation | None, asked: _Moment) -> None:
        if seen is None:
            self._mark(vm, PowerState.MISSING, asked.when)
            self._samples.pop(vm.id, None)
            return
        seen = cleaned(seen)
        self._write(vm, seen, asked)
        if vm.wires != _wires(seen.nics):
            vm.nics = seen.nics

    async def _store_round(
        self, host: Host, rows: Sequence[Known], changes: dict[int, dict[str, Any]], asked: _Moment
    ) -> None:
        """Write what changed, and of all that they were seen; but of those that a service touched meanwhile, nothing: that is
        looked at when nobody else can write any more."""
        await self._courtesy.give_way()
        async with self._storing[host.id]:
            touched = [vm.id for vm in rows if self._touched.get(vm.id, 0.0) >= asked.at]
            for vm_id in touched:
                changes.pop(vm_id, None)
            await write_changes(Vm, changes)
            rewired = await self._rewire([vm for vm in rows if vm.nics is not None and vm.id not in touched])
            await self._nothing_pends([vm for vm in rows if vm.id in changes])
            if rows:
                seen = Vm.filter(host_id=host.id, creating=False, id__lte=max(vm.id for vm in rows))
                await (seen.exclude(id__in=touched) if touched else seen).update(seen_at=asked.when)
        if rewired:
            self.rewired(host.id)
        for vm_id in [vm.id for vm in rows if vm.id in changes or vm.id in rewired]:
            self._events.publish(VmChanged(vm_id, host.id))

    async def _rewire(self, vms: Iterable[Known]) -> set[int]:
        """Bring interfaces in line with what was seen: those that are known in bulk, the others one by one. Whose changed."""
        changes: dict[int, dict[str, Any]] = {}
        rewired = set()
        for vm in vms:
            seen = _wires(vm.nics or ())
            if seen.keys() == vm.wires.keys():
                for mac, values in seen.items():
                    pairs = zip(NIC, values, vm.wires[mac], strict=True)
                    changes[vm.nic_ids[mac]] = {name: value for name, value, old in pairs if value != old}
                rewired.add(vm.id)
                continue
            row = await Vm.get_or_none(id=vm.id).prefetch_related("nics")
            if row is not None and await self._write_nics(row, vm.nics or ()):
                rewired.add(vm.id)
        await write_changes(Nic, changes)
        return rewired

    async def apply_one(self, vm: Vm, observation: VmObservation) -> None:
        """One VM, just read."""
        self.touch(vm.id)
        async with self._storing[vm.host_id]:
            await vm.fetch_related("nics")
            observation = cleaned(observation)
            self._write(vm, observation, _Moment(time.monotonic(), now()))
            if await self._write_nics(vm, observation.nics):
                self.rewired(vm.host_id)
            await vm.save(update_fields=STORED)
            await self._nothing_pends([vm])
        self._events.publish(VmChanged(vm.id, vm.host_id))

    async def apply_missing(self, vm: Vm) -> None:
        """One VM that was looked for and is not there."""
        self.touch(vm.id)
        async with self._storing[vm.host_id]:
            self._mark(vm, PowerState.MISSING, now())
            await vm.save(update_fields=STORED)
        self._events.publish(VmChanged(vm.id, vm.host_id))

    async def host_lost(self, host: Host) -> None:
        """The host does not answer: nobody knows the state of its VMs now; when they were seen stays."""
        vms = await Vm.filter(host_id=host.id).exclude(state=PowerState.UNKNOWN)
        await Vm.filter(id__in=[vm.id for vm in vms]).update(
            state=PowerState.UNKNOWN, state_since=now(), cpu_percent=None, rates={}
        )
        for vm in vms:
            self._samples.pop(vm.id, None)
            self._events.publish(VmChanged(vm.id, host.id))

    async def _nothing_pends(self, seen: Iterable[Vm | Known]) -> None:
        """What waits for the next start of a VM holds once it is off."""
        off = [vm for vm in seen if vm.pending and vm.state is PowerState.STOPPED]
        for vm in off:
            vm.pending, vm.planned = [], None
        if off:
            await Vm.filter(id__in=[vm.id for vm in off]).update(pending=[], planned=None)

    def _mark(self, vm: Vm | Known, state: PowerState, when: datetime) -> None:
        if vm.state is not state:
            vm.state, vm.state_since = state, when
        vm.known_state, vm.seen_at = state, when
        vm.cpu_percent, vm.memory_used_mib, vm.rates, vm.agent = None, None, {}, None

    def _write(self, vm: Vm | Known, seen: VmObservation, asked: _Moment) -> None:
        if vm.state is not seen.state:
            vm.state, vm.state_since = seen.state, asked.when
        vm.known_state, vm.seen_at = seen.state, asked.when
        if seen.title:
            vm.title = seen.title[:200]
        vm.cpu_count, vm.memory_mib = seen.cpu_count, seen.memory_mib
        if seen.disk_gib is not None:
            vm.disk_gib = round(seen.disk_gib, 2)
        vm.hardware = {
            "disks": [asdict(disk) for disk in seen.disks],
            "boot": list(seen.boot),
            "iso": seen.iso,
            "snapshots": [_snapshot(one) for one in seen.snapshots],
            "screen": seen.screen,
        }
        vm.agent, vm.memory_used_mib = seen.agent, seen.memory_used_mib
        self._write_rates(vm, seen, asked.at)

    def _write_rates(self, vm: Vm | Known, seen: VmObservation, moment: float) -> None:
        last = self._samples.get(vm.id)
        if seen.state is not PowerState.RUNNING:
            self._samples.pop(vm.id, None)
            vm.cpu_percent, vm.rates = None, {}
            return
        if seen.load is not None:
            vm.cpu_percent = None if seen.load.cpu_percent is None else round(seen.load.cpu_percent, 1)
            vm.rates = {name: round(rate, 1) for name in COUNTERS if (rate := getattr(seen.load, name)) is not None}
            return
        if last is not None and moment - last.at < 1.0:
            return  # too close together to divide by
        self._samples[vm.id] = _Sample(moment, seen)
        if last is None:
            return
        seconds = moment - last.at
        vm.cpu_percent = _percent(last.seen.cpu_seconds, seen.cpu_seconds, seconds * max(1, seen.cpu_count))
        vm.rates = {
            name: rate
            for name, counter in COUNTERS.items()
            if (rate := _rate(getattr(last.seen, counter), getattr(seen, counter), seconds)) is not None
        }

    async def _write_nics(self, vm: Vm, seen: tuple[NicObservation, ...]) -> bool:
        """Bring the interfaces in line with what was seen; says whether anything changed."""
        known = {nic.mac: nic for nic in vm.nics}
        news = False
        for item in seen:
            nic = known.pop(item.mac, None)
            if nic is None:
                names = {row.name for row in vm.nics}
                free = next(f"eth{n}" for n in range(len(names) + 1) if f"eth{n}" not in names)
                await Nic.create(vm=vm, name=free, **_nic_values(item), mac=item.mac)
                await vm.fetch_related("nics")
                news = True
            elif (values := _nic_values(item)) != {name: getattr(nic, name) for name in values}:
                await nic.update_from_dict(values).save(update_fields=list(values))
                news = True
        for nic in known.values():
            if not await Address.exists(nic_id=nic.id):
                await nic.delete()
                news = True
            elif nic.addresses or nic.port:  # what was given is a wish: not seeing the interface does not end it
                await nic.update_from_dict({"addresses": [], "port": ""}).save(update_fields=["addresses", "port"])
                news = True
        return news


async def _known(host: Host) -> list[Known]:
    """The VMs of a host that are made, with their interfaces. Two queries, no models."""
    made = await plain_rows(Vm.filter(host_id=host.id, creating=False).order_by("id").values_list(*READ))
    rows = {values[0]: Known(*values) for values in made}
    nics = Nic.filter(vm__host_id=host.id).order_by("id").values_list("vm_id", "id", "mac", *NIC)
    for vm_id, nic_id, mac, *values in await plain_rows(nics):
        if vm_id in rows:
            rows[vm_id].wires[mac] = tuple(values)
            rows[vm_id].nic_ids[mac] = nic_id
    return list(rows.values())


def _changed(vm: Known, before: tuple[Any, ...]) -> dict[str, Any]:
    changed = {name: getattr(vm, name) for name, old in zip(NEWS, before, strict=True) if getattr(vm, name) != old}
    return changed | ({"state_since": vm.state_since} if vm.state_since else {})


def _snapshot(seen: Snapshot) -> dict[str, Any]:
    taken = seen.taken_at.isoformat() if seen.taken_at else None
    return asdict(seen) | {"taken_at": taken}


def _wires(seen: Iterable[NicObservation]) -> Wires:
    return {nic.mac: tuple(_nic_values(nic).values()) for nic in seen}


def _nic_values(seen: NicObservation) -> dict[str, Any]:
    return {
        "mode": seen.mode,
        "network": seen.network,
        "addresses": list(seen.addresses),
        "port": seen.port,
        "model": seen.model,
        "apart": seen.apart[:64],
    }


def _percent(before: float | None, after: float | None, capacity: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return round(min(100.0, 100.0 * (after - before) / capacity), 1)


def _rate(before: int | None, after: int | None, seconds: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return round((after - before) / seconds, 1)
