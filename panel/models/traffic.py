"""How much VMs sent and received, by month."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from panel.models.vm import Vm


class Traffic(Model):
    """Bytes of one VM in one month (UTC)."""

    id = fields.IntField(primary_key=True)
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="traffic", on_delete=fields.CASCADE
    )
    vm_id: int
    month = fields.CharField(max_length=7)  # 2026-11
    sent_bytes = fields.BigIntField(default=0)
    received_bytes = fields.BigIntField(default=0)

    class Meta:
        table = "traffic"
        unique_together = (("vm", "month"),)
        ordering = ("month",)


class TrafficMark(Model):
    """Where the kernel's counters of a VM stood when they were last added to ``Traffic``."""

    id = fields.IntField(primary_key=True)
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="marks", on_delete=fields.CASCADE, unique=True
    )
    vm_id: int
    sent_bytes = fields.BigIntField(default=0)
    received_bytes = fields.BigIntField(default=0)

    class Meta:
        table = "traffic_mark"
