"""How much room there is: free ports of each host's range, free addresses of each network and pool. A fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from tortoise.expressions import F
from tortoise.functions import Count
from tortoise.query_utils import Prefetch

from panel.models import Address, ForwardPort, Host, Network, Pool
from panel.services.spaces import Capacity, Space, capacity, spaces_of


@dataclass(frozen=True, slots=True)
class PortRoom:
    """A host's range of external ports. Each protocol has all of it."""

    host: Host
    tcp: int
    udp: int

    @property
    def total(self) -> int:
        """How many ports of one protocol there are."""
        return self.host.ports_close - self.host.ports_start + 1


@dataclass(frozen=True, slots=True)
class AddressRoom:
    """A space of addresses of a network, and how full it is. Of ``host`` the name alone is read."""

    host: Host
    network: Network
    space: Space
    capacity: Capacity


async def port_room() -> list[PortRoom]:
    """The ranges of all hosts, by name. Two queries."""
    counted = (
        await ForwardPort.filter(
            host__name__not="",  # joins the host, whose columns the next two compare with
            port__gte=F("host__ports_start"),
            port__lte=F("host__ports_close"),
        )
        .annotate(n=Count("id"))
        .group_by("host_id", "protocol")
        .values("host_id", "protocol", "n")
    )
    used = {(row["host_id"], row["protocol"]): int(row["n"]) for row in counted}
    hosts = await Host.all().order_by("name")
    return [PortRoom(host, used.get((host.id, "tcp"), 0), used.get((host.id, "udp"), 0)) for host in hosts]


async def address_room() -> list[AddressRoom]:
    """The spaces of all networks, by host and name. Four queries. What guests took without being given it is not known here."""
    hosts = Prefetch("host", Host.all().only("id", "name"))
    networks = await Network.all().order_by("host__name", "name").prefetch_related(hosts)
    pools = await Pool.all().order_by("id")
    given: dict[int, list[str]] = defaultdict(list)
    for network_id, ip in await Address.all().values_list("network_id", "ip"):
        given[int(network_id)].append(str(ip))
    return [
        AddressRoom(network.host, network, space, _capacity(space, tuple(given[network.id]), tuple(network.foreign)))
        for network in networks
        for space in spaces_of(network, pools)
    ]


@lru_cache(1000)
def _capacity(space: Space, given: tuple[str, ...], foreign: tuple[str, ...]) -> Capacity:
    """Which seldom changes, and costs a quarter of a dashboard of 100 networks."""
    return capacity(space, given, (*given, *foreign))
