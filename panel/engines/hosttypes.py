"""What engines say of a host besides its VMs: itself, its networks, forwards and images. Sizes: memory in MiB, disks in GiB."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address

from panel.engines.types import NicMode
from panel.i18n import Text


@dataclass(frozen=True, slots=True)
class HostInfo:
    """What a connection test learns. ``warnings`` are things that work but that the operator should know; 0 CPUs or MiB, and
    ``accelerated`` None, are not known."""

    version: str
    hostname: str
    cpu_count: int
    memory_mib: int
    accelerated: bool | None
    warnings: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class HostStatus:
    """Load of a host now. Percentages are 0..100 of the whole host; disk is where VM disks live."""

    cpu_percent: float | None
    cpu_count: int
    memory_total_mib: int
    memory_used_mib: int
    disk_total_gib: float
    disk_used_gib: float


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """A network of the host that VMs of the panel are connected to.

    Attributes:
        name: what ``NicObservation.network`` and ``Engine.reserve`` call it.
        bridge: the host's bridge behind it; empty when there is none.
        subnet4, subnet6: as ``10.77.0.0/24`` and ``fd77::/64``; empty where the host itself has no part in the addressing.
        gateway4, gateway6: the host's own addresses on it.
        forward_mode: libvirt's word (``nat``, ``open``, ``route`` ...), or empty.
        reservations: (MAC, address) pairs that its DHCP server keeps, whoever made them.
        leases: (MAC, address) pairs that it has lent out: until a lease ends, nobody else gets its address.
        taken: addresses that the host itself has there besides the gateways.
    """

    name: str
    mode: NicMode
    bridge: str = ""
    subnet4: str = ""
    gateway4: str = ""
    subnet6: str = ""
    gateway6: str = ""
    forward_mode: str = ""
    reservations: tuple[tuple[str, str], ...] = ()
    leases: tuple[tuple[str, str], ...] = ()
    taken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NativeForward:
    """One port of the host that the hypervisor itself leads to a guest.

    Attributes:
        protocol: ``tcp`` or ``udp``.
        address: the guest's, IPv4 or IPv6; the outside's addresses of the same family lead there.
        mark: the panel's own name of the forward that it is for, kept by the hypervisor beside it; empty: somebody else made it.
        ref: the VM, as ``VmObservation.ref``, where the caller knows it. Hypervisors that keep forwards by VM need it.
    """

    protocol: str
    port: int
    address: str
    target_port: int
    mark: str = ""
    ref: str = field(default="", compare=False)

    @property
    def place(self) -> tuple[str, int, int]:
        """What only one can have: protocol, IP version, port."""
        return self.protocol, ip_address(self.address).version, self.port

    @property
    def target(self) -> tuple[str, int]:
        """Where it leads."""
        return self.address, self.target_port


@dataclass(frozen=True, slots=True)
class Image:
    """A thing a VM can be made from. ``name`` is what ``os_name`` matches; ``key`` is the file or image id; ``added_at`` is when
    it came to the host, None when that is not known; a size of 0 is not known either."""

    name: str
    key: str
    title: str
    format: str
    size_bytes: int
    virtual_gib: float
    default_user: str = "root"
    added_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Iso:
    """A CD image in the host's images folder; ``name`` is its file's."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something on the host that looks like the panel's but that no VM uses. Never deleted without being asked."""

    path: str
    size_bytes: int
