"""The observer against hosts that behave badly: each costs only itself."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from tortoise import connections

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import GIB, world
from panel.engines.hosttypes import Image
from panel.engines.types import EngineKind, PowerState
from panel.events import VmChanged
from panel.models import Host, LogEntry, Vm
from panel.services import imagefiles, observer
from panel.services.clock import now
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.services.observations import AT_ONCE
from tests.conftest import ADMIN
from tests.services.kit import make, until


async def health(name: str, wanted: str) -> None:
    """Wait until a host has this health."""
    await until(lambda: Host.exists(name=name, health=wanted))


async def test_refused_then_back(services: Services, fake_host: str) -> None:
    vm = await make(services, start=True)
    world("world1").behaviour = Behaviour(manner=Manner.REFUSING)
    await health("host1", "unreachable")
    host = await services.hosts.get("host1")
    assert host.problem is not None
    assert "refuses connections" in host.problem["msgid"]
    assert host.seen_at is not None
    assert host.health_since is not None
    assert host.seen_at <= host.health_since, "unreachable since when, and when it was last seen"
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.UNKNOWN, known_state=PowerState.RUNNING))
    since = host.health_since
    services.observer.look_now(host.id)
    await asyncio.sleep(0.1)
    assert (await services.hosts.get("host1")).health_since == since
    world("world1").behaviour = None
    services.observer.look_now(host.id)
    await health("host1", "online")
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.RUNNING))
    assert (await services.hosts.get("host1")).problem is None
    actions = await LogEntry.filter(object_name="host1", source="panel").order_by("id").values_list("action", flat=True)
    assert actions == ["host.online", "host.unreachable", "host.online"], "once for each change, not for each try"


async def test_it_backs_off(services: Services, fake_host: str) -> None:
    world("world1").behaviour = Behaviour(manner=Manner.REFUSING)
    await health("host1", "unreachable")
    tries = 0
    with services.events.subscribe() as told:
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            try:
                await asyncio.wait_for(told.get(), 0.2)
                tries += 1
            except TimeoutError:
                pass
    assert tries <= 4, "0.4 s, 0.8 s, 1.6 s ... and not every 0.2 s"


async def test_hung_is_cut_off_and_others_go_on(services: Services, fake_host: str) -> None:
    await services.hosts.create(ADMIN, "other", HostRequest(engine=EngineKind.FAKE, address="world2"))
    await health("other", "online")
    world("world1").behaviour = Behaviour(manner=Manner.HUNG)
    begun = time.monotonic()
    await health("host1", "unreachable")
    assert time.monotonic() - begun < services.settings.observe_timeout + 5
    host = await services.hosts.get("host1")
    assert host.problem is not None
    assert "did not answer within" in host.problem["msgid"]
    other = await services.hosts.get("other")
    assert other.health == "online"
    assert other.seen_at is not None
    assert host.health_since is not None
    await until(lambda: Host.exists(name="other", seen_at__gt=host.health_since))


async def test_a_busy_panel_is_not_a_dead_host(services: Services, fake_host: str) -> None:
    """The host answers at once; what it said waits for its turn at the database for longer than a host may take."""
    turns = services.observer._observations._slots
    for _turn in range(AT_ONCE):
        await turns.acquire()
    begun = now()
    await asyncio.sleep(services.settings.observe_timeout + 1)
    assert await Host.exists(name="host1", health="online")
    for _turn in range(AT_ONCE):
        turns.release()
    await until(lambda: Host.exists(name="host1", seen_at__gt=begun))
    assert not await LogEntry.exists(action="host.unreachable")


async def test_a_share_whose_server_is_gone_takes_one_thread(
    services: Services, fake_host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Listing its CDs never ends. Others share the threads, which are few."""
    asked, back = [], threading.Event()

    def stuck(folder: Path) -> list[Image]:
        asked.append(folder)
        back.wait(60)
        return []

    monkeypatch.setattr(imagefiles, "_list_isos", stuck)
    monkeypatch.setattr(observer, "INVENTORY_EVERY", 0.0)
    monkeypatch.setattr(FakeEngine, "images_folder", tmp_path)
    try:
        host = await services.hosts.get("host1")
        await health("host1", "unreachable")
        for _again in range(3):
            services.observer.look_now(host.id, inventory=True)
            await asyncio.sleep(services.settings.observe_timeout + 0.2)
        assert asked == [tmp_path]
    finally:
        back.set()
    services.observer.look_now(host.id)
    await health("host1", "online")


