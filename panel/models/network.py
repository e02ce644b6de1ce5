"""Networks of hosts, the addresses that VMs were given on them, and the ports that lead to VMs: all of it as wanted."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from tortoise import fields
from tortoise.models import Model

from panel.engines.types import NicMode
from panel.models.host import Host
from panel.models.vm import Nic, Vm


class Network(Model):
    """A network as the host last told it. ``reserved`` and ``foreign`` are addresses that no VM is given."""

    id = fields.IntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="networks", on_delete=fields.CASCADE
    )
    host_id: int
    name = fields.CharField(max_length=64)
    mode = fields.CharEnumField(NicMode, max_length=16)
    bridge = fields.CharField(max_length=64, default="")
    subnet4 = fields.CharField(max_length=64, default="")
    gateway4 = fields.CharField(max_length=64, default="")
    subnet6 = fields.CharField(max_length=64, default="")
    gateway6 = fields.CharField(max_length=64, default="")
    forward_mode = fields.CharField(max_length=16, default="")
    reserved = fields.JSONField[list[list[str]]](default=list)  # [first, last] pairs that an operator keeps back
    foreign = fields.JSONField[list[str]](
        default=list
    )  # reserved or lent by the host's DHCP to MACs that are no VM's of ours

    class Meta:
        table = "network"
        unique_together = (("host", "name"),)
        ordering = ("name",)


class Pool(Model):
    """Addresses of a network that the host itself does not give: those of a bridge, as an operator wrote them down.

    ``ranges`` are the [first, last] pairs that VMs are given from, all of ``subnet`` when there are none. ``reserved`` is
    kept back. ``dns`` are the servers that guests are told of.
    """

    id = fields.IntField(primary_key=True)
    network: fields.ForeignKeyRelation[Network] = fields.ForeignKeyField(
        "models.Network", related_name="pools", on_delete=fields.CASCADE
    )
    network_id: int
    subnet = fields.CharField(max_length=64)
    gateway = fields.CharField(max_length=45, default="")
    dns = fields.JSONField[list[str]](default=list)
    ranges = fields.JSONField[list[list[str]]](default=list)
    reserved = fields.JSONField[list[list[str]]](default=list)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "pool"
        unique_together = (("network", "subnet"),)
        ordering = ("id",)


class Address(Model):
    """An address that an interface was given. ``ip`` is in its canonical form, so that the database tells two apart."""

    id = fields.IntField(primary_key=True)
    network: fields.ForeignKeyRelation[Network] = fields.ForeignKeyField(
        "models.Network", related_name="addresses", on_delete=fields.CASCADE
    )
    network_id: int
    nic: fields.ForeignKeyRelation[Nic] = fields.ForeignKeyField(
        "models.Nic", related_name="given", on_delete=fields.CASCADE
    )
    nic_id: int
    ip = fields.CharField(max_length=45)
    created_at = fields.DatetimeField(auto_now_add=True)

    class Meta:
        table = "address"
        unique_together = (("network", "ip"),)
        ordering = ("id",)


class RuleState(StrEnum):
    """Whether a rule (a forward, a proxy) holds. ``FAILED``: it does not, or nobody knows, and ``problem`` says why."""

    APPLYING = "applying"
    APPLIED = "applied"
    FAILED = "failed"


class Forward(Model):
    """Ports of a host that lead to a VM: ``external_start + n`` to ``internal_start + n``."""

    id = fields.IntField(primary_key=True)
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="forwards", on_delete=fields.CASCADE
    )
    host_id: int
    vm: fields.ForeignKeyRelation[Vm] = fields.ForeignKeyField(
        "models.Vm", related_name="forwards", on_delete=fields.CASCADE
    )
    vm_id: int
    protocol = fields.CharField(max_length=3)
    external_start = fields.IntField()
    external_end = fields.IntField()
    internal_ip = fields.CharField(max_length=45)
    internal_start = fields.IntField()
    state = fields.CharEnumField(RuleState, max_length=16, default=RuleState.APPLYING)
    problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text
    applied_at = fields.DatetimeField(null=True)
    created_at = fields.DatetimeField(auto_now_add=True)

    # what the panel found when it last tried the outside
    probe_open = fields.BooleanField(null=True)
    probe_at = fields.DatetimeField(null=True)
    probe_problem = fields.JSONField[dict[str, Any] | None](null=True)  # a Text

    @property
    def internal_end(self) -> int:
        """The last port on the VM."""
        return self.internal_start + self.external_end - self.external_start

    class Meta:
        table = "forward"
        ordering = ("id",)


class ForwardPort(Model):
    """One port that a forward has taken: the database itself gives each to one."""

    id = fields.IntField(primary_key=True)
    forward: fields.ForeignKeyRelation[Forward] = fields.ForeignKeyField(
        "models.Forward", related_name="ports", on_delete=fields.CASCADE
    )
    forward_id: int
    host: fields.ForeignKeyRelation[Host] = fields.ForeignKeyField(
        "models.Host", related_name="forward_ports", on_delete=fields.CASCADE
    )
    host_id: int
    protocol = fields.CharField(max_length=3)
    port = fields.IntField()

    class Meta:
        table = "forward_port"
        unique_together = (("host", "protocol", "port"),)
