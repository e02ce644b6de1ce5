"""The connection's owner, over libvirt's own test driver (in this process, no daemon)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from panel.engines.libvirt.client import STUCK_LIMIT, Client, Lane
from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import HostConnection, PowerAction, PowerState
from panel.errors import Conflict, EngineTimeout, HostUnreachable, NotFound

REF = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # the test driver's domain


class Silent:
    """A reporter that nobody reads."""

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        pass

    async def warn(self, message: str, /, **params: object) -> None:
        pass


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client("test:///default", "h1")
    yield made
    await made.close()
    await made.close()


async def test_calls_run_in_threads(client: Client) -> None:
    names = await client.call(lambda conn: [conn.listAllDomains()[0].name(), threading.current_thread().name])
    assert names[0] == "test"
    assert names[1].startswith("libvirt-h1")


async def test_missing_domains(client: Client) -> None:
    with pytest.raises(NotFound):
        await client.domain("00000000-0000-0000-0000-000000000001", lambda domain: domain.name())


async def test_a_hung_call_costs_only_itself(client: Client) -> None:
    release, beats = threading.Event(), 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.create_task(heart())
    started = time.monotonic()
    with pytest.raises(EngineTimeout):
        await client.call(lambda _: release.wait(20), seconds=0.3)
    assert time.monotonic() - started < 5
    assert beats > 5
    assert await client.call(lambda conn: conn.isAlive()) == 1
    release.set()
    beating.cancel()


async def test_too_many_hung_calls_are_not_added_to(client: Client) -> None:
    release = threading.Event()
    for _ in range(STUCK_LIMIT):
        with pytest.raises(EngineTimeout):
            await client.call(lambda _: release.wait(20), seconds=0.05)
    with pytest.raises(HostUnreachable, match="Restart libvirtd"):
        await client.call(lambda conn: conn.isAlive())
    release.set()
    for _ in range(100):
        await asyncio.sleep(0.02)
        try:
            assert await client.call(lambda conn: conn.isAlive()) == 1
        except HostUnreachable:
            continue
        break
    else:
        pytest.fail("the host stayed given up")


async def test_a_busy_lane_is_not_a_hung_host(client: Client) -> None:
    release = threading.Event()
    working = [
        asyncio.create_task(client.call(lambda _: release.wait(20), seconds=20, lane=Lane.AGENT)) for _ in range(3)
    ]
    await asyncio.sleep(0.1)
    with pytest.raises(EngineTimeout, match="busy"):
        await client.call(lambda conn: conn.isAlive(), seconds=0.1, lane=Lane.AGENT)
    assert await client.call(lambda conn: conn.isAlive()) == 1
    release.set()
    await asyncio.gather(*working)


async def test_a_cancelled_call_is_waited_for_when_asked(client: Client) -> None:
    ended = threading.Event()

    def work(_: Any) -> None:
        time.sleep(0.3)
        ended.set()

    task = asyncio.create_task(client.call(work, settle=True))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended.is_set()


async def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_events(client: Client) -> None:
    seen: list[str] = []

    async def listen() -> None:
        async for event in client.events():
            assert event.ref == REF
            seen.append(event.what)

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.2)
    await client.domain(REF, lambda domain: domain.suspend())
    await _until(lambda: seen == ["suspended"])
    await client.domain(REF, lambda domain: domain.resume())
    await _until(lambda: len(seen) == 2)
    await client.close()
    await asyncio.wait_for(listening, 10)
    assert seen == ["suspended", "resumed"]


async def test_a_server_that_accepts_and_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        engine = LibvirtEngine(HostConnection("mute", address=f"qemu+tcp://127.0.0.1:{port}/system"))
        engine.client.connect_seconds = 0.5
        started = time.monotonic()
        answers = await asyncio.gather(engine.probe(), engine.observe(), return_exceptions=True)
        assert time.monotonic() - started < 8
        assert all(isinstance(answer, HostUnreachable) for answer in answers)
        await engine.close()


async def test_nobody_there() -> None:
    engine = LibvirtEngine(HostConnection("gone", address="qemu+unix:///system?socket=/nonexistent/x"))
    with pytest.raises(HostUnreachable, match="libvirtd runs"):
        await engine.probe()
    await engine.close()


async def test_the_engine_over_the_test_driver() -> None:
    engine = LibvirtEngine(HostConnection("t", address="test:///default"))
    seen = await engine.observe()
    assert [(vm.ref, vm.state, vm.managed) for vm in seen] == [(REF, PowerState.RUNNING, False)]
    with pytest.raises(Conflict, match="running"):
        await engine.power(REF, PowerAction.START, Silent())
    await engine.power(REF, PowerAction.SUSPEND, Silent())
    assert (await engine.inspect(REF)).state is PowerState.SUSPENDED
    with pytest.raises(Conflict, match="resume"):
        await engine.power(REF, PowerAction.START, Silent())
    await engine.power(REF, PowerAction.RESUME, Silent())
    with pytest.raises(Conflict, match="without a screen"):
        await engine.console(REF)
    with pytest.raises(Conflict, match="qemu-guest-agent"):
        await engine.set_password(REF, "root", "secret-1")
    await engine.close()
    await engine.close()
