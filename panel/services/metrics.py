"""Metrics history: what rounds of observation saw is kept in memory for a minute and then written in bulk.

``docs/decisions/0012-metrics-history.md`` says how it is stored and what it costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from tortoise.exceptions import IntegrityError

from panel.courtesy import Courtesy
from panel.models import Host, HostMetrics, Vm, VmMetrics
from panel.models.database import is_away
from panel.services.nodes import Nodes
from panel.services.observations import Known
from panel.services.series import (
    COARSE,
    DAY,
    FINE,
    GAP,
    HOUR,
    MIDDLE,
    POINT,
    Resolution,
    decode,
    decode_one,
    mean,
    patch,
    roll_up,
)
from panel.services.tracks import Track

FLUSH_SECONDS = 60.0
SHARED_FLUSH_SECONDS = 10.0  # where several processes serve
SLICE = 25  # VMs that are written at once: requests come first between two slices
REACH = 20.0  # seconds that one sample may stand for, at least; three rounds when they are slower
IDLE = 600.0  # seconds after which nothing is kept in memory of what is not measured any more
RATES = ("disk_read", "disk_write", "net_rx", "net_tx")
RANGES: dict[str, tuple[Resolution, int]] = {
    "1h": (FINE, HOUR),
    "24h": (MIDDLE, DAY),
    "7d": (COARSE, 7 * DAY),
    "90d": (COARSE, 90 * DAY),
}

terminal = structlog.get_logger("panel.metrics")


@dataclass(frozen=True, slots=True)
class Table:
    """Where the history of one kind of thing is kept: the model, and its column of whose it is."""

    model: type[VmMetrics] | type[HostMetrics]
    owners: type[Vm] | type[Host]
    owner: str


VMS = Table(VmMetrics, Vm, "vm_id")
HOSTS = Table(HostMetrics, Host, "host_id")


@dataclass(frozen=True, slots=True)
class History:
    """Series of equal length. ``values``: by field, a value for each ``step_seconds`` from ``start`` on, None for a gap."""

    step_seconds: int
    start: datetime
    values: dict[str, list[float | None]]


Points = Mapping[int, Mapping[int, bytes]]  # by owner and by the moment at which a point begins
Chunks = dict[tuple[int, int], bytearray]  # by owner and by the moment at which the chunk begins


class MetricsService:
    """Keeps and reads the history of VMs and hosts. ``clock``: seconds since 1970."""

    def __init__(
        self,
        observe_seconds: float,
        clock: Callable[[], float] = time.time,
        courtesy: Courtesy | None = None,
        nodes: Nodes | None = None,
    ) -> None:
        self._courtesy = courtesy or Courtesy()
        self._pause = FLUSH_SECONDS
        if nodes is not None and nodes.id is not None:  # what is not yet written, other processes do not show
            self._pause = SHARED_FLUSH_SECONDS
            nodes.lost.append(self._lost)
        self._reach = max(REACH, 3 * observe_seconds)
        self._clock = clock
        self._tracks: dict[Table, dict[int, Track]] = {VMS: {}, HOSTS: {}}
        self._measured: dict[int, set[int]] = {}  # by host, the VMs of its last round
        self._host_rates: dict[int, list[float]] = {}
        self._writing = asyncio.Lock()
        self._job: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write once a minute."""
        self._job = asyncio.get_running_loop().create_task(self._loop(), name="metrics")

    async def stop(self) -> None:
        """Write what was not yet written, and end."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait([self._job])
            self._job = None
        await self._flush_safely(everything=True)

    # -- what was seen ---------------------------------------------------------------------------------------------

    def vms_seen(self, host_id: int, vms: Iterable[Vm | Known]) -> None:
        """A round of a host went well and measured these VMs. Those that are off or were not seen are not among them."""
        moment, tracks = self._clock(), self._tracks[VMS]
        total = [0.0] * len(RATES)
        measured = self._measured[host_id] = set()
        for vm in vms:
            measured.add(vm.id)
            rates = [vm.rates.get(name) for name in RATES]
            track = tracks.get(vm.id)
            if track is None:
                track = tracks[vm.id] = Track()
            track.add(moment, (vm.cpu_percent, vm.memory_used_mib, *rates), self._reach)
            for place, rate in enumerate(rates):
                total[place] += rate or 0.0
        self._host_rates[host_id] = total

    def host_seen(self, host: Host) -> None:
        """A round of a host is over. Its rates are the sums of those of its VMs."""
        load, rates = host.status or {}, self._host_rates.pop(host.id, [None] * len(RATES))
        track = self._tracks[HOSTS].setdefault(host.id, Track())
        track.add(self._clock(), (load.get("cpu_percent"), load.get("memory_used_mib"), *rates), self._reach)

    async def _lost(self, host_ids: Sequence[int]) -> None:
        """Another process goes on with them: write what was seen, and forget it."""
        await self._flush_safely(everything=True)
        for host_id in host_ids:
            self._tracks[HOSTS].pop(host_id, None)
            self._host_rates.pop(host_id, None)
            for vm_id in self._measured.pop(host_id, ()):
                self._tracks[VMS].pop(vm_id, None)

    # -- writing ---------------------------------------------------------------------------------------------------

    async def flush(self, *, everything: bool = False) -> None:
        """Write the points that are complete; with ``everything`` the one at work too. What cannot be written is kept."""
        async with self._writing:
            for table, tracks in self._tracks.items():
                for owner, track in list(tracks.items()):
                    if everything:
                        track.close()
                    elif not track.closed and self._clock() - track.began > IDLE:
                        del tracks[owner]
                waiting = [owner for owner, track in tracks.items() if track.closed]
                for first in range(0, len(waiting), SLICE):
                    await self._courtesy.give_way()
                    await self._write(table, waiting[first : first + SLICE])

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            await self._flush_safely()

    async def _flush_safely(self, *, everything: bool = False) -> None:
        try:
            await self.flush(everything=everything)
        except Exception as error:  # the database does not answer: it may again
            if is_away(error):
                terminal.warning("metrics were not written", reason=type(error).__name__)
            else:
                terminal.exception("metrics were not written")

    async def _write(self, table: Table, owners: list[int]) -> None:
        tracks = self._tracks[table]
        batch = {owner: dict(tracks[owner].closed) for owner in owners}
        try:
            await self._store(table, batch)
        except IntegrityError:  # some are gone since
            there = set(await table.owners.filter(id__in=owners).values_list("id", flat=True))
            for owner in set(owners) - there:
                del tracks[owner], batch[owner]
            await self._store(table, batch)
        for owner, points in batch.items():
            tracks[owner].written(points)

    async def _store(self, table: Table, batch: Points) -> None:
        """Write points of ``FINE`` and, from what then stands there, the coarser ones that they are part of."""
        rows: list[Any] = []
        fine = await self._patched(table, FINE, batch, rows)
        middle = await self._patched(table, MIDDLE, _rolled(fine, batch, FINE, MIDDLE), rows)
        await self._patched(table, COARSE, _rolled(middle, batch, MIDDLE, COARSE), rows)
        await table.model.bulk_create(
            rows, on_conflict=[table.owner, "step_seconds", "slot"], update_fields=["start", "points"]
        )

    async def _patched(self, table: Table, resolution: Resolution, batch: Points, rows: list[Any]) -> Chunks:
        """Put points into their chunks as they are stored, add these to ``rows``, and return them."""
        wanted: dict[tuple[int, int], dict[int, bytes]] = {}
        for owner, points in batch.items():
            for moment, point in points.items():
                wanted.setdefault((owner, resolution.chunk_of(moment)), {})[moment] = point
        starts = {start for _owner, start in wanted}
        stored = (
            await table.model.filter(
                **{f"{table.owner}__in": list(batch)},
                step_seconds=resolution.step,
                slot__in=[resolution.slot_of(start) for start in starts],
                start__in=list(starts),
            ).values_list(table.owner, "start", "points")
            if wanted
            else []
        )
        known: dict[tuple[int, int], bytes] = {(owner, start): points for owner, start, points in stored}
        chunks: Chunks = {}
        for key, points in wanted.items():
            chunk = chunks[key] = bytearray(known.get(key) or bytes(resolution.chunk_bytes))
            patch(chunk, resolution, points)
            owner, start = key
            values = {table.owner: owner, "step_seconds": resolution.step, "slot": resolution.slot_of(start)}
            rows.append(table.model(**values, start=start, points=bytes(chunk)))
        return chunks

    # -- reading ---------------------------------------------------------------------------------------------------

    async def of_vm(self, vm: Vm, range_name: str) -> History:
        """A VM's history over one of ``RANGES``, up to now."""
        return await self._read(VMS, vm.id, *RANGES[range_name])

    async def of_host(self, host: Host, range_name: str) -> History:
        """A host's history over one of ``RANGES``, up to now."""
        return await self._read(HOSTS, host.id, *RANGES[range_name])

    async def cpu_of_vms(self, vm_ids: Sequence[int]) -> dict[int, list[float | None]]:
        """The CPU of VMs in each minute of the last hour, in percent. VMs of which nothing is known are left out. One
        query."""
        step = MIDDLE.step
        start = int(self._clock()) // step * step + step - HOUR
        points: dict[int, bytearray] = {}
        rows = await VmMetrics.filter(
            vm_id__in=vm_ids, step_seconds=step, start__gt=start - MIDDLE.chunk, start__lt=start + HOUR
        ).values_list("vm_id", "start", "points")
        for vm_id, begins, stored in rows:
            _lay(points.setdefault(vm_id, bytearray(GAP * (HOUR // step))), begins - start, stored, step)
        for vm_id in vm_ids:
            track = self._tracks[VMS].get(vm_id)
            minutes: dict[int, bytes] = {}
            for moment, point in track.unwritten().items() if track else ():
                minutes[moment - moment % step] = minutes.get(moment - moment % step, b"") + point
            for minute, fine in minutes.items():
                if start <= minute < start + HOUR:
                    laid = points.setdefault(vm_id, bytearray(GAP * (HOUR // step)))
                    _lay(laid, minute - start, mean(fine), step)
        return {vm_id: decode_one(laid, "cpu_percent") for vm_id, laid in points.items()}

    async def _read(self, table: Table, owner: int, resolution: Resolution, seconds: int) -> History:
        step = resolution.step
        end = int(self._clock()) // step * step + step
        start = end - seconds
        points = bytearray(GAP * (seconds // step))
        rows = await table.model.filter(
            **{table.owner: owner}, step_seconds=step, start__gt=start - resolution.chunk, start__lt=end
        ).values_list("start", "points")
        for begins, stored in rows:
            _lay(points, begins - start, stored, step)
        track = self._tracks[table].get(owner)
        if track is not None and resolution is FINE:
            for moment, point in track.unwritten().items():
                _lay(points, moment - start, point, step)
        return History(step, datetime.fromtimestamp(start, UTC), decode(points))


def _rolled(chunks: Chunks, batch: Points, source: Resolution, target: Resolution) -> Points:
    """The points of ``target`` that cover what is in ``batch``, from the chunks of ``source``."""
    made: dict[int, dict[int, bytes]] = {owner: {} for owner in batch}
    for owner, points in batch.items():
        by_chunk: dict[int, set[int]] = {}
        for moment in {moment - moment % target.step for moment in points}:
            by_chunk.setdefault(source.chunk_of(moment), set()).add(moment)
        for start, moments in by_chunk.items():
            made[owner] |= roll_up(chunks[owner, start], source, target, moments)
    return made


def _lay(points: bytearray, seconds: int, stored: bytes, step: int) -> None:
    """Lay stored points over ``points``, ``seconds`` after their beginning; what is outside is cut off."""
    place = seconds // step * POINT.size
    if place < 0:
        stored, place = stored[-place:], 0
    stored = stored[: max(0, len(points) - place)]
    points[place : place + len(stored)] = stored


def summary(values: list[float | None]) -> dict[str, float | None]:
    """The latest, lowest, average and highest of what is known. The latest is that of the last three points."""
    known = [value for value in values if value is not None]
    latest = next((value for value in reversed(values[-3:]) if value is not None), None)
    if not known:
        return {"latest": None, "lowest": None, "average": None, "highest": None}
    return {"latest": latest, "lowest": min(known), "average": sum(known) / len(known), "highest": max(known)}
