"""A VM: what was asked for, and what was last seen of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tortoise import fields
from tortoise.models import Model

from panel.engines.types import NicMode, PowerState
from panel.models.host import Host

if TYPE_CHECKING:
    from panel.models.label import VmTag


class Vm(Model):
    """One VM. ``name`` is the API's ``vm_uuid``, ``title`` its ``vm_name``, and ``ref`` is the hypervisor's own id."""

    id = fields.IntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="vms", on_delete=fields.CASCADE
    )
    host_id: int
    name = fields.CharField(max_length=64)
    ref = fields.CharField(max_length=128)
    title = fields.CharField(max_length=200, default="")
    os_name = fields.CharField(max_length=200, default="")
    user = fields.CharField(max_length=64, default="root")
    cpu_count = fields.IntField()
    memory_mib = fields.IntField()
    disk_gib = fields.FloatField(default=0.0)
    limits = fields.JSONField[dict[str, int]](default=dict)  # speed_u, speed_d, flu_num, nat_num, web_num
    managed = fields.BooleanField(default=True)  # made by the panel, not adopted
    creating = fields.BooleanField(default=False)  # its create task has not ended
    at_limit = fields.BooleanField(default=False, db_default=False)  # its traffic of the month is used up
    pending = fields.JSONField[list[str]](default=list)  # changes that wait for the next start
    notes = fields.TextField(default="", db_default="")  # of operators, for one another
    planned = fields.JSONField[dict[str, Any] | None](null=True)  # what they will make of it, by field
    created_at = fields.DatetimeField(auto_now_add=True)

    # what was seen
    state = fields.CharEnumField(PowerState, max_length=16, default=PowerState.UNKNOWN, db_index=True)
    known_state = fields.CharEnumField(PowerState, max_length=16, default=PowerState.UNKNOWN)  # last seen for sure
    state_since = fields.DatetimeField(null=True)
    seen_at = fields.DatetimeField(null=True)
    hardware = fields.JSONField[dict[str, Any] | None](null=True)  # disks (DiskObservation rows), boot, iso, screen
    agent = fields.BooleanField(null=True)
    cpu_percent = fields.FloatField(null=True)  # of all its virtual CPUs, 0..100
    memory_used_mib = fields.IntField(null=True)
    rates = fields.JSONField[dict[str, float]](default=dict)  # bytes/s: disk_read, disk_write, net_rx, net_tx
    report = fields.JSONField[dict[str, Any] | None](null=True)  # what the guest says of itself
    report_at = fields.DatetimeField(null=True)

    nics: fields.ReverseRelation[Nic]
    tags: fields.ReverseRelation[VmTag]

    class Meta:
        table = "vm"
        unique_together = (("host", "name"), ("host", "ref"))
        indexes = (
            ("title", "name", "id", "os_name"),  # how the list is sorted as it comes, and what is searched
            ("state", "creating", "title", "name"),  # the same of one state
            ("host_id", "state", "cpu_count", "memory_mib", "disk_gib"),  # what is counted of each host
            ("created_at",),  # the newest
        )
        ordering = ("name",)


class Nic(Model):
    """An interface of a VM. ``addresses`` are those last seen on it."""

    id = fields.IntField(primary_key=True)
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="nics", on_delete=fields.CASCADE
    )
    vm_id: int
    name = fields.CharField(max_length=32)
    mode = fields.CharEnumField(NicMode, max_length=16, null=True)
    mac = fields.CharField(max_length=17, db_index=True)
    network = fields.CharField(max_length=64, default="")
    addresses = fields.JSONField[list[str]](default=list)
    port = fields.CharField(max_length=15, default="", db_default="")  # the host's end of it while the VM runs
    model = fields.CharField(max_length=32, default="", db_default="")  # the card that the guest sees
    apart = fields.CharField(max_length=64, default="", db_default="")  # the machine where forwards do not reach it

    class Meta:
        table = "nic"
        unique_together = (("vm", "name"),)
        ordering = ("name",)
