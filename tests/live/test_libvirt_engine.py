"""The libvirt engine against this machine's libvirt: what is libvirt's own. The life cycle is in ``tests/contract``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from panel.engines.libvirt.engine import LibvirtEngine
from panel.engines.types import (
    HostConnection,
    NicMode,
    NicSpec,
    PowerAction,
    PowerState,
    StreamTarget,
    VmChange,
    VmEvent,
    VmObservation,
    VmSpec,
)
from panel.errors import Conflict, EngineTimeout, HostUnreachable, InvalidInput

pytestmark = pytest.mark.live

URI = "qemu:///system"
NETWORK = "e-live-nat"
IMAGE = "Tiny Linux"


class Report:
    """A reporter; ``at`` is called with the number of each step, from 1."""

    def __init__(self, at: Callable[[int], None] = lambda _: None) -> None:
        self.steps = 0
        self.warnings: list[str] = []
        self._at = at

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        self.steps += 1
        self._at(self.steps)

    async def warn(self, message: str, /, **params: object) -> None:
        self.warnings.append(message)


@dataclass(frozen=True)
class Place:
    """Folders of this module's own."""

    root: Path

    @property
    def disks(self) -> Path:
        return self.root / "disks"

    @property
    def images(self) -> Path:
        return self.root / "images"

    def connection(self, address: str = URI) -> HostConnection:
        return HostConnection(
            "live", address, disks_path=str(self.disks), images_path=str(self.images), options={"network_nat": NETWORK}
        )

    def files(self) -> set[str]:
        return {path.name for path in self.disks.iterdir()}


@contextlib.contextmanager
def connected() -> Iterator[libvirt.virConnect]:
    """A connection beside the engine's."""
    conn = libvirt.open(URI)
    try:
        yield conn
    finally:
        conn.close()


@pytest.fixture(scope="module")
def place(demo_image: Path) -> Iterator[Place]:
    """Folders with the demo image; pools, network, VMs and folders go at the end."""
    made = Place(Path(tempfile.mkdtemp(prefix="openidcs-test-e-", dir="/var/lib")))
    made.root.chmod(0o755)
    made.images.mkdir()
    shutil.copyfile(demo_image, made.images / "tiny.qcow2")
    (made.images / "tiny.json").write_text(json.dumps({"os_name": IMAGE, "title": "A tiny Linux"}))
    yield made
    with connected() as conn:
        for domain in conn.listAllDomains():
            if str(made.root) in domain.XMLDesc():
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        for item in (*conn.listAllStoragePools(), *conn.listAllNetworks()):
            if str(made.root) in item.XMLDesc() or item.name() == NETWORK:
                item.destroy()
                item.undefine()
    shutil.rmtree(made.root)


@pytest.fixture
async def engine(place: Place) -> AsyncIterator[LibvirtEngine]:
    made = LibvirtEngine(place.connection())
    await made.prepare()
    yield made
    await made.close()


def spec(**changes: Any) -> VmSpec:
    mac = "52:54:00:" + ":".join(f"{byte:02x}" for byte in uuid4().bytes[:3])
    values: dict[str, Any] = {
        "ref": str(uuid4()),
        "name": f"e-{uuid4().hex[:8]}",
        "title": "Live",
        "cpu_count": 1,
        "memory_mib": 160,
        "disk_gib": 1,
        "nics": (NicSpec("eth0", NicMode.NAT, mac),),
        "image": IMAGE,
        "start": False,
    }
    return VmSpec(**(values | changes))


