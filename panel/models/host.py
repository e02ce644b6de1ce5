"""A host: where a hypervisor is, how to reach it, and how it was when last seen."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from panel.engines.types import EngineKind


class HostHealth(StrEnum):
    """How a host was when the observer last looked."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    UNREACHABLE = "unreachable"
    DISABLED = "disabled"


class AtLimit(StrEnum):
    """What happens to a VM that has used its traffic of the month (``flu_num``)."""

    SLOW = "slow"
    CUT = "cut"


class Host(Model):
    """One hypervisor. ``secret`` is encrypted (``panel.security.SecretBox``)."""

    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=64, unique=True)
    engine = fields.CharEnumField(
        EngineKind, max_length=32, description="an EngineKind"
    )  # said, so that it never changes
    address = fields.CharField(max_length=255, default="")
    user = fields.CharField(max_length=128, default="")
    secret = fields.TextField(default="")
    disks_path = fields.CharField(max_length=512, default="")
    images_path = fields.CharField(max_length=512, default="")
    launch_path = fields.CharField(max_length=512, default="")
    options = fields.JSONField[dict[str, str]](default=dict)
    ports_start = fields.IntField(default=20000, db_default=20000)  # external ports that forwards are given from
    ports_close = fields.IntField(default=29999, db_default=29999)
    outside = fields.CharField(
        max_length=255, default="", db_default=""
    )  # what people type to reach it; empty: its own
    report_only = fields.BooleanField(default=False, db_default=False)  # drift of its rules is told, not put right
    strict_reports = fields.BooleanField(default=False, db_default=False)  # guests report from their own addresses only
    at_limit = fields.CharEnumField(AtLimit, max_length=8, default=AtLimit.SLOW, db_default=AtLimit.SLOW)
    at_limit_mbit = fields.IntField(default=1, db_default=1)  # what ``SLOW`` leaves
    enabled = fields.BooleanField(default=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    # what was seen
    health = fields.CharEnumField(HostHealth, max_length=16, default=HostHealth.UNKNOWN)
    health_since = fields.DatetimeField(null=True)
    problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text, as {"msgid", "params"}
    seen_at = fields.DatetimeField(null=True)
    version = fields.CharField(max_length=128, default="")
    status = fields.JSONField[dict[str, Any] | None](null=True)  # a HostStatus
    isos = fields.JSONField[list[dict[str, Any]] | None](null=True)  # Iso rows, as last listed
    leftovers = fields.JSONField[list[dict[str, Any]]](default=list)  # Leftover rows

    # who watches it, where several processes serve
    owner = fields.CharField(max_length=32, null=True, db_index=True)  # a ProcessNode's id
    machine = fields.CharField(max_length=64, default="", db_default="")  # whose local socket leads to it; empty: any
    notices = fields.JSONField[list[dict[str, Any]] | None](null=True)  # Text rows: what its gateway warns of

    class Meta:
        table = "host"
        ordering = ("name",)


class HostImage(Model):
    """An image of a host, as last listed: pages and the create check read this, not the hypervisor. ``format`` is ``iso`` for a
    CD image, which no VM is made from."""

    id = fields.IntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="images", on_delete=fields.CASCADE
    )
    host_id: int
    name = fields.CharField(max_length=200)
    key = fields.CharField(max_length=255)
    title = fields.CharField(max_length=255, default="")
    format = fields.CharField(max_length=32, default="")
    size_bytes = fields.BigIntField(default=0)
    virtual_gib = fields.FloatField(default=0.0)
    default_user = fields.CharField(max_length=64, default="root")
    added_at = fields.DatetimeField(null=True)  # when its file came to the host
    seen_at = fields.DatetimeField()

    class Meta:
        table = "host_image"
        unique_together = (("host", "key"),)
        ordering = ("name",)
