"""Writing down what was seen: observations become rows, in bulk, and only what changed is written and told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from panel.engines.types import NicObservation, PowerState, VmObservation
from panel.events import EventBus, VmChanged
from panel.models import Address, Host, Nic, Vm
from panel.services.cleaning import cleaned
from panel.services.clock import now

STORED = (
    "title", "cpu_count", "memory_mib", "disk_gib", "state", "known_state", "state_since", "seen_at", "agent",
    "cpu_percent", "memory_used_mib", "rates", "hardware",
)  # fmt: skip  # not "pending" and "planned": their task writes them, and a row read before that must not undo it
QUIET = frozenset({"seen_at"})  # a change of these alone is no news
COUNTERS = {
    "disk_read": "disk_read_bytes",
    "disk_write": "disk_write_bytes",
    "net_rx": "net_rx_bytes",
    "net_tx": "net_tx_bytes",
}


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    seen: VmObservation


class Observations:
    """Applies what engines report to the rows of VMs."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._samples: dict[int, _Sample] = {}
        self._touched: dict[int, float] = {}
        self.rewired: Callable[[int], None] = lambda _host_id: None  # told of a host whose interfaces changed
        self.measured: Callable[[int, list[Vm]], None] = lambda _host_id, _vms: None  # told of what a round measured

    def touch(self, vm_id: int) -> None:
        """A service acts on the VM: a round that began before this must not overwrite what it finds."""
        self._touched[vm_id] = time.monotonic()

    def forget(self, vm_id: int) -> None:
        """The VM is gone."""
        self._samples.pop(vm_id, None)
        self._touched.pop(vm_id, None)

    async def apply_round(self, host: Host, seen: Iterable[VmObservation], began: float) -> None:
        """One round of a host. ``began``: ``time.monotonic()`` before the hypervisor was asked."""
        by_ref = {item.ref: cleaned(item) for item in seen}
        changed: list[Vm] = []
        unchanged: list[Vm] = []
        measured: list[Vm] = []
        for vm in await Vm.filter(host_id=host.id, creating=False).prefetch_related("nics"):
            if self._touched.get(vm.id, 0.0) >= began:
                continue
            observation = by_ref.get(vm.ref)
            if observation is None:
                news = self._mark(vm, PowerState.MISSING)
                self._samples.pop(vm.id, None)
            else:
                counted = vm.id in self._samples  # else its numbers are of long ago
                news = self._write(vm, observation)
                if counted and vm.state is PowerState.RUNNING:
                    measured.append(vm)
                if await self._write_nics(vm, observation.nics):
                    news = True
                    self.rewired(host.id)
            (changed if news else unchanged).append(vm)
        self.measured(host.id, measured)
        changed = [vm for vm in changed if self._touched.get(vm.id, 0.0) < began]
        if changed:
            await Vm.bulk_update(changed, fields=STORED, batch_size=200)
            await self._nothing_pends(changed)
        if unchanged:
            await Vm.filter(id__in=[vm.id for vm in unchanged]).update(seen_at=now())
        for vm in changed:
            self._events.publish(VmChanged(vm.id, host.id))

    async def apply_one(self, vm: Vm, observation: VmObservation) -> None:
        """One VM, just read."""
        self.touch(vm.id)
        await vm.fetch_related("nics")
        observation = cleaned(observation)
        self._write(vm, observation)
        if await self._write_nics(vm, observation.nics):
            self.rewired(vm.host_id)
        await vm.save(update_fields=STORED)
        await self._nothing_pends([vm])
        self._events.publish(VmChanged(vm.id, vm.host_id))

    async def apply_missing(self, vm: Vm) -> None:
        """One VM that was looked for and is not there."""
        self._mark(vm, PowerState.MISSING)
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

    async def _nothing_pends(self, seen: Iterable[Vm]) -> None:
        """What waits for the next start of a VM holds once it is off."""
        off = [vm for vm in seen if vm.pending and vm.state is PowerState.STOPPED]
        for vm in off:
            vm.pending, vm.planned = [], None
        if off:
            await Vm.filter(id__in=[vm.id for vm in off]).update(pending=[], planned=None)

    def _mark(self, vm: Vm, state: PowerState) -> bool:
        news = vm.state is not state
        if news:
            vm.state, vm.state_since = state, now()
        vm.known_state, vm.seen_at = state, now()
        vm.cpu_percent, vm.memory_used_mib, vm.rates, vm.agent = None, None, {}, None
        return news

    def _write(self, vm: Vm, seen: VmObservation) -> bool:
        before = {name: getattr(vm, name) for name in STORED if name not in QUIET}
        if vm.state is not seen.state:
            vm.state, vm.state_since = seen.state, now()
        vm.known_state, vm.seen_at = seen.state, now()
        if seen.title:
            vm.title = seen.title[:200]
        vm.cpu_count, vm.memory_mib = seen.cpu_count, seen.memory_mib
        if seen.disk_gib is not None:
            vm.disk_gib = round(seen.disk_gib, 2)
        vm.hardware = {"disks": [asdict(disk) for disk in seen.disks], "boot": list(seen.boot), "iso": seen.iso}
        vm.agent, vm.memory_used_mib = seen.agent, seen.memory_used_mib
        self._write_rates(vm, seen)
        return any(getattr(vm, name) != value for name, value in before.items())

    def _write_rates(self, vm: Vm, seen: VmObservation) -> None:
        last, moment = self._samples.get(vm.id), time.monotonic()
        if seen.state is not PowerState.RUNNING:
            self._samples.pop(vm.id, None)
            vm.cpu_percent, vm.rates = None, {}
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


def _nic_values(seen: NicObservation) -> dict[str, Any]:
    return {
        "mode": seen.mode,
        "network": seen.network,
        "addresses": list(seen.addresses),
        "port": seen.port,
        "model": seen.model,
    }


def _percent(before: float | None, after: float | None, capacity: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return round(min(100.0, 100.0 * (after - before) / capacity), 1)


def _rate(before: int | None, after: int | None, seconds: float) -> float | None:
    if before is None or after is None or after < before:
        return None
    return round((after - before) / seconds, 1)
