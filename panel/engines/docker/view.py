"""Looking: one list of all containers, one of notes; whole descriptions and what their images have are kept until they change."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from panel.engines.docker.client import Client, Json, container
from panel.engines.docker.guest import Tools, tools
from panel.engines.docker.limits import Limits, limits_of
from panel.engines.docker.marks import REF, Kind, Mark, Note, Notes, mark_of
from panel.engines.docker.networks import Site, endpoints, only
from panel.engines.docker.ports import Ports, ports_of
from panel.engines.docker.stats import Counters, Stats
from panel.engines.types import BootDevice, DiskObservation, NicMode, NicObservation, PowerState, VmObservation
from panel.errors import Conflict, EngineFailure, NotFound
from panel.i18n import gettext_noop as _

KEPT_SECONDS = 120.0
_REF = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}")
STATES = {
    "created": PowerState.STOPPED, "configured": PowerState.STOPPED, "initialized": PowerState.STOPPED,
    "exited": PowerState.STOPPED, "stopped": PowerState.STOPPED, "removing": PowerState.STOPPED,
    "running": PowerState.RUNNING, "stopping": PowerState.RUNNING, "paused": PowerState.SUSPENDED,
    "restarting": PowerState.CRASHED, "dead": PowerState.CRASHED,
}  # fmt: skip
NoteBook = dict[tuple[Kind, str], Note]


@dataclass(frozen=True, slots=True)
class Found:
    """A container of the host: its line of the list, and the panel's mark on it."""

    id: str
    line: Json
    mark: Mark | None

    @property
    def ref(self) -> str:
        """What the panel calls it: its own choice, or the number of what others made."""
        return self.mark.ref if self.mark else self.id

    @property
    def name(self) -> str:
        """As the daemon has it."""
        return str((self.line.get("Names") or ["/"])[0]).lstrip("/")

    @property
    def state(self) -> PowerState:
        """As the list says."""
        return STATES.get(str(self.line.get("State", "")).lower(), PowerState.UNKNOWN)


@dataclass(slots=True)
class _Kept:
    since: float
    key: tuple[Any, ...]
    whole: Json
    tools: Tools | None = None


