"""Ports of the host that lead to instances: network forwards of the server (``/1.0/networks/NAME/forwards``).

Not proxy devices: those are a part of an instance, so that a rollback brings old ones back and a port that is in use keeps it
from starting; each is a process that hides who calls; and virtual machines take them with NAT only. A network forward needs an
address to listen on (``panel.engines.incus.listen``).

A forward of the server is one address of the host with all its ports, leads to one network, and is written whole: what others
have there is written again as it was read just before. Neither LXD nor Incus compares an ETag here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from panel.engines.common.forwards import description, mark_in
from panel.engines.hosttypes import NativeForward
from panel.engines.incus.client import Client
from panel.engines.incus.listen import Listen, Listening
from panel.engines.incus.networks import Interface, interfaces_of
from panel.engines.types import HostConnection
from panel.errors import Conflict, EngineFailure, NotFound, PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _

MADE = "user.openidcs.made"
ABOUT = "Port forwards of OpenIDCS Panel"
ELSEWHERE = "@"

Json = dict[str, Any]


Place = tuple[str, str, int]
"""Listen address, protocol, port."""


@dataclass(slots=True)
class Table:
    """What is forwarded from one address of the host to one network.

    Attributes:
        raw: as the server has it; None while it has none.
        ports: as the server writes them, each one port or many.
    """

    network: str
    listen: str
    raw: Json | None = None
    ports: list[Json] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Of the API."""
        return f"{below(self.network)}/{quote(self.listen, safe='')}"


class Forwards:
    """The forwards of one server. There is one change at a time."""

    def __init__(self, client: Client, connection: HostConnection) -> None:
        self._client = client
        self._listening = Listening(client, connection.options.get("forward_addr", ""))
        self._changing = asyncio.Lock()

    async def all(self) -> list[NativeForward]:
        """See ``Engine.native_forwards``. What listens on another address of the host is told where it is ours, with that address
        in its mark: the host's address was another one when it was made, and it is in nobody's way, but to be removed."""
        bridges = await self._bridges()
        tables, listen = await self._tables(bridges), await self._listen(bridges)
        found = []
        for table in tables:
            for port in table.ports:
                for one in expanded(port):
                    if table.listen in listen.values():
                        found.append(one)
                    elif one.mark:
                        found.append(replace(one, mark=f"{one.mark}{ELSEWHERE}{table.listen}"))
        return found

    async def change(self, remove: Sequence[NativeForward], add: Sequence[NativeForward]) -> dict[NativeForward, Text]:
        """See ``Engine.change_forwards``."""
        async with self._changing:
            return await self._change(remove, add)

    async def _change(self, remove: Sequence[NativeForward], add: Sequence[NativeForward]) -> dict[NativeForward, Text]:
        bridges = await self._bridges()
        listen = await self._listen(bridges)
        tables = await self._tables(bridges)
        there = {
            (table.listen, one.protocol, one.port): one
            for table in tables
            for port in table.ports
            for one in expanded(port)
        }
        gone: set[Place] = set()
        for one in remove:
            mark, _at, elsewhere = one.mark.partition(ELSEWHERE)
            place = (elsewhere or listen.get(ip_address(one.address).version, ""), one.protocol, one.port)
            known = there.get(place)
            if known is not None and (known.target, known.mark) == (one.target, mark):
                gone.add(place)
                del there[place]
        refused: dict[NativeForward, Text] = {}
        new: dict[tuple[str, str], list[NativeForward]] = {}
        for one in add:
            try:
                network, address = _way(one, bridges, listen)
                _check_free(tables, network, address)
                known = there.get((address, one.protocol, one.port))
                if known is not None and not _serves(known, one):
                    gone.add((address, one.protocol, one.port))
                    known = None
                if known is None:
                    new.setdefault((network, address), []).append(one)
            except PanelError as error:
                refused[one] = error.text
        tables += [Table(*key) for key in new if key not in {(table.network, table.listen) for table in tables}]
        for table in sorted(tables, key=lambda table: (table.network, table.listen) in new):
            added = new.get((table.network, table.listen), [])
            kept = [port for port in table.ports if not _is_one_of(port, table.listen, gone)]
            if added or kept != table.ports:
                refused |= await self._write(table, kept, added)
        return refused

    async def _write(self, table: Table, kept: list[Json], new: list[NativeForward]) -> dict[NativeForward, Text]:
        """All at once. Where the server refuses that, the half of it, until it is known what it refuses."""
        wished = [*kept, *map(written, new)]
        try:
            await self._put(table, wished)
        except (EngineFailure, Conflict) as error:
            if not new:
                raise
            if len(new) == 1:
                if kept != table.ports:
                    await self._put(table, kept)
                return {new[0]: error.text}
            half = len(new) // 2
            refused = await self._write(table, kept, new[:half])
            return refused | await self._write(table, table.ports, new[half:])
        return {}

    async def _put(self, table: Table, ports: list[Json]) -> None:
        ours = {"description": ABOUT, "config": {MADE: "true"}}
        if table.raw is None:
            if not ports:
                return
            body = ours | {"listen_address": table.listen, "ports": ports}
            await self._client.send("POST", below(table.network), body)
            table.raw = ours
        elif not ports and (table.raw.get("config") or {}) == ours["config"]:
            with suppress(NotFound):
                await self._client.send("DELETE", table.path)
            table.raw = None
        else:
            body = {name: table.raw.get(name) or empty for name, empty in (("description", ""), ("config", {}))}
            await self._client.send("PUT", table.path, body | {"ports": ports})
        table.ports = ports

    async def _bridges(self) -> dict[str, list[Interface]]:
        """The server's own addresses on its managed bridges, which alone have forwards with listen addresses of the host."""
        listed = await self._client.get("/1.0/networks", {"recursion": "1"})
        found = [one for one in listed or [] if one.get("managed") and one.get("type") == "bridge"]
        own = await asyncio.gather(*(interfaces_of(self._client, one) for one in found))
        return {str(one["name"]): interfaces for one, interfaces in zip(found, own, strict=True)}

    async def _listen(self, bridges: dict[str, list[Interface]]) -> Listen:
        return await self._listening.addresses(each for own in bridges.values() for each in own)

    async def _tables(self, bridges: Iterable[str]) -> list[Table]:
        read = await asyncio.gather(*map(self._tables_of, bridges))
        return [table for tables in read for table in tables]

    async def _tables_of(self, network: str) -> list[Table]:
        try:
            listed = await self._client.get(below(network), {"recursion": "1"})
        except NotFound:  # gone meanwhile
            return []
        return [Table(network, str(one["listen_address"]), one, one.get("ports") or []) for one in listed or []]


