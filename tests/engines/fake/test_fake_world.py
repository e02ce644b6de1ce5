"""What a fake host remembers, counts and shows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest

from panel.engines.consoletypes import StreamTarget
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.load import busy_seconds
from panel.engines.fake.screen import HEIGHT, WIDTH, PixelFormat
from panel.engines.fake.world import reset_worlds, world
from panel.engines.types import HostConnection, PowerAction, PowerState, VmChange, VmSpec


class Quiet:
    """A reporter for nobody."""

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """Nothing."""

    async def warn(self, message: str, /, **params: object) -> None:
        """Nothing."""


QUIET = Quiet()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    reset_worlds()
    yield
    reset_worlds()


def fake(**options: str) -> FakeEngine:
    return FakeEngine(HostConnection("a", address="w", options=options))


def a_spec() -> VmSpec:
    return VmSpec(str(uuid4()), "box", "Box", 2, 256, 10, (), image="Debian 12", password="first")


async def test_vms_from_the_start_are_the_same_every_time() -> None:
    first = await fake(vms="20").observe()
    reset_worlds()
    again = await fake(vms="20").observe()
    assert [(vm.ref, vm.name, vm.state) for vm in first] == [(vm.ref, vm.name, vm.state) for vm in again]
    assert len({vm.ref for vm in first}) == 20
    assert {vm.state for vm in first} == {PowerState.RUNNING, PowerState.STOPPED, PowerState.SUSPENDED}
    assert not any(vm.managed for vm in first)


async def test_a_new_engine_sees_the_same_world() -> None:
    await fake().create(a_spec(), QUIET)
    assert [vm.name for vm in await fake().observe()] == ["box"]
    assert world("w").named("box") is not None


async def test_passwords_are_recorded() -> None:
    engine, spec = fake(), a_spec()
    await engine.create(spec, QUIET)
    await engine.set_password(spec.ref, "alice", "second")
    assert world("w").vms[spec.ref].passwords == {"root": "first", "alice": "second"}


async def test_counters_rise_while_running_and_rest_while_suspended() -> None:
    engine, spec, now = fake(), a_spec(), [100.0]
    engine.world.clock = lambda: now[0]
    await engine.create(spec, QUIET)
    seen = []
    for action in (None, None, PowerAction.SUSPEND, None, PowerAction.RESUME, None):
        if action:
            await engine.power(spec.ref, action, QUIET)
        seen.append((await engine.inspect(spec.ref)).cpu_seconds or 0.0)
        now[0] += 10
    assert seen[0] < seen[1] < seen[2] == seen[3] == seen[4] < seen[5]
    await engine.power(spec.ref, PowerAction.STOP, QUIET)
    await engine.power(spec.ref, PowerAction.START, QUIET)
    assert (await engine.inspect(spec.ref)).cpu_seconds == 0


def test_busy_seconds_never_fall_nor_outrun_time() -> None:
    values = [busy_seconds("a", "cpu", second / 10) for second in range(3000)]
    assert all(0 <= after - before <= 0.2 for before, after in pairwise(values))


async def test_a_change_that_waits_for_the_next_start() -> None:
    engine, spec = fake(), a_spec()
    await engine.create(spec, QUIET)
    outcome = await engine.update(spec.ref, VmChange(cpu_count=1, memory_mib=512), QUIET)
    assert (outcome.live, outcome.at_next_start) == (("memory_mib",), ("cpu_count",))
    assert (await engine.inspect(spec.ref)).cpu_count == 2
    await engine.power(spec.ref, PowerAction.SHUTDOWN, QUIET)
    assert (await engine.inspect(spec.ref)).cpu_count == 1


async def test_the_state_file_brings_the_world_back(tmp_path: Path) -> None:
    path = str(tmp_path / "world.json")
    engine, spec = fake(state_file=path), a_spec()
    await engine.prepare()
    await engine.create(spec, QUIET)
    before = world("w").vms[spec.ref]
    reset_worlds()
    engine = fake(state_file=path)
    assert engine.world.vms[spec.ref] == before
    assert engine.world.prepared
    assert await engine.leftovers() == []
    await engine.delete(spec.ref, spec.name, QUIET)
    reset_worlds()
    assert await fake(state_file=path).observe() == []


KILLED = """
import asyncio, os, signal, sys
from panel.engines.fake.engine import FakeEngine
from panel.engines.types import HostConnection, VmSpec

class Deadly:
    steps = 0
    async def step(self, message, /, **params):
        self.steps += 1
        if self.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