async def until(
    engine: LibvirtEngine, ref: str, ready: Callable[[VmObservation], object], seconds: float
) -> VmObservation:
    """Observe, as the observer does, until ``ready``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = next(vm for vm in await engine.observe() if vm.ref == ref)
        if ready(seen):
            return seen
        await asyncio.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {seen}")


async def ssh(address: str, password: str, command: str) -> str:
    """Run ``command`` as root in the guest; its SSH server comes up seconds after its address."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
    for _ in range(20):
        process = await asyncio.create_subprocess_exec(
            "sshpass", "-p", password, "ssh", *options, "-o", "PubkeyAuthentication=no", f"root@{address}", command,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, _err = await process.communicate()
        if process.returncode == 0:
            return out.decode().strip()
        await asyncio.sleep(1)
    raise AssertionError("no login by SSH")


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


async def test_a_stop_is_told_within_a_second(engine: LibvirtEngine) -> None:
    vm = spec(image=None, start=True)
    await engine.create(vm, Report())
    try:
        told = asyncio.create_task(first_stop(engine, vm.ref))
        await asyncio.sleep(0.5)
        with connected() as conn:
            conn.lookupByUUIDString(vm.ref).destroy()
        await asyncio.wait_for(told, 1)
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


async def test_seed_and_disk_are_for_root_alone(engine: LibvirtEngine, place: Place) -> None:
    vm = spec(password="secret-in-the-seed")
    await engine.create(vm, Report())
    assert place.files() == {f"{vm.name}.qcow2", f"{vm.name}-seed.iso"}
    assert {path.stat().st_mode & 0o777 for path in place.disks.iterdir()} == {0o600}
    with connected() as conn:
        assert "secret-in-the-seed" not in conn.lookupByUUIDString(vm.ref).XMLDesc()
    await engine.delete(vm.ref, vm.name, Report())
    assert place.files() == set()


async def test_broken_at_each_step(engine: LibvirtEngine, place: Place) -> None:
    def breaker(number: int) -> Callable[[int], None]:
        def at(step: int) -> None:
            if step == number:
                raise RuntimeError("broken by the test")

        return at

    for number in range(1, 50):
        vm = spec(start=True)
        try:
            await engine.create(vm, Report(breaker(number)))
        except RuntimeError:
            assert place.files() == set()
            assert vm.ref not in {seen.ref for seen in await engine.observe()}
            continue
        await engine.delete(vm.ref, vm.name, Report())
        assert number > 5
        return
    pytest.fail("it never ended")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
async def test_cancelled_in_the_middle(engine: LibvirtEngine, place: Place, after: float) -> None:
    vm = spec(start=True)
    task = asyncio.create_task(engine.create(vm, Report()))
    await asyncio.sleep(after)
    task.cancel()
    task.cancel()  # an impatient one
    await asyncio.wait({task})
    if not task.cancelled():
        await engine.delete(vm.ref, vm.name, Report())
    assert place.files() == set()
    assert vm.ref not in {seen.ref for seen in await engine.observe()}


async def test_a_disk_that_is_not_ours_is_neither_overwritten_nor_removed(engine: LibvirtEngine, place: Place) -> None:
    vm = spec()
    other = place.disks / f"{vm.name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", other, "1G"], check=True)
    before = other.read_bytes()
    with pytest.raises(Conflict, match=other.name):
        await engine.create(vm, Report())
    outcome = await engine.delete(vm.ref, vm.name, Report())  # what a settled task does
    assert outcome.kept == (str(other),)
    assert other.read_bytes() == before
    assert [left.path for left in await engine.leftovers()] == [str(other)]
    other.unlink()


async def test_after_a_crash_before_the_definition(engine: LibvirtEngine, place: Place) -> None:
    vm = spec()
    await engine.create(vm, Report())
    with connected() as conn:
        conn.lookupByUUIDString(vm.ref).undefine()
    assert len(await engine.leftovers()) == 2
    assert len((await engine.delete(str(uuid4()), vm.name, Report())).kept) == 2, "another's of the same name"
    assert len((await engine.delete(vm.ref, vm.name, Report())).removed) == 2
    assert place.files() == set()


async def test_a_disk_that_another_vm_uses_stays(engine: LibvirtEngine, place: Place) -> None:
    vm, other = spec(), str(uuid4())
    await engine.create(vm, Report())
    disk = place.disks / f"{vm.name}.qcow2"
    with connected() as conn:
        conn.defineXML(
            f"<domain type='qemu'><name>e-{other[:8]}</name><uuid>{other}</uuid><memory unit='MiB'>64</memory>"
            "<os><type>hvm</type></os><devices><disk type='file'><driver name='qemu' type='qcow2'/>"
            f"<source file='{disk}'/><target dev='vda'/></disk></devices></domain>"
        )
    outcome = await engine.delete(vm.ref, vm.name, Report())
    assert outcome.kept == (str(disk),)
    assert (await engine.delete(other, "any name", Report())).kept == (str(disk),)
    assert [left.path for left in await engine.leftovers()] == [str(disk)]
    disk.unlink()


async def test_raw_images_and_foreign_parts(engine: LibvirtEngine, place: Place) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "raw", place.images / "plain.img", "3G"], check=True)
    base = ["-b", place.images / "tiny.qcow2", "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, place.images / "layer.qcow2"], check=True)
    try:
        assert {image.name for image in await engine.list_images()} == {IMAGE, "plain", "layer"}
        with pytest.raises(InvalidInput, match="at least 3 GiB"):
            await engine.create(spec(image="plain"), Report())
        with pytest.raises(InvalidInput, match="other files"):
            await engine.create(spec(image="layer"), Report())
        vm = spec(image="plain", disk_gib=3)
        await engine.create(vm, Report())
        info = subprocess.run(
            ["qemu-img", "info", "--output=json", place.disks / f"{vm.name}.qcow2"], check=True, capture_output=True
        )
        assert json.loads(info.stdout)["format"] == "qcow2"
        await engine.delete(vm.ref, vm.name, Report())
    finally:
        for name in ("plain.img", "layer.qcow2"):
            (place.images / name).unlink()


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
    assert time.monotonic() - started < 4
    await asyncio.wait_for(ended, 1)
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
