"""The hosts that the fake engine drives: plain data in this process, kept in a file that several share when asked to."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from panel.engines.fake.behaviour import Behaviour
from panel.engines.hosttypes import Image, NativeForward
from panel.engines.types import BootDevice, NicMode, PowerState, VmEvent

GIB = 1024**3
SEED_BYTES = 374 * 1024


@dataclass(slots=True)
class FakeNic:
    """An interface of a fake VM."""

    name: str
    mac: str
    mode: NicMode
    network: str = ""
    addresses: list[str] = field(default_factory=list)  # which its guest was told of at its first boot


@dataclass(slots=True)
class FakeDisk:
    """A file on the fake host. ``owner`` is the ``ref`` of the VM that it was made for."""

    path: str
    owner: str
    size_bytes: int
    made_by_panel: bool = True


@dataclass(slots=True)
class FakeSnapshot:
    """What a fake VM was at ``taken_at`` (Unix seconds)."""

    taken_at: float
    parent: str
    state: str
    values: dict[str, Any] = field(repr=False)


@dataclass(slots=True)
class FakeVm:
    """A VM of a fake host.

    Attributes:
        agent: a guest agent is installed: it answers while the VM runs.
        ignores_shutdown: the guest does not react to a request to shut down.
        passwords: by user, what was set on first boot or through the agent.
        pending: fields of ``VmChange`` that hold from the next start on.
        snapshots: by name, the oldest first; snapshot: the current one's name.
        ran_seconds: time spent running before ``running_since``, both since the last start.
    """

    ref: str
    name: str
    title: str
    cpu_count: int
    memory_mib: int
    disk_gib: int
    nics: list[FakeNic] = field(default_factory=list)
    image: str = ""
    hostname: str = ""
    state: PowerState = PowerState.STOPPED
    agent: bool = False
    ignores_shutdown: bool = False
    managed: bool = True
    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    ssh_keys: list[str] = field(default_factory=list)
    pending: dict[str, Any] = field(default_factory=dict)
    iso: str | None = ""  # what is in its CD drive; None without a drive
    boot: list[str] = field(default_factory=lambda: [BootDevice.DISK, BootDevice.CDROM])
    snapshots: dict[str, FakeSnapshot] = field(default_factory=dict)
    snapshot: str = ""
    ran_seconds: float = 0.0
    running_since: float | None = None

    def ran(self, now: float) -> float:
        """Seconds spent running since the last start; standing still while suspended."""
        return self.ran_seconds + (max(0.0, now - self.running_since) if self.running_since is not None else 0.0)

    def enter(self, state: PowerState, now: float) -> None:
        """Be in ``state`` from ``now`` on."""
        started = self.state in {PowerState.STOPPED, PowerState.CRASHED} and state is PowerState.RUNNING
        self.ran_seconds = 0.0 if started or state is PowerState.STOPPED else self.ran(now)
        self.running_since = now if state is PowerState.RUNNING else None
        if started or state is PowerState.STOPPED:
            for name, value in self.pending.items():
                setattr(self, name, value)
            self.pending.clear()
        self.state = state


@dataclass(slots=True)
class FakeNetwork:
    """The fake host's NAT network, with DHCP. ``reservations`` and ``leases``: MAC to addresses."""

    name: str = "fake-nat"
    bridge: str = "fakebr0"
    subnet4: str = "192.168.1.0/24"
    gateway4: str = "192.168.1.1"
    subnet6: str = ""
    gateway6: str = ""
    reservations: dict[str, list[str]] = field(default_factory=dict)
    leases: dict[str, list[str]] = field(default_factory=dict)


Listener = tuple[asyncio.AbstractEventLoop, "asyncio.Queue[VmEvent | None]"]


