"""Changes are told at once, whoever made them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from panel.engines.base import Engine
from panel.engines.types import PowerAction, VmEvent
from panel.errors import HostUnreachable

from .conftest import Make
from .kit import Recorder, contract
from .providers import Rig

SOON = 2.0


@asynccontextmanager
async def watching(engine: Engine) -> AsyncIterator[asyncio.Queue[VmEvent]]:
    """The events of ``engine`` from now on."""
    queue: asyncio.Queue[VmEvent] = asyncio.Queue()

    async def collect() -> None:
        async for event in engine.watch():
            queue.put_nowait(event)

    task = asyncio.create_task(collect())
    await asyncio.sleep(0.5)  # let it subscribe
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def told(queue: asyncio.Queue[VmEvent], ref: str) -> None:
    """An event about this VM, or about everything, arrives soon."""
    async with asyncio.timeout(SOON):
        while (await queue.get()).ref not in {ref, None}:
            pass


def drain(queue: asyncio.Queue[VmEvent]) -> None:
    """Forget what came so far."""
    while not queue.empty():
        queue.get_nowait()


@contract("events", "create", "power.start", "power.suspend", "power.stop")
async def test_what_another_does_is_told(engine: Engine, rig: Rig, make: Make) -> None:
    other = rig.engine()
    try:
        async with watching(other) as queue:
            spec = await make()
            await told(queue, spec.ref)
            for action in (PowerAction.START, PowerAction.SUSPEND, PowerAction.STOP):
                await asyncio.sleep(0.2)
                drain(queue)
                await engine.power(spec.ref, action, Recorder())
                await told(queue, spec.ref)
            await asyncio.sleep(0.2)
            drain(queue)
            await engine.delete(spec.ref, spec.name, Recorder())
            await told(queue, spec.ref)
    finally:
        await other.close()


@contract("events", "create", "power.start")
async def test_watching_and_working_with_one_engine(engine: Engine, make: Make) -> None:
    async with watching(engine) as first, watching(engine) as second:
        spec = await make(start=True)
        await told(first, spec.ref)
        await told(second, spec.ref)


@contract("events")
async def test_watching_ends_with_close(engine: Engine) -> None:
    async def watch() -> None:
        try:
            async for _event in engine.watch():
                pass
        except HostUnreachable:
            return

    task = asyncio.create_task(watch())
    await asyncio.sleep(0.5)
    await engine.close()
    await asyncio.wait({task}, timeout=5)
    assert task.done()
    assert task.exception() is None
