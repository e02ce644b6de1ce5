"""The panel's processes over one PostgreSQL. With SQLite there is one, which needs no row."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class ProcessNode(Model):
    """A process that runs. ``beat_at`` is by the clock of the database, so that no other needs to be right."""

    id = fields.CharField(max_length=32, primary_key=True)
    machine = fields.CharField(max_length=64)  # where its own sockets lead: a host "on this machine" is one machine's
    address = fields.CharField(max_length=128)  # where it listens, for people
    pid = fields.IntField()
    started_at = fields.DatetimeField()
    beat_at = fields.DatetimeField()

    class Meta:
        table = "process_node"
