"""How much VMs sent and received: the kernel's counters become months in the database, and a used-up month a limit.

``flu_num`` is GiB (2^30 bytes) a month, both directions together; 0 or none: no limit. Months are those of UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

import structlog
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from panel.events import EventBus, VmChanged
from panel.gateways.kernel import Traffic as Count
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Traffic, TrafficMark, Vm
from panel.models.host import AtLimit
from panel.security import PANEL
from panel.services.audit import AuditLog
from panel.services.clock import now
from panel.services.wishes import guest_id

GIB = 2**30
MONTHS = 12  # that a page shows

terminal = structlog.get_logger("panel.traffic")


@dataclass(frozen=True, slots=True)
class Usage:
    """A VM's traffic in bytes: of this month, and of the last ``MONTHS`` months, newest first. ``limit_bytes`` None: no limit."""

    sent_bytes: int
    received_bytes: int
    limit_bytes: int | None
    months: tuple[Traffic, ...]

    @property
    def total_bytes(self) -> int:
        """Of this month, both directions."""
        return self.sent_bytes + self.received_bytes


def this_month() -> str:
    """As in ``Traffic.month``."""
    return now().strftime("%Y-%m")


def limit_bytes(vm: Vm) -> int | None:
    """What the VM may send and receive in a month; None: as much as it likes."""
    return _most(vm.limits)


def _most(limits: Mapping[str, int]) -> int | None:
    return int(limits.get("flu_num", 0)) * GIB or None


async def usage(vm: Vm) -> Usage:
    """For the VM's page."""
    months = await Traffic.filter(vm_id=vm.id).order_by("-month").limit(MONTHS)
    current = next((row for row in months if row.month == this_month()), None)
    sent, received = (current.sent_bytes, current.received_bytes) if current else (0, 0)
    return Usage(sent, received, limit_bytes(vm), tuple(months))


async def totals(vm_ids: Collection[int]) -> dict[int, int]:
    """Bytes of this month by VM, both directions, in one query; VMs without traffic are not in it."""
    rows = await Traffic.filter(vm_id__in=list(vm_ids), month=this_month()).values(
        "vm_id", "sent_bytes", "received_bytes"
    )
    return {row["vm_id"]: row["sent_bytes"] + row["received_bytes"] for row in rows}


def grown(mark: Count, seen: Count) -> Count:
    """What came since ``mark``. A counter that fell began anew, and its twin with it: then all that it says came since."""
    if seen.sent_bytes < mark.sent_bytes or seen.received_bytes < mark.received_bytes:
        return seen
    return Count(seen.sent_bytes - mark.sent_bytes, seen.received_bytes - mark.received_bytes)


class TrafficKeeper:
    """Writes down what counters say, and says who has used up a month. Called by one at a time for each machine."""

    def __init__(self, events: EventBus, audit: AuditLog) -> None:
        self._events = events
        self._audit = audit

    async def count(self, host_ids: Collection[int], seen: Mapping[str, Count]) -> bool:
        """Add what came since the last time. VMs of the hosts that are not in ``seen`` have no counters: theirs begin at 0.
        False: it could not be written, and is with the next count."""
        counts = _by_id(seen)
        try:
            async with in_transaction("default"):
                await self._add(counts)
                gone = TrafficMark.filter(vm__host_id__in=list(host_ids)).exclude(vm_id__in=[*counts, 0])
                await TrafficMark.filter(id__in=await gone.values_list("id", flat=True)).delete()
        except IntegrityError:  # a VM was removed meanwhile
            terminal.info("traffic is counted at the next look")
            return False
        return True

    async def retire(self, counts: Mapping[str, Count]) -> None:
        """The last counts of VMs that are no longer counted."""
        last = _by_id(counts)
        try:
            async with in_transaction("default"):
                await self._add(last)
                await TrafficMark.filter(vm_id__in=[*last, 0]).delete()
        except IntegrityError:
            terminal.info("the last traffic of removed VMs is not counted")

    async def judge(self, host_ids: Collection[int]) -> None:
        """Mark the VMs that have used up their month, and unmark those that have not (any more)."""
        used: dict[int, int] = {}
        query = Traffic.filter(vm__host_id__in=list(host_ids), month=this_month())
        for row in await query.values("vm_id", "sent_bytes", "received_bytes"):
            used[row["vm_id"]] = row["sent_bytes"] + row["received_bytes"]
        for vm_id, limits, at_limit in await Vm.filter(host_id__in=list(host_ids)).values_list(
            "id", "limits", "at_limit"
        ):
            most = _most(limits)
            reached = most is not None and used.get(vm_id, 0) >= most
            if reached != at_limit and (vm := await Vm.get_or_none(id=vm_id)):
                await Vm.filter(id=vm_id).update(at_limit=reached)
                await self._tell(vm, reached)

    async def _add(self, counts: Mapping[int, Count]) -> None:
        known = {vm.id for vm in await Vm.filter(id__in=[*counts, 0]).only("id")}
        marks = {row.vm_id: row for row in await TrafficMark.filter(vm_id__in=[*known, 0])}
        months = {row.vm_id: row for row in await Traffic.filter(vm_id__in=[*known, 0], month=this_month())}
        new_marks: list[TrafficMark] = []
        moved: list[TrafficMark] = []
        new_months: list[Traffic] = []
        more: list[Traffic] = []
        for vm_id in sorted(known):
            seen, mark, month = counts[vm_id], marks.get(vm_id), months.get(vm_id)
            before = Count(mark.sent_bytes, mark.received_bytes) if mark else Count()
            came = grown(before, seen)
            if mark is None:
                new_marks.append(TrafficMark(vm_id=vm_id, **asdict(seen)))
            elif seen != before:
                moved.append(mark.update_from_dict(asdict(seen)))
            if came != Count() and month is None:
                new_months.append(Traffic(vm_id=vm_id, month=this_month(), **asdict(came)))
            elif came != Count() and month is not None:
                month.sent_bytes += came.sent_bytes
                month.received_bytes += came.received_bytes
                more.append(month)
        fields = ("sent_bytes", "received_bytes")
        if new_marks:
            await TrafficMark.bulk_create(new_marks)
        if new_months:
            await Traffic.bulk_create(new_months)
        if moved:
            await TrafficMark.bulk_update(moved, fields=fields, batch_size=200)
        if more:
            await Traffic.bulk_update(more, fields=fields, batch_size=200)

    async def _tell(self, vm: Vm, reached: bool) -> None:
        host = await Host.get(id=vm.host_id)
        values = {"vm": vm.name, "limit": vm.limits.get("flu_num", 0), "rate": host.at_limit_mbit}
        if not reached:
            text = Text(_("The traffic of VM {vm} is no longer limited."), values)
        elif host.at_limit is AtLimit.CUT:
            text = Text(_("VM {vm} has used its {limit} GiB of this month, and is cut off."), values)
        else:
            text = Text(_("VM {vm} has used its {limit} GiB of this month, and is slowed to {rate} Mbit/s."), values)
        action, level = ("vm.at_limit", "warning") if reached else ("vm.below_limit", "info")
        await self._audit.write(PANEL, action, "vm", f"{host.name}/{vm.name}", text, level=level)
        self._events.publish(VmChanged(vm.id, vm.host_id))


def _by_id(counts: Mapping[str, Count]) -> dict[int, Count]:
    return {number: count for name, count in counts.items() if (number := guest_id(name)) is not None}
