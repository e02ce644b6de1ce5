"""How VMs and hosts were used, over time: rings of packed points (``panel.services.series``)."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from panel.models.host import Host
from panel.models.vm import Vm


class VmMetrics(Model):
    """A stretch of a VM's history at one resolution. A later stretch takes the place of the one in its ``slot``."""

    id = fields.BigIntField(primary_key=True)  # PostgreSQL counts it up with every write, also of a row that is there
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="metrics", on_delete=fields.CASCADE
    )
    vm_id: int
    step_seconds = fields.SmallIntField()  # of one point
    slot = fields.SmallIntField()
    start = fields.BigIntField()  # of the first point, seconds since 1970
    points = fields.BinaryField()

    class Meta:
        table = "vm_metrics"
        unique_together = (("vm", "step_seconds", "slot"),)


class HostMetrics(Model):
    """A stretch of a host's history at one resolution, kept as that of a VM."""

    id = fields.BigIntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="metrics", on_delete=fields.CASCADE
    )
    host_id: int
    step_seconds = fields.SmallIntField()
    slot = fields.SmallIntField()
    start = fields.BigIntField()
    points = fields.BinaryField()

    class Meta:
        table = "host_metrics"
        unique_together = (("host", "step_seconds", "slot"),)
