"""What engines and the rest of the house say to one another. Sizes: memory in MiB, disks in GiB, rates in bytes/s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class EngineKind(StrEnum):
    """The engines, by the name used inside the panel. ``panel.api.wire`` maps the API document's names."""

    FAKE = "fake"
    LIBVIRT = "libvirt"
    VMWARE_WORKSTATION = "vmware_workstation"
    PROXMOX = "proxmox"
    VSPHERE = "vsphere"
    INCUS = "incus"
    DOCKER = "docker"


class PowerState(StrEnum):
    """What a VM is doing. ``UNKNOWN`` means nobody could look; ``MISSING`` means we looked and it is not there."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    CRASHED = "crashed"
    UNKNOWN = "unknown"
    MISSING = "missing"


class PowerAction(StrEnum):
    """What an operator can ask of a VM's power."""

    START = "start"
    STOP = "stop"  # pull the plug
    SHUTDOWN = "shutdown"  # ask the guest
    SUSPEND = "suspend"
    RESUME = "resume"
    RESET = "reset"


class BootDevice(StrEnum):
    """What a VM starts from. Of several of a kind, in their own order."""

    DISK = "disk"
    CDROM = "cdrom"
    NETWORK = "network"


class SnapshotAction(StrEnum):
    """What can be done about a VM's snapshots: ``ROLLBACK`` makes the VM again what it was then."""

    TAKE = "take"
    ROLLBACK = "rollback"
    REMOVE = "remove"


class NicMode(StrEnum):
    """How an interface is connected."""

    NAT = "nat"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class HostConnection:
    """Everything an engine needs to reach one host. ``secret`` and ``secrets`` never appear in ``repr``.

    Attributes:
        name: the panel's name for the host, for messages and log lines.
        address: host name, IP or URI, as the engine's own form field says; empty means this machine.
        disks_path / images_path / launch_path: the API document's ``system_path``, ``images_path``, ``launch_path``.
        options: the engine's own fields (``Engine.fields``), already validated strings; ``secrets`` those that are secret.
        seed: 32 bytes that only this panel knows, always the same for a host: of them an engine makes the key pair by which the
            panel is known there. Empty where there is no panel around the engine.
    """

    name: str
    address: str = ""
    user: str = ""
    secret: str = field(default="", repr=False)
    disks_path: str = ""
    images_path: str = ""
    launch_path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    seed: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class SshEndpoint:
    """Where and as whom to reach a host by SSH. Empty and 0 leave it to ~/.ssh/config and its defaults.

    Attributes:
        key_file: a private key on the panel's machine; empty: the agent's and the default ones.
    """

    host: str
    port: int = 0
    user: str = ""
    key_file: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """What messages call it; equal for all logins on one machine."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port or 22}".lower()


@dataclass(frozen=True, slots=True)
class NicSpec:
    """One interface to make.

    Attributes:
        mac: lower-case with colons.
        network: overrides the host's network of ``mode``.
        addresses: what the guest sets up itself at its first boot, each with its prefix (``203.0.113.5/24``); it asks DHCP for
            IPv4 when there is no IPv4 address among them.
        gateways: its default routes, at most one of each family.
        dns: name servers.
    """

    name: str
    mode: NicMode
    mac: str
    network: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VmSpec:
    """A VM to make. ``ref`` (a UUID) and ``name`` are chosen by the panel before anything exists, so that what a crash
    leaves half-made can be found again.

    Attributes:
        name: the identifier (``vm_uuid`` of the API): letters, digits, ``.``, ``_`` and ``-``; unique on the host.
        title: what people call it, any text.
        image: an ``Image.name`` of this host, or None for an empty disk.
        password: set for ``Image.default_user`` on first boot; None keeps the image's own.
        ssh_keys: public keys, each a line of ``authorized_keys`` without options, by which that user may log in as well.
        start: start it once it is made.
    """

    ref: str
    name: str
    title: str
    cpu_count: int
    memory_mib: int
    disk_gib: int
    nics: tuple[NicSpec, ...]
    image: str | None = None
    hostname: str = ""
    user: str = "root"
    password: str | None = field(default=None, repr=False)
    start: bool = True
    ssh_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VmChange:
    """What to change of a VM; None leaves it. ``disk_gib`` is the size of the system disk and only grows.

    Attributes:
        iso: an ``Iso.name`` of the host to put into the CD drive; empty ejects what is in it.
        boot: what to start from, in this order; what is not in it is not tried.
    """

    title: str | None = None
    cpu_count: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    iso: str | None = None
    boot: tuple[BootDevice, ...] | None = None


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """Which fields of a ``VmChange`` hold already, and which at the next start."""

    live: tuple[str, ...] = ()
    at_next_start: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    """What a delete removed and what it left because the panel had not made it: paths or volume names."""

    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiskObservation:
    """A disk or CD drive of a VM.

    Attributes:
        name: what the hypervisor calls it (``vda``).
        source: the file or volume on the host; empty for an empty drive.
        size_gib: its virtual size; None when it is not known.
        ours: the panel made it for the VM, and removes it with the VM.
    """

    name: str
    kind: BootDevice
    bus: str = ""
    source: str = ""
    format: str = ""
    size_gib: float | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a VM: its disks, and its memory when ``memory``, as they were at ``taken_at`` (None: not known).

    Attributes:
        parent: the name of the one before it; empty for the first.
        current: what the VM has written since is on top of this one.
    """

    name: str
    description: str = ""
    taken_at: datetime | None = None
    parent: str = ""
    memory: bool = False
    current: bool = False


