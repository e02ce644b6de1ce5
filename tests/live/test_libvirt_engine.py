"""The libvirt engine against this machine's libvirt: what is libvirt's own. The life cycle is in ``tests/contract``."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from panel.engines.consoletypes import StreamTarget
from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import NicMode, PowerAction, PowerState, VmChange, VmEvent
from panel.errors import Conflict, EngineTimeout, HostUnreachable, InvalidInput
from tests.leftovers import connected
from tests.live.engine_site import IMAGE, NETWORK, Place, Report, spec, ssh, until

pytestmark = pytest.mark.live


async def test_a_guest_under_our_hand(engine: LibvirtEngine) -> None:
    """One boot: password and name of the first boot, console, live changes, a new password, events, shut down."""
    vm = spec(hostname="tiny-host", password="first: #1", start=True)
    events: list[tuple[float, VmEvent]] = []

    async def listen() -> None:
        async for event in engine.watch():
            events.append((time.monotonic(), event))

    listening = asyncio.create_task(listen())
    await engine.create(vm, Report())
    try:
        await console_speaks(engine, vm.ref)
        seen = await until(engine, vm.ref, lambda now: now.agent and now.nics[0].addresses, 120)
        address = seen.nics[0].addresses[0]
        assert (seen.os_name, seen.managed, seen.nics[0].mode) == (IMAGE, True, NicMode.NAT)
        assert await ssh(address, "first: #1", "hostname") == "tiny-host"
        lent = next(network for network in await engine.list_networks() if network.name == NETWORK).leases
        assert (vm.nics[0].mac, address) in lent
        await changes_live(engine, vm.ref, address)
        await engine.set_password(vm.ref, "root", "second-2")
        assert await ssh(address, "second-2", "echo in") == "in"
        with pytest.raises(Conflict, match="exists there"):
            await engine.set_password(vm.ref, "nobody-here", "second-2")
        await engine.power(vm.ref, PowerAction.SUSPEND, Report())
        with pytest.raises(Conflict, match="Resume it first"):
            await engine.power(vm.ref, PowerAction.SHUTDOWN, Report())
        await engine.power(vm.ref, PowerAction.RESUME, Report())
        events.clear()
        with connected() as conn:  # behind the panel's back
            asked = time.monotonic()
            conn.lookupByUUIDString(vm.ref).shutdown()
        stopped = await until(engine, vm.ref, lambda now: now.state is PowerState.STOPPED, 60)
        assert stopped.agent is None
        assert any(event == VmEvent(vm.ref, "stopped") and at > asked for at, event in events)
    finally:
        listening.cancel()
        await engine.delete(vm.ref, vm.name, Report())


async def console_speaks(engine: LibvirtEngine, ref: str) -> None:
    target = await engine.console(ref)
    assert isinstance(target, StreamTarget)
    for _ in range(2):
        reader, writer = await target.open()
        assert (await asyncio.wait_for(reader.readexactly(12), 5)).startswith(b"RFB 003.")
        writer.close()
        await writer.wait_closed()


async def changes_live(engine: LibvirtEngine, ref: str, address: str) -> None:
    outcome = await engine.update(ref, VmChange("Live 2", 2, 128, 2), Report())
    assert set(outcome.live) == {"title", "cpu_count", "memory_mib", "disk_gib"}
    seen = await engine.inspect(ref)
    assert (seen.title, seen.cpu_count, seen.memory_mib, seen.disk_gib) == ("Live 2", 2, 128, 2.0)
    assert await ssh(address, "first: #1", "cat /sys/block/vda/size") == str(2 * 1024**3 // 512)
    report = Report()
    more = await engine.update(ref, VmChange(cpu_count=1, memory_mib=512), report)
    assert set(more.at_next_start) == {"cpu_count", "memory_mib"}
    assert report.warnings
    with pytest.raises(InvalidInput) as caught:
        await engine.update(ref, VmChange(disk_gib=1), Report())
    assert caught.value.field == "hdd_num"


async def test_a_stop_is_told_without_a_look(engine: LibvirtEngine) -> None:
    vm = spec(image=None, start=True)
    await engine.create(vm, Report())
    try:
        told = asyncio.create_task(first_stop(engine, vm.ref))
        await asyncio.sleep(0.5)
        with connected() as conn:
            conn.lookupByUUIDString(vm.ref).destroy()
        await asyncio.wait_for(told, 10)
    finally:
        await engine.delete(vm.ref, vm.name, Report())


async def first_stop(engine: LibvirtEngine, ref: str) -> None:
    async for event in engine.watch():
        if event == VmEvent(ref, "stopped"):
            return


async def test_a_guest_without_a_system_does_not_shut_down(engine: LibvirtEngine) -> None:
    vm = spec(image=None, start=True)
    vars(engine)["shutdown_seconds"] = 3.0
    await engine.create(vm, Report())
    try:
        with pytest.raises(EngineTimeout, match="3 s"):
            await engine.power(vm.ref, PowerAction.SHUTDOWN, Report())
        with pytest.raises(Conflict, match="qemu-guest-agent"):
            await engine.set_password(vm.ref, "root", "anything")
    finally:
        await engine.delete(vm.ref, vm.name, Report())


async def test_prepare_finds_what_others_made(place: Place) -> None:
    """The operator's own pool for the folder is used, whatever its name; a stopped network is started."""
    engine = LibvirtEngine(place.connection())
    await engine.prepare()
    with connected() as conn:
        pools = {pool.name() for pool in conn.listAllStoragePools()}
        conn.networkLookupByName(NETWORK).destroy()
        assert any("not started" in str(text) for text in (await engine.probe()).warnings)
        await engine.prepare()
        assert {pool.name() for pool in conn.listAllStoragePools()} == pools
        assert conn.networkLookupByName(NETWORK).isActive()
        assert conn.networkLookupByName(NETWORK).autostart()
    await engine.close()


class Relay:
    """A unix socket in front of libvirtd that can go silent without closing."""

    def __init__(self, path: Path) -> None:
        self.flowing = threading.Event()
        self.flowing.set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/run/libvirt/libvirt-sock")
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.flowing.set()
        self._server.close()


async def test_a_host_that_falls_silent(place: Place, tmp_path: Path) -> None:
    """Calls end in their time, the event loop never waits, and when the host answers again, so do we."""
    relay = Relay(tmp_path / "sock")
    engine = LibvirtEngine(place.connection(f"qemu+unix:///system?socket={tmp_path}/sock"))
    engine.client.quick_seconds = engine.client.connect_seconds = 1.0
    ended = asyncio.create_task(drain(engine))
    await engine.observe()
    relay.flowing.clear()
    longest = [0.0]
    beating = asyncio.create_task(beat(longest))
    started = time.monotonic()
    for _ in range(2):  # the old connection, then a new one
        with pytest.raises(HostUnreachable):
            await engine.observe()
    assert time.monotonic() - started < 12
    await asyncio.wait_for(ended, 10)
    relay.flowing.set()
    await asyncio.sleep(0.2)
    await engine.observe()
    beating.cancel()
    assert longest[0] < 0.3
    await engine.close()
    relay.close()


async def drain(engine: LibvirtEngine) -> None:
    async for _ in engine.watch():
        pass


async def beat(longest: list[float]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest[0], last = max(longest[0], now - last), now
