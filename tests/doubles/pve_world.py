"""What a Proxmox VE cluster has: nodes, VMs with their configuration, volumes, tasks that take time."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

GIB = 1024**3
NODES = ("pve1", "pve2")
MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
DISK = re.compile(r"(?:scsi|virtio|sata|ide)\d+")
SIZE = re.compile(r"size=(\d+)G")
FIRST = 100
AT_NEXT_START = frozenset({"cores", "sockets", "memory"})


class RefusedError(Exception):
    """An answer of the vendor's kind: HTTP status, its sentence, and what is wrong with each parameter."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


@dataclass
class Machine:
    """A VM. ``pending``: what its next start brings. ``agent``: whether its guest has one."""

    vmid: int
    node: str
    config: dict[str, str]
    pending: dict[str, str] = field(default_factory=dict)
    status: str = "stopped"
    paused: bool = False
    since: float = 0.0
    agent: bool = True
    deaf: bool = False
    passwords: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    kind: str = "qemu"
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    terminal: asyncio.Lock = field(default_factory=asyncio.Lock, compare=False)

    @property
    def name(self) -> str:
        return self.config.get("name" if self.kind == "qemu" else "hostname", f"{self.called} {self.vmid}")

    @property
    def called(self) -> str:
        """In the vendor's sentences."""
        return "VM" if self.kind == "qemu" else "CT"

    @property
    def prefix(self) -> str:
        """Of its tasks' kinds."""
        return "qm" if self.kind == "qemu" else "vz"

    def running_sentence(self) -> str:
        """Why it is not removed."""
        if self.kind == "qemu":
            return f"VM {self.vmid} is running - destroy failed\n"
        return f"unable to destroy CT {self.vmid} - container is running\n"

    @property
    def template(self) -> bool:
        return self.config.get("template") == "1"

    def disks(self) -> dict[str, str]:
        """Volumes of its disks, by drive."""
        return {
            drive: value.partition(",")[0]
            for drive, value in self.config.items()
            if (DISK.fullmatch(drive) and "media=cdrom" not in value) or drive == "rootfs"
        }

    def volumes(self) -> set[str]:
        """Its disks and its cloud-init drive."""
        drives = [
            value.partition(",")[0]
            for drive, value in self.config.items()
            if DISK.fullmatch(drive) or drive == "rootfs"
        ]
        return {volume for volume in drives if f"vm-{self.vmid}-" in volume or f"base-{self.vmid}-" in volume}

    def seconds(self) -> float | None:
        return time.monotonic() - self.since if self.status == "running" else None

    def disk_bytes(self) -> int:
        drive = next(iter(self.disks()), "")
        found = SIZE.search(self.config.get(drive, ""))
        return int(found[1]) * GIB if found else 0


@dataclass
class Task:
    """Work in the background, by its UPID."""

    upid: str
    kind: str
    node: str
    log: list[str] = field(default_factory=list)
    exit: str = ""
    work: asyncio.Task[None] | None = None


