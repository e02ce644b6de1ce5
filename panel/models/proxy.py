"""Domains that lead to VMs, and the certificates that an operator brought for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from panel.models.host import Host
from panel.models.network import RuleState
from panel.models.vm import Vm


class CertificateState(StrEnum):
    """How the certificate of a domain is. ``NONE``: the domain has no TLS."""

    NONE = "none"
    WAITING = "waiting"
    VALID = "valid"
    FAILED = "failed"
    EXPIRED = "expired"


class Certificate(Model):
    """A certificate that an operator uploaded. ``private_key`` is encrypted (``panel.security.SecretBox``)."""

    id = fields.IntField(primary_key=True)
    names = fields.JSONField[list[str]](default=list)  # the domains it is for, wildcards as they are
    chain = fields.TextField()  # PEM, its own certificate first
    private_key = fields.TextField()
    issuer = fields.CharField(max_length=255, default="")
    expires_at = fields.DatetimeField()
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "certificate"
        ordering = ("id",)


class Proxy(Model):
    """A domain that leads to a port of a VM. ``domain`` is in its ASCII form (IDNA), lower case, perhaps ``*.`` first."""

    id = fields.IntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="proxies", on_delete=fields.CASCADE
    )
    host_id: int
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="proxies", on_delete=fields.CASCADE
    )
    vm_id: int
    domain = fields.CharField(max_length=253, unique=True)
    target_ip = fields.CharField(max_length=45)
    target_port = fields.IntField()
    ssl = fields.BooleanField(default=False)
    certificate: fields.ForeignKeyNullableRelation[Certificate] = fields.ForeignKeyField(
        "models.Certificate", related_name="proxies", on_delete=fields.SET_NULL, null=True
    )
    certificate_id: int | None
    state = fields.CharEnumField(RuleState, max_length=16, default=RuleState.APPLYING)
    problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text
    applied_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    # what was seen
    certificate_state = fields.CharEnumField(CertificateState, max_length=16, default=CertificateState.NONE)
    certificate_problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text
    certificate_issuer = fields.CharField(max_length=255, default="")
    certificate_expires = fields.DatetimeField(null=True)
    probe_open = fields.BooleanField(null=True)
    probe_at = fields.DatetimeField(null=True)
    probe_problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text

    class Meta:
        table = "proxy"
        ordering = ("id",)
