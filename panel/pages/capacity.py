"""What a host has, what of it is given to VMs, and what that leaves; from the database, as last seen."""

from __future__ import annotations

from dataclasses import dataclass

from panel.i18n import gettext_noop as _
from panel.models.host import HostHealth
from panel.pages.filters import gib, mib, number
from panel.pages.rows import HostRow
from panel.pages.words import field_word, say

SHORT = {
    "cpu_num": _("More than is free: {free} of {total}. VMs will share cores."),
    "ram_num": _("More than is free: {free} of {total}. The host may run out of memory."),
    "hdd_num": _("More than is free: {free} of {total}. The host's disk may fill up."),
}
# the parts of what there is from which a bar is amber, and red (None: never); as on the dashboard
LIMITS: dict[str, tuple[float, float | None]] = {
    "cpu_num": (4.01, None),
    "ram_num": (0.9, 1.001),
    "hdd_num": (1.001, None),
}


@dataclass(frozen=True, slots=True)
class Room:
    """One thing that VMs are given of. Numbers in the unit of the form's field ``name``.

    Attributes:
        asked: what the form wants of it.
    """

    name: str
    total: float
    given: float
    asked: float = 0.0

    @property
    def free(self) -> float:
        """What is not given to any VM. Hosts may give more than they have; then it is 0."""
        return max(0.0, self.total - self.given)

    @property
    def label(self) -> str:
        """What the reader calls it."""
        return field_word(self.name)

    def words(self, amount: float) -> str:
        """An amount of it, with its unit."""
        show = {"ram_num": mib, "hdd_num": gib}.get(self.name, number)
        return show(amount) if amount else "0"

    @property
    def limits(self) -> tuple[float, float | None]:
        """As ``LIMITS``."""
        return LIMITS[self.name]

    @property
    def warning(self) -> str | None:
        """What is told about asking for more than is free."""
        if self.asked <= self.free:
            return None
        return say(SHORT[self.name], free=self.words(self.free), total=self.words(self.total))


def rooms(row: HostRow, cpu: float = 0, memory_mib: float = 0, disk_gib: float = 0) -> list[Room]:
    """The host's room for a VM of that size; empty when the host was never seen."""
    load = row.load
    if not load:
        return []
    return [
        Room("cpu_num", load.get("cpu_count") or 0, row.cpu, cpu),
        Room("ram_num", load.get("memory_total_mib") or 0, row.memory_mib, memory_mib),
        Room("hdd_num", load.get("disk_total_gib") or 0.0, row.disk_gib, disk_gib),
    ]


def roominess(row: HostRow) -> tuple[bool, float]:
    """The larger, the better for a new VM: a host that answers before one that does not, then free memory."""
    known = {room.name: room.free for room in rooms(row)}
    return row.host.health is HostHealth.ONLINE, known.get("ram_num", -1.0)