engine = FakeEngine(HostConnection("a", address="w", options={"state_file": sys.argv[1]}))
spec = VmSpec("11111111-1111-4111-8111-111111111111", "box", "Box", 1, 256, 10, (), image="Debian 12")
asyncio.run(engine.create(spec, Deadly()))
"""


@pytest.mark.parametrize(("step", "disks", "vms"), [(1, 0, 0), (2, 1, 0), (3, 2, 0), (4, 0, 1)])
async def test_a_killed_panel_finds_what_it_left(tmp_path: Path, step: int, disks: int, vms: int) -> None:
    path = tmp_path / "world.json"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(step)], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    engine = fake(state_file=str(path))
    assert len(await engine.leftovers()) == disks
    assert len(await engine.observe()) == vms
    await engine.delete("11111111-1111-4111-8111-111111111111", "box", QUIET)
    assert engine.world.disks == {}
    assert engine.world.vms == {}


async def handshake(engine: FakeEngine, ref: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As a viewer does it: RFC 6143, 7.1 to 7.3."""
    target = await engine.console(ref)
    assert isinstance(target, StreamTarget)
    reader, writer = await target.open()
    assert await reader.readexactly(12) == b"RFB 003.008\n"
    writer.write(b"RFB 003.008\n")
    assert await reader.readexactly(2) == b"\x01\x01"
    writer.write(b"\x01")
    assert await reader.readexactly(4) == bytes(4)
    writer.write(b"\x01")
    width, height = struct.unpack(">HH", await reader.readexactly(4))
    assert (width, height) == (WIDTH, HEIGHT)
    assert PixelFormat.unpack(await reader.readexactly(16)) == PixelFormat()
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    assert await reader.readexactly(length) == b"Box"
    return reader, writer


async def picture(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, size: int = 4) -> bytes:
    """Ask for all of the screen and read it."""
    writer.write(struct.pack(">BBHHHH", 3, 0, 0, 0, WIDTH, HEIGHT))
    header = struct.unpack(">BxHHHHHi", await reader.readexactly(16))
    assert header == (0, 1, 0, 0, WIDTH, HEIGHT, 0)
    return await reader.readexactly(WIDTH * HEIGHT * size)


async def test_the_screen_moves_and_shows_what_is_typed() -> None:
    engine, spec, now = fake(), a_spec(), [100.0]
    engine.world.clock = lambda: now[0]
    await engine.create(spec, QUIET)
    reader, writer = await handshake(engine, spec.ref)
    first = await picture(reader, writer)
    assert await picture(reader, writer) == first
    now[0] += 1
    second = await picture(reader, writer)
    assert second != first
    writer.write(struct.pack(">BBxxI", 4, 1, 0x61) + struct.pack(">BBxxI", 4, 0, 0x61))
    third = await picture(reader, writer)
    assert third != second
    writer.write(struct.pack(">BBHH", 5, 0, 3, 3))
    assert await picture(reader, writer) != third
    writer.write(struct.pack(">BxxxI", 6, 5) + b"hello" + struct.pack(">BxHi", 2, 1, 0))
    sixteen = PixelFormat(16, 16, False, (31, 63, 31), (11, 5, 0))
    writer.write(b"\x00\0\0\0" + sixteen.pack())
    assert len(set(await picture(reader, writer, size=2))) > 1
    writer.close()
    await engine.close()


@pytest.mark.parametrize("area", [(0, 0, 10, 10), (310, 190, 100, 100), (9000, 9000, 5, 5), (0, 0, 0, 0)])
async def test_any_part_of_the_screen_can_be_asked_for(area: tuple[int, int, int, int]) -> None:
    engine, spec = fake(), a_spec()
    await engine.create(spec, QUIET)
    reader, writer = await handshake(engine, spec.ref)
    writer.write(struct.pack(">BBHHHH", 3, 1, *area))
    _kind, _count, _x, _y, width, height, _encoding = struct.unpack(">BxHHHHHi", await reader.readexactly(16))
    await reader.readexactly(width * height * 4)
    await picture(reader, writer)
    writer.close()
    await engine.close()


@pytest.mark.parametrize(
    "bad",
    [b"\xff" * 20, b"\x00" * 20, struct.pack(">BxxxI", 6, 2**32 - 1), b"\x00\0\0\0" + b"\xff" * 16],
    ids=["unknown", "colour-map", "huge-clipboard", "odd-format"],
)
async def test_a_bad_viewer_is_hung_up_on(bad: bytes) -> None:
    engine, spec = fake(), a_spec()
    await engine.create(spec, QUIET)
    reader, writer = await handshake(engine, spec.ref)
    writer.write(bad)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    await engine.close()