class FakeWorld:
    """One fake host.

    Attributes:
        vms: by ``ref``.
        disks: by path, also those of no VM.
        network: the one that NAT interfaces are on.
        bridge: the one that the others are on; empty: the host has none for VMs.
        making: names that a create has reserved; gone with the process, as a real half-made VM's maker is.
        behaviour: when set, overrides what the connection's options say (a host that turns bad under a test).
        forwards: the ports that it leads to VMs itself, as in ``FakeEngine.native_forwards``.
        images: by file, what the panel sent; gone with the process.
        busy: ports that its own programs have: it refuses forwards of them.
        drawn_on: by file of the images folder, the names of the VMs that draw on it.
        state_file: where all of this is written on each change, and read again when another process wrote it.
        clock: seconds; tests may turn it by hand.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.vms: dict[str, FakeVm] = {}
        self.disks: dict[str, FakeDisk] = {}
        self.network = FakeNetwork()
        self.bridge = "fake-bridge"
        self.making: dict[str, str] = {}
        self.prepared = False
        self.behaviour: Behaviour | None = None
        self.images: dict[str, Image] = {}
        self.forwards: dict[tuple[str, int, int], NativeForward] = {}
        self.busy: set[int] = set()
        self.drawn_on: dict[str, list[str]] = {}
        self.state_file: Path | None = None
        self._known: tuple[int, int] | None = None  # which state of the file this is
        self.clock: Callable[[], float] = time.time
        self._listeners: list[Listener] = []

    def changed(self, ref: str | None, what: str) -> None:
        """Write the state file, when there is one, and tell whoever watches."""
        self.save()
        for listener in list(self._listeners):
            loop, queue = listener
            if loop.is_closed():
                self._listeners.remove(listener)
            else:
                loop.call_soon_threadsafe(queue.put_nowait, VmEvent(ref, what))

    def listen(self) -> asyncio.Queue[VmEvent | None]:
        """A queue of the changes from now on."""
        queue: asyncio.Queue[VmEvent | None] = asyncio.Queue()
        self._listeners.append((asyncio.get_running_loop(), queue))
        return queue

    def unlisten(self, queue: asyncio.Queue[VmEvent | None]) -> None:
        """Stop filling ``queue``."""
        self._listeners = [listener for listener in self._listeners if listener[1] is not queue]

    def named(self, name: str) -> FakeVm | None:
        """The VM called ``name``."""
        return next((vm for vm in self.vms.values() if vm.name == name), None)

    def disks_of(self, ref: str) -> list[FakeDisk]:
        """What was made, or is used, for ``ref``."""
        return [disk for disk in self.disks.values() if disk.owner == ref]

    def disks_by_owner(self) -> dict[str, list[FakeDisk]]:
        """All disks, by the VM that they are of."""
        found: dict[str, list[FakeDisk]] = {}
        for disk in self.disks.values():
            found.setdefault(disk.owner, []).append(disk)
        return found

    def orphans(self) -> list[FakeDisk]:
        """Disks of no VM, not counting those of a VM that is being made right now."""
        alive = set(self.vms) | set(self.making.values())
        return [disk for disk in self.disks.values() if disk.owner not in alive]

    def add_disk(self, path: str, owner: str, size_bytes: int, *, made_by_panel: bool = True) -> None:
        """Put a file on the host."""
        self.disks[path] = FakeDisk(path, owner, size_bytes, made_by_panel)
        self.save()

    def add_foreign(self, name: str, state: PowerState = PowerState.STOPPED) -> FakeVm:
        """A VM that somebody else made: something to scan and adopt."""
        ref = str(uuid5(NAMESPACE_URL, f"fake://{self.address}/{name}"))
        number = len(self.vms) + 1
        vm = FakeVm(ref, name, f"Machine {name}", 1 + number % 4, 1024 * (1 + number % 4), 20, managed=False)
        mac = "52:54:01" + "".join(f":{byte:02x}" for byte in number.to_bytes(3, "big"))
        vm.nics.append(FakeNic("eth0", mac, NicMode.NAT, "fake-nat"))
        vm.image, vm.agent, vm.iso = "Debian 12", True, None
        vm.boot = [BootDevice.DISK]
        vm.enter(state, self.clock())
        self.vms[ref] = vm
        self.disks[f"/fake/foreign/{name}.qcow2"] = FakeDisk(
            f"/fake/foreign/{name}.qcow2", ref, 20 * GIB, made_by_panel=False
        )
        return vm

    def populate(self, count: int) -> None:
        """``count`` foreign VMs, most of them running, the same ones every time."""
        for number in range(1, count + 1):
            state = PowerState.RUNNING
            if number % 4 == 0:
                state = PowerState.STOPPED
            elif number % 7 == 0:
                state = PowerState.SUSPENDED
            self.add_foreign(f"vm-{number:04}", state)

    def save(self) -> None:
        """Write everything to ``state_file``, whole or not at all."""
        if self.state_file is None:
            return
        state = {
            "prepared": self.prepared,
            "vms": [asdict(vm) for vm in self.vms.values()],
            "disks": [asdict(disk) for disk in self.disks.values()],
            "network": asdict(self.network),
            "forwards": [asdict(forward) for forward in self.forwards.values()],
        }
        scratch = self.state_file.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps(state, indent=1), encoding="utf-8")
        self._known = _mark(scratch)
        scratch.replace(self.state_file)

    def load(self) -> None:
        """Become what ``state_file`` says."""
        if self.state_file is None or not self.state_file.exists():
            return
        self._known = _mark(self.state_file)
        state = json.loads(self.state_file.read_text(encoding="utf-8"))
        self.prepared = bool(state["prepared"])
        self.disks = {row["path"]: FakeDisk(**row) for row in state["disks"]}
        self.network = FakeNetwork(**state.get("network", {}))
        self.vms = {row["ref"]: _vm_from(row) for row in state["vms"]}
        known = (NativeForward(**row) for row in state.get("forwards", ()))
        self.forwards = {forward.place: forward for forward in known}

    def refresh(self) -> None:
        """Read the state file again when another process wrote it."""
        if self.state_file is not None and _mark(self.state_file) not in {None, self._known}:
            self.load()


def _mark(file: Path) -> tuple[int, int] | None:
    """What tells one writing of a file from another: each is a file of its own, put in the place of the last."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _vm_from(row: dict[str, object]) -> FakeVm:
    known = {item.name for item in fields(FakeVm)}
    vm = FakeVm(**{name: value for name, value in row.items() if name in known})  # type: ignore[arg-type]
    vm.state = PowerState(vm.state)
    vm.snapshots = {name: FakeSnapshot(**one) for name, one in vm.snapshots.items()}  # type: ignore[arg-type]
    vm.nics = [FakeNic(**(nic | {"mode": NicMode(nic["mode"])})) for nic in row["nics"]]  # type: ignore[attr-defined]
    return vm


_worlds: dict[str, FakeWorld] = {}


def world(address: str, *, state_file: str = "", vms: int = 0) -> FakeWorld:
    """The fake host at ``address``. The first call makes it: from ``state_file``, else with ``vms`` VMs."""
    found = _worlds.get(address)
    if found is None:
        found = _worlds[address] = FakeWorld(address)
        found.state_file = Path(state_file) if state_file else None
        if found.state_file is not None and found.state_file.exists():
            found.load()
        else:
            found.populate(vms)
            found.save()
    found.refresh()
    return found


def reset_worlds() -> None:
    """Forget every fake host (state files stay), as a restart of the process would."""
    _worlds.clear()
