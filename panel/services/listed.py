"""VMs as the API lists them: plain rows by few queries, for models of a thousand VMs cost more than all else of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from panel.engines.types import NicMode, PowerState
from panel.models import Address, Host, Nic, Traffic, Vm, VmTag
from panel.models.plain import plain_rows
from panel.services.traffic import this_month

FIELDS = (
    "id", "name", "title", "os_name", "cpu_count", "memory_mib", "disk_gib", "state", "known_state", "seen_at", "creating",
    "managed", "pending", "notes", "limits", "at_limit", "created_at",
)  # fmt: skip
NIC_FIELDS = ("id", "name", "mode", "mac", "network", "addresses")


@dataclass(slots=True)
class ListedNic:
    """As ``panel.models.Nic``. ``given``: the addresses that it was given."""

    id: int
    name: str
    mode: NicMode | None
    mac: str
    network: str
    addresses: list[str]
    given: Sequence[str] = ()


@dataclass(slots=True)
class ListedVm:
    """As ``panel.models.Vm``. ``used_bytes``: its traffic of this month."""

    id: int
    name: str
    title: str
    os_name: str
    cpu_count: int
    memory_mib: int
    disk_gib: float
    state: PowerState
    known_state: PowerState
    seen_at: datetime | None
    creating: bool
    managed: bool
    pending: list[str]
    notes: str
    limits: dict[str, int]
    at_limit: bool
    created_at: datetime
    nics: list[ListedNic] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    used_bytes: int = 0


async def vms_of(host: Host, name: str | None = None) -> list[ListedVm]:
    """The VMs of a host, by name, or the one of that name. Five queries, none of which names each VM."""
    wanted = {"host_id": host.id} if name is None else {"host_id": host.id, "name": name}
    made = await plain_rows(Vm.filter(**wanted).order_by("name").values_list(*FIELDS))
    rows = {row[0]: ListedVm(*row) for row in made}
    within = {f"vm__{key}": value for key, value in wanted.items()}
    nics: dict[int, ListedNic] = {}
    wired = Nic.filter(**within).order_by("name").values_list("vm_id", *NIC_FIELDS)
    for vm_id, *values in await plain_rows(wired):
        if vm_id in rows:
            nic = nics[values[0]] = ListedNic(*values)
            rows[vm_id].nics.append(nic)
    given = Address.filter(**{f"nic__{key}": value for key, value in within.items()}).order_by("id")
    for nic_id, ip in await given.values_list("nic_id", "ip"):
        if nic_id in nics:
            nics[nic_id].given = (*nics[nic_id].given, ip)
    for vm_id, tag in await VmTag.filter(**within).order_by("name").values_list("vm_id", "name"):
        if vm_id in rows:
            rows[vm_id].tags.append(tag)
    used = Traffic.filter(**within, month=this_month())
    for vm_id, sent, received in await used.values_list("vm_id", "sent_bytes", "received_bytes"):
        if vm_id in rows:
            rows[vm_id].used_bytes = sent + received
    return list(rows.values())
