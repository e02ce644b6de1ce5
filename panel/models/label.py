"""What operators write on VMs, and the filters of lists that they keep."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from panel.models.vm import Vm


class VmTag(Model):
    """A word on a VM. ``name`` is normal (``panel.services.labels``): what is equal looks equal."""

    id = fields.IntField(primary_key=True)
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="tags", on_delete=fields.CASCADE
    )
    vm_id: int
    name = fields.CharField(max_length=32, db_index=True)

    class Meta:
        table = "vm_tag"
        unique_together = (("vm", "name"),)
        ordering = ("name",)


class SavedFilter(Model):
    """A filter of the VM list that ``actor`` named. ``query``: what stands in the list's address."""

    id = fields.IntField(primary_key=True)
    actor = fields.CharField(max_length=64)
    name = fields.CharField(max_length=40)
    query = fields.JSONField[dict[str, str]](default=dict)

    class Meta:
        table = "saved_filter"
        unique_together = (("actor", "name"),)
        ordering = ("name",)
