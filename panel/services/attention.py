"""What an operator should look at: what failed, what is gone, what ends or fills up soon. A fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Generic, TypeVar

from tortoise.expressions import Q
from tortoise.models import Model
from tortoise.queryset import QuerySet

from panel.engines.types import PowerState
from panel.i18n import Text
from panel.models import CertificateState, Forward, Host, Proxy, RuleState, Task, TaskStatus, Vm
from panel.models.host import HostHealth
from panel.services.clock import now
from panel.services.gateways import GatewayService
from panel.services.room import AddressRoom, PortRoom, address_room, port_room
from panel.settings import Settings

MOST = 5  # of one kind
RECENT = timedelta(hours=24)  # in which a failed task is news
ENDING = timedelta(days=14)  # before its end, a certificate should have been renewed
FREE_SHARE = 10  # a range is nearly full when at most one in so many is free

T = TypeVar("T")
M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """The first ``MOST`` of ``total``."""

    rows: Sequence[T]
    total: int

    @property
    def more(self) -> int:
        """How many are not among ``rows``."""
        return self.total - len(self.rows)


@dataclass(frozen=True, slots=True)
class PortsFull:
    """A protocol's ports of a host that are nearly used up."""

    host: Host
    protocol: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class GatewayNotice:
    """What a host's gateway has to say: drift that stays, or a warning."""

    host: Host
    text: Text


@dataclass(frozen=True, slots=True)
class Attention:
    """All that needs attention, by kind. Rows have their host and VM fetched.

    Attributes:
        missing: VMs that are not on their hosts.
        forwards / domains: not applied; their ``problem`` says why.
        certificates: of domains: failed, expired, or near their end.
        leftovers: hosts with files that no VM uses.
    """

    unreachable: Some[Host]
    tasks: Some[Task]
    missing: Some[Vm]
    forwards: Some[Forward]
    domains: Some[Proxy]
    gateways: Some[GatewayNotice]
    certificates: Some[Proxy]
    pools: Some[AddressRoom]
    ports: Some[PortsFull]
    leftovers: Some[Host]

    def __bool__(self) -> bool:
        return any(getattr(self, field.name).total for field in fields(self))


class AttentionService:
    """Finds what needs attention, in the database and in what the gateways last said."""

    def __init__(self, settings: Settings, gateways: GatewayService) -> None:
        self._settings = settings
        self._gateways = gateways

    async def read(self) -> Attention:
        """All of it: of rows that can be many, the newest first, and of certificates the one that ends first."""
        room = await port_room()
        hosts = [item.host for item in room]
        return Attention(
            unreachable=_some([host for host in hosts if host.health is HostHealth.UNREACHABLE]),
            tasks=await _first(failed_lately().order_by("-ended_at")),
            missing=await _first(Vm.filter(state=PowerState.MISSING).order_by("-state_since", "name"), "host"),
            forwards=await _first(Forward.filter(state=RuleState.FAILED).order_by("-id"), "host", "vm"),
            domains=await _first(Proxy.filter(state=RuleState.FAILED).order_by("-id"), "host", "vm"),
            gateways=_some(self._notices(hosts)),
            certificates=await _first(self._certificates().order_by("certificate_expires", "id"), "host", "vm"),
            pools=_some([item for item in await address_room() if _nearly_full(item)]),
            ports=_some([full for item in room for full in _full_ports(item)]),
            leftovers=_some([host for host in hosts if host.leftovers]),
        )

    def _notices(self, hosts: Sequence[Host]) -> list[GatewayNotice]:
        """Each once: hosts of one machine share its gateway."""
        found: list[GatewayNotice] = []
        for host in hosts:
            for text in self._gateways.notices(host):
                if all(text != known.text for known in found):
                    found.append(GatewayNotice(host, text))
        return found

    def _certificates(self) -> QuerySet[Proxy]:
        ending = Q(certificate_expires__lt=now() + ENDING)
        if self._settings.acme_directory == "internal":  # whose certificates live for hours, and are renewed in time
            ending &= Q(certificate_id__isnull=False)
        return Proxy.filter(
            Q(certificate_state__in=(CertificateState.FAILED, CertificateState.EXPIRED)) | ending, ssl=True
        )


def failed_lately() -> QuerySet[Task]:
    """The tasks that failed, or were cut off, within ``RECENT``."""
    return Task.filter(status__in=(TaskStatus.FAILED, TaskStatus.INTERRUPTED), ended_at__gte=now() - RECENT)


async def _first(query: QuerySet[M], *related: str) -> Some[M]:
    """Two queries, and one for each relation when there is anything."""
    total = await query.count()
    return Some(await query.limit(MOST).prefetch_related(*related) if total else [], total)


def _some(rows: Sequence[Any]) -> Some[Any]:
    return Some(rows[:MOST], len(rows))


def _nearly_full(item: AddressRoom) -> bool:
    """Of what is not kept back; a range that is all kept back is meant so."""
    usable = item.capacity.total - item.capacity.reserved
    return usable > 0 and item.capacity.free * FREE_SHARE <= usable


def _full_ports(item: PortRoom) -> list[PortsFull]:
    used = {"TCP": item.tcp, "UDP": item.udp}
    rows = [PortsFull(item.host, word, item.total - count, item.total) for word, count in used.items()]
    return [row for row in rows if row.free * FREE_SHARE <= row.total]
