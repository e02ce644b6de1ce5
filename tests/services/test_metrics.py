"""Metrics history: from rounds of observation to rows and back, in bounded memory and within its budget of disk."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tortoise.exceptions import OperationalError

from panel.app import create_app
from panel.engines.types import EngineKind
from panel.models import Host, HostMetrics, Vm, VmMetrics
from panel.models.database import close_database, open_database
from panel.services import metrics as module
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.services.metrics import RANGES, VMS, History, MetricsService, summary
from panel.services.series import FIELDS, RESOLUTIONS, decode
from panel.services.tracks import MOST_WAITING, Track
from panel.settings import Settings
from tests.conftest import ADMIN
from tests.services import history
from tests.services.kit import make, until

BUDGET_KIB = 160  # of disk for each VM with a full history, as docs/decisions/0012-metrics-history.md says
MEMORY_BYTES = 2560  # for each VM that is measured
NOON = 1_700_006_400  # a whole day in UTC: all resolutions begin here


class Clock:
    """Seconds since 1970, turned by a test."""

    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def database(tmp_path: Path, migrated: Path) -> AsyncIterator[Path]:
    """An empty database, open."""
    path = tmp_path / "panel.sqlite3"
    path.write_bytes(migrated.read_bytes())
    await open_database(f"sqlite://{path}")
    yield path
    await close_database()


class Site:
    """A host with VMs, and a history of them."""

    def __init__(self, host: Host, vms: list[Vm]) -> None:
        self.clock = Clock()
        self.metrics = MetricsService(5.0, self.clock)
        self.host, self.vms = host, vms
        host.status = {"cpu_percent": 50.0, "memory_used_mib": 4000}

    @classmethod
    async def make(cls, count: int = 1) -> Site:
        host = await Host.create(name="h", engine="fake", enabled=False)
        rows = [Vm(host=host, name=f"v{n}", ref=f"r{n}", cpu_count=1, memory_mib=512) for n in range(count)]
        await Vm.bulk_create(rows)
        return cls(host, await Vm.all())

    def see(self, cpu: float | None, **rates: float) -> None:
        for vm in self.vms:
            vm.cpu_percent, vm.memory_used_mib, vm.rates = cpu, 256, rates
        self.metrics.vms_seen(self.host.id, self.vms)
        self.metrics.host_seen(self.host)

    def run(self, seconds: int, cpu: float, every: float = 5.0) -> None:
        """Rounds for ``seconds``."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.see(cpu, disk_read=1000.0, net_rx=10.0)
            self.clock.now += every

    async def cpu(self, span: str) -> list[float | None]:
        return (await self.metrics.of_vm(self.vms[0], span)).values["cpu_percent"]


@pytest.fixture
async def site(database: Path) -> Site:
    return await Site.make()


def at(history_: History, moment: int) -> dict[str, float | None]:
    """What a history says of one moment."""
    place = (moment - int(history_.start.timestamp())) // history_.step_seconds
    return {field: values[place] for field, values in history_.values.items()}


async def test_rounds_become_points_of_all_resolutions(site: Site) -> None:
    site.run(60, 10)
    site.run(60, 30)
    site.run(13 * 60, 20)
    await site.metrics.flush(everything=True)
    vm = site.vms[0]
    fine, middle, week = [await site.metrics.of_vm(vm, span) for span in ("1h", "24h", "7d")]
    assert at(fine, NOON + 50)["cpu_percent"] == pytest.approx(10, abs=0.01)
    assert at(fine, NOON + 60)["cpu_percent"] == pytest.approx(30, abs=0.01)
    assert at(middle, NOON)["cpu_percent"] == pytest.approx(10, abs=0.01)
    assert at(middle, NOON + 60)["cpu_percent"] == pytest.approx(30, abs=0.02)
    assert at(week, NOON)["cpu_percent"] == pytest.approx(20, abs=0.02)
    assert at(week, NOON)["disk_read_bytes_per_second"] == pytest.approx(1000, rel=0.001)
    assert at(week, NOON)["disk_write_bytes_per_second"] is None
    assert at(week, NOON - 900)["cpu_percent"] is None