class Viewer:
    """Reads the containers of a host."""

    def __init__(self, client: Client, notes: Notes, site: Site) -> None:
        self._client, self._notes, self._site = client, notes, site
        self._kept: dict[str, _Kept] = {}
        self._host: tuple[float, Json] = (0.0, {})
        self._stats = Stats(client)
        self.limits = Limits(client, notes)

    def forget(self, number: str) -> None:
        """Read it anew next time."""
        self._kept.pop(number, None)
        self._stats.forget(number)

    async def info(self) -> Json:
        """What the daemon says of its host; kept for a while."""
        since, info = self._host
        if not info or time.monotonic() - since > KEPT_SECONDS:
            info = await self._client.get("info")
            self._host = (time.monotonic(), info)
        return info

    async def one(self, ref: str) -> Found:
        """The container, read now. ``NotFound`` when it is not there."""
        if _REF.fullmatch(ref):
            wanted = f'{{"id":["{ref}"]}}' if len(ref) == 64 else only(REF, ref)
            for line in await self._lines(filters=wanted):
                found = Found(str(line["Id"]), line, mark_of(line.get("Labels")))
                if found.ref == ref:
                    return found
        raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])

    async def whole(self, one: Found) -> Json:
        """Its whole description, read now."""
        found: Json = await self._client.get(container(one.id, "/json"))
        return found

    async def observe(self) -> list[VmObservation]:
        """All containers of the host."""
        lines, notes, info = await asyncio.gather(self._lines(), self._notes.all(), self.info())
        return await self._look(lines, notes, info, every=True)

    async def inspect(self, ref: str) -> VmObservation:
        """One container, read now."""
        one = await self.one(ref)
        self._kept.pop(one.id, None)
        notes, info = await asyncio.gather(self._notes.all(), self.info())
        seen = await self._look([one.line], notes, info, every=False)
        if not seen:
            raise NotFound(_("There is no VM {ref} on the host. Scan the host to see what is there."), ref=ref[:64])
        return seen[0]

    async def _lines(self, **filters: str) -> list[Json]:
        found = await self._client.get("containers/json", all="1", **filters)
        return [line for line in found or () if isinstance(line, dict)]

    async def _look(self, lines: list[Json], notes: NoteBook, info: Json, *, every: bool) -> list[VmObservation]:
        library = [Found(str(line["Id"]), line, mark_of(line.get("Labels"))) for line in lines]
        if every:
            for number in self._kept.keys() - {one.id for one in library}:
                self.forget(number)
        kept = await asyncio.gather(*map(self._known, library))
        there = [(one, each) for one, each in zip(library, kept, strict=True) if each is not None]
        await self.limits.keep([(one.ref, each.whole) for one, each in there], notes)
        pids = [int((each.whole.get("State") or {}).get("Pid") or 0) for one, each in there if _on(one.state)]
        on = [one.id for one, _each in there if _on(one.state)]
        ports, stats = await asyncio.gather(ports_of(self._client, pids), self._stats.read(on, every=every))
        return [self._seen(one, each, stats.get(one.id, {}), ports, notes, info) for one, each in there]

    async def _known(self, one: Found) -> _Kept | None:
        """What is kept of a container, read anew when its line has changed; None for one that has just gone."""
        networks = ((one.line.get("NetworkSettings") or {}).get("Networks") or {}).items()
        key = (one.state, one.name, sorted((name, str(settings)) for name, settings in networks))
        kept = self._kept.get(one.id)
        try:
            if kept is None or kept.key != key or time.monotonic() - kept.since > KEPT_SECONDS:
                old = kept.tools if kept else None
                kept = self._kept[one.id] = _Kept(time.monotonic(), key, await self.whole(one), old)
            if kept.tools is None and one.state is PowerState.RUNNING:
                kept.tools = await tools(self._client, one.id)
        except NotFound:
            return None
        except (Conflict, EngineFailure):  # it is being removed
            if kept is None:
                return None
        return kept

    def _seen(
        self, one: Found, kept: _Kept, counted: Counters, ports: Ports, notes: NoteBook, info: Json
    ) -> VmObservation:
        noted = notes.get((Kind.TITLE, one.ref))
        title = str(noted.value) if noted else one.mark.title if one.mark else one.name
        cpus, memory = limits_of(kept.whole, notes.get((Kind.LIMITS, one.ref)), info)
        running = one.state is PowerState.RUNNING
        return VmObservation(
            ref=one.ref,
            name=one.name,
            title=title,
            state=one.state,
            cpu_count=cpus,
            memory_mib=memory,
            nics=tuple(self._nics(one, ports, notes)),
            os_name=short_name(str(one.line.get("Image", ""))),
            cpu_seconds=counted.get("cpu"),
            memory_used_mib=round(counted["memory"]) if "memory" in counted else None,
            disk_read_bytes=_whole(counted.get("read")),
            disk_write_bytes=_whole(counted.get("write")),
            net_rx_bytes=_whole(counted.get("rx")),
            net_tx_bytes=_whole(counted.get("tx")),
            agent=True if running and kept.tools is not None and kept.tools.answers else None,
            managed=one.mark is not None,
            disks=tuple(volumes(kept.whole)),
        )

    def _nics(self, one: Found, ports: Ports, notes: NoteBook) -> Iterable[NicObservation]:
        settings = (one.line.get("NetworkSettings") or {}).get("Networks") or {}
        asked = {nic[1]: nic for nic in one.mark.nics} if one.mark else {}
        names = [nic[1] for nic in one.mark.nics if nic[1] in settings] if one.mark else []
        for number, network in enumerate([*names, *(name for name in sorted(settings) if name not in names)]):
            ends = endpoints([one.line], notes, network)
            now = settings[network] or {}
            mac = ends[0].mac if ends else ""
            address = str(now.get("IPAddress") or "")
            wide = str(now.get("GlobalIPv6Address") or "")
            if not mac and not address:
                continue  # the host's own network, or none
            mode = asked[network][2] if network in asked else ""
            yield NicObservation(
                name=asked[network][0] if network in asked else f"eth{number}",
                mac=mac,
                mode=NicMode(mode) if mode else self._site.mode(network),
                network=network,
                addresses=tuple(text for text in (address, wide) if text) if _on(one.state) else (),
                port=ports.get(mac, "") if _on(one.state) else "",
                model="veth",
            )


def _on(state: PowerState) -> bool:
    return state in {PowerState.RUNNING, PowerState.SUSPENDED}


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def volumes(whole: Json) -> Iterable[DiskObservation]:
    """The volumes and folders of the host that a container has."""
    for mount in whole.get("Mounts") or ():
        volume = mount.get("Type") == "volume"
        source = str((mount.get("Name") if volume else "") or mount.get("Source") or "")
        yield DiskObservation(str(mount.get("Destination", "")), BootDevice.DISK, str(mount.get("Type", "")), source)


def short_name(image: str) -> str:
    """An image's name as people write it, whichever daemon says it."""
    return image.removeprefix("docker.io/library/").removeprefix("docker.io/")