class Cluster:
    """The whole. ``clone_seconds``, ``act_seconds``, ``boot_seconds``: what copies, other tasks and the guest's start take."""

    def __init__(self, *, clone_seconds: float = 0.05, act_seconds: float = 0.005, boot_seconds: float = 0.1) -> None:
        self.machines: dict[int, Machine] = {}
        self.volumes: set[str] = set()
        self.files: dict[str, int] = {}  # of the storage ``local``, with their sizes
        self.image_gib = 2  # of each cloud image's disk
        self.leases: dict[str, str] = {}  # what DHCP gives, by MAC; others get an address that follows from their MAC
        self.bridges = {node: {"vmbr0": "eno1", "vmbr1": ""} for node in NODES}  # the ports of each, as nodes have them
        self.tasks: dict[str, Task] = {}
        self.clone_seconds, self.act_seconds, self.boot_seconds = clone_seconds, act_seconds, boot_seconds

    def add(
        self, name: str, *, gib: int = 2, template: bool = False, node: str = NODES[0], agent: bool = True
    ) -> Machine:
        """Make a VM, as somebody at the vendor's pages does."""
        vmid = self.next_id()
        volume = f"local-lvm:{'base' if template else 'vm'}-{vmid}-disk-0"
        drive = f"local-lvm:vm-{vmid}-cloudinit"
        config = {"name": name, "cores": "1", "memory": "512", "scsi0": f"{volume},size={gib}G", "agent": "1",
                  "ide2": f"{drive},media=cdrom,size=4M", "net0": f"virtio={mac()},bridge=vmbr0", "boot": "order=scsi0",
                  "smbios1": f"uuid={uuid4()}"}  # fmt: skip
        if template:
            config["template"] = "1"
        self.machines[vmid] = Machine(vmid, node, config, agent=agent)
        self.volumes |= {volume, drive}
        return self.machines[vmid]

    def bridge_lines(self, node: str) -> list[dict[str, Any]]:
        """As a node lists its bridges."""
        own = {"type": "bridge", "active": 1, "autostart": 1, "method": "manual", "families": ["inet"]}
        return [own | {"iface": name, "bridge_ports": ports} for name, ports in self.bridges[node].items()]

    def next_id(self) -> int:
        """The lowest that is free."""
        return next(number for number in range(FIRST, 10**9) if number not in self.machines)

    def find(self, node: str, vmid: str, kind: str = "qemu") -> Machine:
        """A VM where it is. A node knows only its own."""
        if node not in NODES:
            raise RefusedError(500, f"hostname lookup '{node}' failed - failed to get address info for: {node}")
        vm = self.machines.get(int(vmid))
        if vm is None or (vm.node, vm.kind) != (node, kind):
            folder = "qemu-server" if kind == "qemu" else "lxc"
            raise RefusedError(500, f"Configuration file 'nodes/{node}/{folder}/{vmid}.conf' does not exist\n")
        return vm

    def unlocked(self, node: str, vmid: str, kind: str = "qemu") -> Machine:
        """A VM that may be changed."""
        vm = self.find(node, vmid, kind)
        lock = vm.config.get("lock")
        if lock:
            raise RefusedError(500, f"{vm.called} is locked ({lock})\n")
        return vm

    def begin(self, node: str, kind: str, vmid: int, user: str, work: Callable[[Task], Awaitable[None]]) -> str:
        """Start a task; returns its UPID."""
        began = int(time.time())
        upid = f"UPID:{node}:{secrets.randbits(32):08X}:{secrets.randbits(32):08X}:{began:08X}:{kind}:{vmid}:{user}:"
        task = self.tasks[upid] = Task(upid, kind, node)

        async def run() -> None:
            try:
                await work(task)
                task.exit = "OK"
            except RefusedError as error:
                task.log.append(f"TASK ERROR: {error.message}".strip())
                task.exit = error.message.strip()
            except asyncio.CancelledError:
                task.log.append("TASK ERROR: interrupted by signal")
                task.exit = "interrupted by signal"

        task.work = asyncio.get_running_loop().create_task(run())
        return upid

    def clone(self, source: Machine, newid: int, wanted: dict[str, str], user: str) -> str:
        """Copy: the new VM is there at once, locked; its disks come with time."""
        if newid in self.machines:
            raise RefusedError(500, f"unable to create VM {newid}: config file already exists\n")
        full = wanted.get("full") == "1" or not source.template
        if not full and "storage" in wanted:
            raise RefusedError(400, "Parameter verification failed.", {"storage": "not allowed for linked clones"})
        copy = Machine(newid, source.node, {"lock": "clone"}, agent=source.agent)
        self.machines[newid] = copy

        async def work(task: Task) -> None:
            made: set[str] = set()
            try:
                await self._copy(task, source, copy, wanted.get("storage", "local-lvm"), made)
            except BaseException:
                self.volumes -= made
                self.machines.pop(newid, None)
                raise
            for name in ("name", "description"):
                if name in wanted:
                    copy.config[name] = wanted[name]

        return self.begin(source.node, "qmclone", source.vmid, user, work)

    async def _copy(self, task: Task, source: Machine, copy: Machine, storage: str, made: set[str]) -> None:
        config = {key: value for key, value in source.config.items() if key not in {"template", "lock"}}
        for number, (drive, volume) in enumerate(source.disks().items()):
            new = f"{storage}:vm-{copy.vmid}-disk-{number}"
            task.log.append(f"create full clone of drive {drive} ({volume})")
            made.add(new)
            self.volumes.add(new)
            for percent in (0, 50, 100):
                task.log.append(f"transferred {percent / 50:.1f} GiB of 2.0 GiB ({percent}.00%)")
                await asyncio.sleep(self.clone_seconds / 3)
            config[drive] = f"{new},{source.config[drive].partition(',')[2]}"
        if "cloudinit" in config.get("ide2", ""):
            seed = f"{storage}:vm-{copy.vmid}-cloudinit"
            made.add(seed)
            self.volumes.add(seed)
            config["ide2"] = f"{seed},media=cdrom,size=4M"
        for key in [key for key in config if key.startswith("net")]:
            config[key] = re.sub(r"=[0-9A-F:]{17}", f"={mac()}", config[key], count=1)
        copy.config = config | {"smbios1": f"uuid={uuid4()}"}

    def act(self, vm: Machine, kind: str, user: str, change: Callable[[], None]) -> str:
        """A task that takes a little time and changes the VM at its end."""

        async def work(task: Task) -> None:
            await asyncio.sleep(self.act_seconds)
            change()

        return self.begin(vm.node, kind, vm.vmid, user, work)

    def start(self, vm: Machine) -> None:
        """Power on, and boot."""
        if vm.template:
            raise RefusedError(500, "you can't start a vm if it's a template\n")
        if vm.status == "running":
            raise RefusedError(500, f"{vm.called} {vm.vmid} already running\n")
        if not vm.volumes() <= self.volumes:
            raise RefusedError(500, "no such logical volume\n")
        vm.config |= vm.pending
        vm.pending, vm.status, vm.paused, vm.deaf, vm.since = {}, "running", False, False, time.monotonic()
        if "sshkeys" in vm.config:
            vm.keys = unquote(vm.config["sshkeys"]).splitlines()
        if "cipassword" in vm.config:
            vm.passwords.setdefault(vm.config.get("ciuser", "root"), vm.config["cipassword"])

    def stop(self, vm: Machine) -> None:
        """Power off."""
        vm.config |= vm.pending
        vm.pending, vm.status, vm.paused = {}, "stopped", False

    def destroy(self, vm: Machine) -> None:
        """With its volumes."""
        if vm.status == "running":
            raise RefusedError(500, vm.running_sentence())
        self.volumes = {volume for volume in self.volumes if not re.search(rf"\b(vm|base)-{vm.vmid}-", volume)}
        self.machines.pop(vm.vmid, None)

    async def shutdown(self, vm: Machine, seconds: float, task: Task) -> None:
        """Ask the guest, and wait for it."""
        task.log.append("sending shutdown request")
        await asyncio.sleep(min(self.boot_seconds, seconds))
        if vm.deaf or vm.paused:
            await asyncio.sleep(max(0, seconds - self.boot_seconds))
            raise RefusedError(500, "VM quit/powerdown failed - got timeout\n")
        self.stop(vm)

    def change(self, vm: Machine, wanted: dict[str, str]) -> None:
        """Write the configuration; a running VM's CPUs and memory wait."""
        for key in filter(None, re.split(r"[,; ]+", wanted.pop("delete", ""))):
            vm.config.pop(key, None)
        for key, value in wanted.items():
            if vm.status == "running" and vm.kind == "qemu" and key in AT_NEXT_START:
                vm.pending[key] = value
            else:
                vm.config[key] = value

    def resize(self, vm: Machine, drive: str, size: str) -> None:
        """Grow a disk."""
        if drive not in vm.disks():
            raise RefusedError(500, f"disk '{drive}' does not exist\n")
        gib, now = int(size.removesuffix("G")), vm.disk_bytes() // GIB
        if gib < now:
            raise RefusedError(500, "shrinking disks is not supported\n")
        vm.config[drive] = SIZE.sub(f"size={gib}G", vm.config[drive])

    def answers(self, vm: Machine) -> None:
        """Refuses unless the guest's agent answers."""
        if vm.config.get("agent", "0")[:1] != "1":
            raise RefusedError(500, "No QEMU guest agent configured\n")
        if vm.status != "running":
            raise RefusedError(500, f"VM {vm.vmid} is not running\n")
        if not vm.agent or vm.paused or (vm.seconds() or 0) < self.boot_seconds:
            raise RefusedError(500, "QEMU guest agent is not running\n")

    async def close(self) -> None:
        """End what still works."""
        for task in self.tasks.values():
            if task.work is not None:
                task.work.cancel()
                with suppress(asyncio.CancelledError):
                    await task.work


def resource(vm: Machine) -> dict[str, Any]:
    """A VM as ``/cluster/resources`` has it."""
    running = vm.status == "running"
    seen = {"id": f"{vm.kind}/{vm.vmid}", "type": vm.kind, "vmid": vm.vmid, "name": vm.name, "node": vm.node, "status": vm.status,
            "maxcpu": int(vm.config.get("cores", "1")), "maxmem": int(vm.config.get("memory", "512")) * 1024**2,
            "maxdisk": vm.disk_bytes(), "disk": 0, "template": int(vm.template), "uptime": int(vm.seconds() or 0),
            "cpu": 0.01 if running else 0, "mem": 100 * 1024**2 if running else 0}  # fmt: skip
    for number, name in enumerate(("diskread", "diskwrite", "netin", "netout")):
        seen[name] = int((vm.seconds() or 0) * 1000) * (number + 1)
    return seen | ({"lock": vm.config["lock"]} if "lock" in vm.config else {})


def mac() -> str:
    """In the vendor's own range."""
    return "BC:24:11" + "".join(f":{secrets.randbelow(256):02X}" for _unused in range(3))