async def test_flushes_of_a_minute_make_the_same_as_one(site: Site) -> None:
    """Averages are made of what stands in the database: also across a restart in between."""
    for minute in range(15):
        site.run(60, minute)
        site.metrics = MetricsService(5.0, site.clock) if minute == 7 else site.metrics  # minute 7 dies with it
        await site.metrics.flush(everything=True)
    minutes = (await site.cpu("24h"))[-16:-1]
    assert [value is None for value in minutes] == [minute == 7 for minute in range(15)]
    wanted = sum(n for n in range(15) if n != 7) / 14
    assert (await site.cpu("7d"))[-2] == pytest.approx(wanted, abs=0.03)


async def test_what_is_not_written_is_read_all_the_same(site: Site) -> None:
    site.run(30, 40)
    assert await VmMetrics.all().count() == 0
    assert [value for value in await site.cpu("1h") if value is not None] == pytest.approx([40.0] * 3, abs=0.02)


async def test_a_gap_stays_a_gap(site: Site) -> None:
    site.run(60, 10)
    site.clock.now += 300  # the host does not answer, or the VM is off
    site.run(60, 10)
    await site.metrics.flush(everything=True)
    values = (await site.cpu("1h"))[-43:-1]
    assert [value is None for value in values] == [False] * 6 + [True] * 30 + [False] * 6
    assert (await site.cpu("24h"))[-8:-1].count(None) == 5


async def test_slow_rounds_make_no_holes(site: Site) -> None:
    """A sample stands for the time since the one before it."""
    site.run(120, 10, every=14.0)
    assert (await site.cpu("1h"))[-12:].count(None) <= 1
    slow = MetricsService(60.0, site.clock)
    site.metrics = slow
    site.run(600, 10, every=60.0)
    assert (await site.cpu("1h"))[-54:].count(None) <= 6  # those after the last sample


async def test_a_host_has_the_sums_of_its_vms(database: Path) -> None:
    site = await Site.make(3)
    site.run(60, 10)
    await site.metrics.flush(everything=True)
    seen = at(await site.metrics.of_host(site.host, "1h"), NOON + 20)
    assert seen["cpu_percent"] == pytest.approx(50, abs=0.02)
    assert seen["memory_used_mib"] == pytest.approx(4000, rel=0.001)
    assert seen["disk_read_bytes_per_second"] == pytest.approx(3000, rel=0.001)
    assert await HostMetrics.all().count() == 3


async def test_rings_are_written_over(site: Site) -> None:
    for _hour in range(4):
        site.run(3600, 10, every=10)
        await site.metrics.flush(everything=True)
    assert await VmMetrics.filter(step_seconds=10).count() == 7
    values = await site.cpu("1h")
    assert len(values) == 360
    assert values[:-1].count(None) == 0