@dataclass(frozen=True, slots=True)
class NicObservation:
    """An interface as the hypervisor has it; addresses as the guest, or else the DHCP server, reports them.

    Attributes:
        port: the host's end of it (a tap such as ``vnet3``); empty when the VM is off.
        model: the card that the guest sees (``virtio``); empty when it is not known.
        apart: the machine that it is on, when that is one that the host's port forwards do not reach; empty where they do.
    """

    name: str
    mac: str
    mode: NicMode | None = None
    network: str = ""
    addresses: tuple[str, ...] = ()
    port: str = ""
    model: str = ""
    apart: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a VM is now, of a hypervisor that tells rates itself. None: not known.

    Attributes:
        cpu_percent: of all its virtual CPUs together (0..100).
        disk_read, disk_write, net_rx, net_tx: bytes per second.
    """

    cpu_percent: float | None = None
    disk_read: float | None = None
    disk_write: float | None = None
    net_rx: float | None = None
    net_tx: float | None = None


@dataclass(frozen=True, slots=True)
class VmObservation:
    """A VM as it was seen. Counters are totals since the VM started: the observer makes rates of them.

    Attributes:
        name, title: as the hypervisor stores them.
        cpu_seconds: CPU time used by all virtual CPUs; None when stopped.
        memory_used_mib: what the guest uses when it reports that, else what the host gives it.
        agent: whether the guest agent answers; None when unknown.
        managed: made by the panel (its own mark is on it).
        boot: what it starts from, as it is now; empty when that is not known.
        iso: the name of what is in the CD drive, empty when nothing is; None when there is no drive for it.
        snapshots: the oldest first.
        load: of a hypervisor that tells rates and no totals, in place of the counters; None when stopped.
        screen: whether it has one, where the engine opens screens: a container has none.
    """

    ref: str
    name: str
    title: str
    state: PowerState
    cpu_count: int
    memory_mib: int
    disk_gib: float | None = None
    nics: tuple[NicObservation, ...] = ()
    os_name: str = ""
    cpu_seconds: float | None = None
    memory_used_mib: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    net_rx_bytes: int | None = None
    net_tx_bytes: int | None = None
    agent: bool | None = None
    managed: bool = False
    disks: tuple[DiskObservation, ...] = ()
    boot: tuple[BootDevice, ...] = ()
    iso: str | None = None
    snapshots: tuple[Snapshot, ...] = ()
    load: Load | None = None
    screen: bool = True


@dataclass(frozen=True, slots=True)
class VmEvent:
    """Something happened to a VM; ``ref`` None means: look at everything again."""

    ref: str | None
    what: str


class Reporter(Protocol):
    """How an engine tells a task how far it is. Engines call it; they do not know what a task is."""

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """A line for the task's log; ``percent`` (0..100) moves the bar."""

    async def warn(self, message: str, /, **params: object) -> None:
        """A line that the operator should read."""


@dataclass(frozen=True, slots=True)
class HostField:
    """A field of the form that adds a host, declared by its engine. ``name`` is the API's name for it. A ``secret`` one is kept
    encrypted and shown nowhere."""

    name: str
    label: str
    help: str = ""
    required: bool = False
    secret: bool = False
    default: str = ""
    placeholder: str = ""
