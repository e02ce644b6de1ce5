"""The screens of virtual machines: the engine over a double of the API, before real QEMUs' SPICE servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from panel.engines.consoletypes import SpiceChannel
from panel.engines.incus.engine import IncusEngine
from panel.engines.types import HostConnection
from panel.errors import Conflict, Taken, Unsupported
from tests.doubles.incus import incus
from tests.doubles.incus_world import Incus
from tests.doubles.serving import served

pytestmark = pytest.mark.live

# The first words of any viewer: SpiceLinkHeader and SpiceLinkMess of a main channel, without capabilities.
HELLO = (
    b"REDQ" + b"".join(n.to_bytes(4, "little") for n in (2, 2, 18)) + bytes(4) + b"\x01\x00" + bytes(8) + b"\x12\0\0\0"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Incus]:
    made = Incus(tmp_path_factory.mktemp("incus"))
    made.add("desk").start()
    made.add("box", "container").start()
    with served(incus(made), socket=made.folder / "unix.socket"):
        yield made
    made.close()


@pytest.fixture
async def engine(world: Incus) -> AsyncIterator[IncusEngine]:
    made = IncusEngine(HostConnection("host", str(world.folder / "unix.socket")))
    yield made
    await made.close()
    async with asyncio.timeout(5):
        while world.consoles:
            await asyncio.sleep(0.02)


def ref(world: Incus, name: str) -> str:
    return world.instances[name].uuid


async def answered(channel: SpiceChannel) -> bytes:
    async with asyncio.timeout(5):
        await channel.write(HELLO)
        return await channel.read()


async def ended(channel: SpiceChannel) -> bool:
    async with asyncio.timeout(5):
        while await channel.read():
            pass
    return True


async def test_what_has_a_screen(engine: IncusEngine) -> None:
    assert {one.name: one.screen for one in await engine.observe()} == {"desk": True, "box": False}


async def test_each_channel_reaches_the_spice_server(engine: IncusEngine, world: Incus) -> None:
    session = await (await engine.spice_console(ref(world, "desk"))).open(False)
    for _ in range(3):
        assert (await answered(await session.channel())).startswith(b"REDQ")
    (console,) = world.consoles.values()
    assert console.channels == 3
    await session.close()


async def test_a_container_has_none(engine: IncusEngine, world: Incus) -> None:
    with pytest.raises(Unsupported, match="text console"):
        await engine.spice_console(ref(world, "box"))


async def test_one_at_a_time_and_taking_over(engine: IncusEngine, world: Incus) -> None:
    target = await engine.spice_console(ref(world, "desk"))
    first = await target.open(False)
    channel = await first.channel()
    with pytest.raises(Taken):
        await target.open(False)
    second = await target.open(True)
    assert await ended(channel)
    with pytest.raises(Conflict):
        await first.channel()
    assert (await answered(await second.channel())).startswith(b"REDQ")
    await second.close()


async def test_closing_the_engine_ends_it(engine: IncusEngine, world: Incus) -> None:
    session = await (await engine.spice_console(ref(world, "desk"))).open(False)
    channel = await session.channel()
    await engine.close()
    assert await ended(channel)
    with pytest.raises(ConnectionResetError):
        await channel.write(HELLO)


async def test_it_ends_with_the_vm_and_there_is_none_when_off(engine: IncusEngine, world: Incus) -> None:
    desk = world.instances["desk"]
    session = await (await engine.spice_console(desk.uuid)).open(False)
    channel = await session.channel()
    assert await answered(channel)
    desk.stop()
    assert await ended(channel)
    with pytest.raises(Conflict, match="Start it first"):
        await engine.spice_console(desk.uuid)
    await session.close()
    desk.start()