@pytest.mark.parametrize("span", RANGES)
async def test_ranges_are_as_long_as_they_say(site: Site, span: str) -> None:
    resolution, seconds = RANGES[span]
    found = await site.metrics.of_vm(site.vms[0], span)
    assert found.step_seconds == resolution.step
    assert {len(values) for values in found.values.values()} == {seconds // resolution.step}
    assert int(found.start.timestamp()) % resolution.step == 0
    assert set(found.values) == set(FIELDS)


async def test_what_cannot_be_written_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run(60, 10)
    with monkeypatch.context() as broken:

        async def refuse(*_args: object, **_kwargs: object) -> None:
            raise OperationalError("the disk is full")

        broken.setattr(VmMetrics, "bulk_create", refuse)
        with pytest.raises(OperationalError):
            await site.metrics.flush()
    site.run(30, 10)
    await site.metrics.flush(everything=True)
    assert (await site.cpu("24h"))[-2:] == pytest.approx([10, 10], abs=0.01)


async def test_vms_that_are_gone_do_not_hold_up_the_others(database: Path) -> None:
    site = await Site.make(3)
    site.run(60, 10)
    await Vm.filter(id=site.vms[1].id).delete()
    await site.metrics.flush()
    assert {row.vm_id for row in await VmMetrics.all()} == {site.vms[0].id, site.vms[2].id}
    assert set(site.metrics._tracks[VMS]) == {site.vms[0].id, site.vms[2].id}


async def test_deleting_a_vm_or_a_host_deletes_its_history(site: Site) -> None:
    site.run(60, 10)
    await site.metrics.flush()
    await Vm.filter(id=site.vms[0].id).delete()
    assert await VmMetrics.all().count() == 0
    assert await HostMetrics.all().count() == 3
    await Host.filter(id=site.host.id).delete()
    assert await HostMetrics.all().count() == 0


async def test_nothing_is_kept_in_memory_of_what_is_off(site: Site) -> None:
    site.run(60, 10)
    await site.metrics.flush(everything=True)
    site.clock.now += module.IDLE + 60
    await site.metrics.flush()
    assert site.metrics._tracks == {table: {} for table in site.metrics._tracks}


@given(st.lists(st.tuples(st.floats(0, 5000), st.none() | st.floats(0, 100)), max_size=60))
def test_a_track_is_bounded_and_never_invents(samples: list[tuple[float, float | None]]) -> None:
    track, moment, given_values = Track(), float(NOON), []
    for pause, value in samples:
        moment += pause
        given_values.append(value)
        track.add(moment, [value] * len(FIELDS), 20.0)
        assert len(track.closed) <= MOST_WAITING
    known = [value for value in given_values if value is not None]
    for point in track.unwritten().values():
        found = decode(point)["cpu_percent"][0]
        assert found is None or min(known) - 0.1 <= found <= max(known) + 0.1


async def test_a_track_goes_on_after_it_was_closed(site: Site) -> None:
    site.see(10)
    site.metrics._tracks[VMS][site.vms[0].id].close()
    site.see(30)  # in the same ten seconds
    assert [value for value in await site.cpu("1h") if value is not None] == pytest.approx([30], abs=0.02)


async def test_memory_for_each_vm(database: Path) -> None:
    site = await Site.make(300)
    site.see(0)
    tracemalloc.start()
    try:
        before, _peak = tracemalloc.get_traced_memory()
        site.metrics._tracks[VMS].clear()
        for _round in range(15):
            site.see(12.5, disk_read=1.0, disk_write=2.0, net_rx=3.0, net_tx=4.0)
            site.clock.now += 5
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used / 300 < MEMORY_BYTES


async def test_disk_for_each_vm(tmp_path: Path, migrated: Path) -> None:
    """A full history of 90 days, in the size of the database file."""
    path, count = tmp_path / "full.sqlite3", 20
    path.write_bytes(migrated.read_bytes())
    url = f"sqlite://{path}"
    await open_database(url)
    site = await Site.make(count)
    rows = list(history.rows(NOON + 1234))
    assert len(rows) == sum(resolution.slots for resolution in RESOLUTIONS)
    await close_database()
    before = path.stat().st_size
    await open_database(url)
    for step, slot, start, points in rows:  # as they grow: all VMs side by side
        await VmMetrics.bulk_create(
            [VmMetrics(vm_id=vm.id, step_seconds=step, slot=slot, start=start, points=points) for vm in site.vms]
        )
    await close_database()
    each = (path.stat().st_size - before) / count / 1024
    assert 120 < each < BUDGET_KIB, f"{each:.0f} KiB for each VM"
    note = (Path(__file__).parents[2] / "docs/decisions/0012-metrics-history.md").read_text()
    assert f"{BUDGET_KIB} KiB" in note


def test_a_summary_is_of_what_is_known() -> None:
    assert summary([None, 1.0, 3.0, None]) == {"latest": 3.0, "lowest": 1.0, "average": 2.0, "highest": 3.0}
    assert summary([5.0, None, None, None])["latest"] is None
    assert set(summary([None]).values()) == {None}


async def test_the_observer_feeds_it_and_a_stop_writes_it(settings: Settings, migrated: Path) -> None:
    settings.data_folder.mkdir(mode=0o700)
    (settings.data_folder / "panel.sqlite3").write_bytes(migrated.read_bytes())
    application = create_app(settings)
    services: Services = application.extensions["panel"]
    async with application.test_app():
        await services.hosts.create(ADMIN, "host1", HostRequest(engine=EngineKind.FAKE, address="world1"))
        await until(lambda: Host.exists(name="host1", seen_at__isnull=False))
        running, stopped = await make(services, "on", start=True), await make(services, "off")

        async def measured() -> bool:
            found = await services.metrics.of_vm(running, "1h")
            return any(value is not None for value in found.values["net_rx_bytes_per_second"])

        await until(measured)
        values = (await services.metrics.of_vm(stopped, "1h")).values
        assert {value for series in values.values() for value in series} == {None}
    await open_database(settings.database)
    assert {row.vm_id for row in await VmMetrics.all()} == {running.id}
    assert {row.step_seconds for row in await HostMetrics.all()} == {10, 60, 900}
    await close_database()