def below(network: str) -> str:
    """The forwards of a network in the API."""
    return f"/1.0/networks/{quote(network, safe='')}/forwards"


def expanded(port: Json) -> list[NativeForward]:
    """A row of a forward, port by port: ``{"listen_port": "80,90-92", "target_port": "", "target_address": "..."}``
    (no target port: the same). The panel's rows are of one port each."""
    listens = list(_numbers(str(port.get("listen_port") or "")))
    targets = list(_numbers(str(port.get("target_port") or ""))) or listens
    targets = targets * len(listens) if len(targets) == 1 else targets
    mark = mark_in(str(port.get("description") or "")) if len(listens) == 1 else ""
    address, protocol = str(port.get("target_address") or ""), str(port.get("protocol") or "")
    return [
        NativeForward(protocol, listen, address, target, mark) for listen, target in zip(listens, targets, strict=False)
    ]


def written(one: NativeForward) -> Json:
    """A row of the panel's."""
    return {
        "description": description(one.mark) if one.mark else "",
        "protocol": one.protocol,
        "listen_port": str(one.port),
        "target_port": str(one.target_port),
        "target_address": one.address,
    }


def _way(one: NativeForward, bridges: dict[str, list[Interface]], listen: Listen) -> tuple[str, str]:
    """The network that it leads to, and the address of the host that it listens on."""
    address = ip_address(one.address)
    network = next((name for name, own in bridges.items() if any(address in each.network for each in own)), "")
    if not network:
        raise Conflict(_("{address} is on no managed bridge of the host."), address=one.address)
    if address.version not in listen:
        raise Conflict(
            _("The panel sees no address of the host that forwards to {address} could listen on. Give it in the host's settings "
              "(forward_addr)."),
            address=one.address,
        )  # fmt: skip
    return network, listen[address.version]


def _check_free(tables: Iterable[Table], network: str, address: str) -> None:
    """``Conflict`` where the address leads to another network, or all of it to somebody's instance."""
    for table in tables:
        if table.listen != address:
            continue
        if table.network != network:
            raise Conflict(
                _("Address {address} of the host leads to network {name}, and leads to one network only. Give another one in the "
                  "host's settings (forward_addr)."),
                address=address, name=table.network,
            )  # fmt: skip
        whole = ((table.raw or {}).get("config") or {}).get("target_address")
        if whole:
            raise Conflict(
                _("Somebody else leads all of address {address} of the host to {target}. Give another one in the host's settings "
                  "(forward_addr)."),
                address=address, target=whole,
            )  # fmt: skip


def _serves(known: NativeForward, one: NativeForward) -> bool:
    """Whether what is there does already; ``Conflict`` where somebody else made it, and it does not."""
    if not known.mark and known.target != one.target:
        raise Conflict(
            _("Somebody else leads {protocol} port {port} of the host to {address} already."),
            protocol=one.protocol, port=one.port, address=known.address,
        )  # fmt: skip
    return known.target == one.target and known.mark in {"", one.mark}


def _is_one_of(port: Json, listen: str, places: set[Place]) -> bool:
    rows = expanded(port)
    return len(rows) == 1 and (listen, rows[0].protocol, rows[0].port) in places


def _numbers(text: str) -> Iterator[int]:
    """Ports: ``80``, ``80-90``, ``80,90-92``."""
    for part in filter(None, text.split(",")):
        first, _dash, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