async def test_a_vm_that_stops_from_inside_shows_at_once(services: Services, fake_host: str) -> None:
    host = await services.hosts.get("host1")
    vm = await make(services, start=True)
    await asyncio.sleep(0.3)
    here = world("world1")
    here.vms[vm.ref].enter(PowerState.STOPPED, time.time())
    with services.events.subscribe() as told:
        here.changed(vm.ref, "power.stop")
        async with asyncio.timeout(10):
            while await told.get() != VmChanged(vm.id, host.id):
                pass
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.STOPPED))


async def test_a_vm_that_vanishes_is_missing(services: Services, fake_host: str) -> None:
    vm = await make(services)
    del world("world1").vms[vm.ref]
    world("world1").changed(vm.ref, "delete")
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.MISSING))


async def test_leftovers_are_listed_and_not_deleted(services: Services, fake_host: str) -> None:
    here = world("world1")
    here.add_disk("/fake/disks/orphan.qcow2", "nobody", GIB)
    here.add_disk("/fake/foreign/theirs.qcow2", "somebody", GIB, made_by_panel=False)
    host = await services.hosts.get("host1")
    services.observer.look_now(host.id, inventory=True)
    await until(lambda: _leftovers("host1"))
    assert (await services.hosts.get("host1")).leftovers == [{"path": "/fake/disks/orphan.qcow2", "size_bytes": GIB}]
    assert "/fake/disks/orphan.qcow2" in here.disks


async def _leftovers(name: str) -> bool:
    return bool((await Host.get(name=name)).leftovers)


async def test_a_lying_host_is_believed_until_somebody_looks(services: Services, fake_host: str) -> None:
    vm = await make(services)
    world("world1").behaviour = Behaviour(manner=Manner.LYING, lies=frozenset({"observe"}))
    await asyncio.sleep(0.5)
    world("world1").vms[vm.ref].enter(PowerState.RUNNING, time.time())
    world("world1").changed(vm.ref, "power.start")
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.RUNNING))


async def test_garbage_does_not_end_the_observation(services: Services) -> None:
    await services.hosts.create(ADMIN, "mad", HostRequest(engine=EngineKind.FAKE, address="mad", options={"vms": "4"}))
    await health("mad", "online")
    await services.tasks.wait((await services.vms.scan(ADMIN, await services.hosts.get("mad"))).id, 5)
    world("mad").behaviour = Behaviour(manner=Manner.GARBAGE)
    for _round in range(3):
        since = now()
        await until(lambda since=since: Host.exists(name="mad", seen_at__gt=since))  # type: ignore[misc]
    assert (await services.hosts.get("mad")).health == "online"
    assert await Vm.filter(state__in=[PowerState.CRASHED, PowerState.RUNNING]).count() == 4


async def test_a_database_that_fails_for_a_moment(services: Services, fake_host: str) -> None:
    """The observer must outlive it."""
    await health("host1", "online")  # the fixture waits for its images, which are stored before that is
    connection = connections.get("default")
    await connection.execute_script("ALTER TABLE host RENAME TO gone")
    await asyncio.sleep(0.6)
    await connection.execute_script("ALTER TABLE gone RENAME TO host")
    before = (await services.hosts.get("host1")).seen_at
    assert before is not None
    services.observer.look_now((await services.hosts.get("host1")).id)
    await until(lambda: Host.exists(name="host1", seen_at__gt=before))
    await health("host1", "online")


async def test_a_disabled_host_is_not_looked_at(services: Services, fake_host: str) -> None:
    vm = await make(services, start=True)
    await services.hosts.set_enabled(ADMIN, "host1", False)
    host = await services.hosts.get("host1")
    await asyncio.sleep(0.5)
    after = await services.hosts.get("host1")
    assert (after.seen_at, after.health) == (host.seen_at, "disabled")
    assert (await Vm.get(id=vm.id)).state is PowerState.UNKNOWN
    await services.hosts.set_enabled(ADMIN, "host1", True)
    await until(lambda: Vm.exists(id=vm.id, state=PowerState.RUNNING))


async def test_a_deleted_host_is_forgotten(services: Services, fake_host: str) -> None:
    await make(services)
    world("world1").behaviour = Behaviour(manner=Manner.SLOW, delay=0.1)
    await services.hosts.delete(ADMIN, "host1")
    await asyncio.sleep(0.4)
    assert not await Host.exists()
    assert not await Vm.exists()
