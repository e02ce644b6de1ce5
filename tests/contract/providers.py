"""The engines under test, and what each needs around it. A new engine adds one line and one ``Rig``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from panel.engines.base import Engine
from panel.engines.fake.world import GIB, reset_worlds, world
from panel.engines.hosttypes import NativeForward
from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec

from .kit import SECRET, some_spec
from .terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Rig(ABC):
    """One real (or imaginary) host, and ways to look at it and to hurt it behind the engine's back.

    Attributes:
        image: the name of a small image that boots to a guest agent.
        big_image: the name of one that needs more than 1 GiB of disk.
        iso: the name of an ISO file of the host.
        prefix: of the names of all VMs that the suite makes.
        ports: whether the host's end of a running VM's interface has a name.
        many: how many VMs to make where many are wanted.
        boot_seconds: how long a guest may take until its agent answers.
        most_nics: how many interfaces a VM of this host may have.
        shutdown_seconds: how long ``SHUTDOWN`` of a guest that does not listen may take to give up.
    """

    kind: EngineKind
    connection: HostConnection
    image: str
    big_image: str
    iso: str
    prefix = "ct-"
    ports = True
    many = 5
    most_nics = 2
    boot_seconds = 120.0
    shutdown_seconds = 90.0

    @abstractmethod
    def deafen(self, ref: str) -> None:
        """See to it that the running VM, which has an empty disk, does not hear a request to shut down."""

    def engine(self) -> Engine:
        """A new engine for this host."""
        return make_engine(self.kind, self.connection)

    def spec(self, **changes: object) -> VmSpec:
        """A VM that this host can make; ``image=rig.image`` for one that boots."""
        return some_spec(self.prefix, **changes)

    @abstractmethod
    def files(self) -> set[str]:
        """Every file where the engine keeps disks and seeds, by the rig's own eyes."""

    @abstractmethod
    def lose_disks(self, ref: str, name: str) -> None:
        """Remove the VM's files, not the VM."""

    @abstractmethod
    def lose_definition(self, ref: str) -> None:
        """Remove the (stopped) VM, not its files."""

    @abstractmethod
    def foreign(self) -> tuple[str, str, str]:
        """Make a stopped VM that is not the panel's: its ref, name and disk."""

    @abstractmethod
    def remove_foreign(self, ref: str, disk: str) -> None:
        """Take away what ``foreign`` made."""

    def foreign_forward(self, forward: NativeForward) -> None:
        """Lead a port to a guest, as somebody does who knows nothing of the panel. For engines with ``native_forwards``."""
        raise NotImplementedError

    @abstractmethod
    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        """Whether the running guest lets ``user`` in with ``password``."""

    def lists_images_as(self, name: str) -> str:
        """The key of an image that was fetched as ``name`` and ``.raw``. For engines with ``image_urls``."""
        raise NotImplementedError

    def keys_told(self, spec: VmSpec) -> list[str]:
        """The SSH keys that the guest is told of at its first start. For engines with ``ssh_keys``."""
        raise NotImplementedError

    async def enter_shell(self, terminal: Terminal, spec: VmSpec) -> None:
        """From a fresh text console to a shell's prompt: log in where it asks. Here: press Enter, for a shell that is there."""
        await terminal.type("\r")
        await terminal.until("[#$] ?")

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file is there."""


class FakeRig(Rig):
    """A fake host; quick, so many VMs."""

    kind = EngineKind.FAKE
    image = "Debian 12"
    big_image = "Windows 10 x64"
    iso = "virtio-win.iso"
    many = 200
    boot_seconds = 1.0
    shutdown_seconds = 1.0

    def __init__(self) -> None:
        self.connection = HostConnection(
            "contract",
            address=f"contract-{uuid4().hex}",
            secret=SECRET,
            options={"shutdown_timeout": "0.2", "forwards": "native"},
        )
        self.world = world(self.connection.address)

    def deafen(self, ref: str) -> None:
        self.world.vms[ref].ignores_shutdown = True

    def files(self) -> set[str]:
        return set(self.world.disks)

    def lose_disks(self, ref: str, name: str) -> None:
        for disk in self.world.disks_of(ref):
            del self.world.disks[disk.path]

    def lose_definition(self, ref: str) -> None:
        del self.world.vms[ref]

    def foreign(self) -> tuple[str, str, str]:
        vm = self.world.add_foreign(f"{self.prefix}foreign-{uuid4().hex[:6]}")
        disk = self.world.disks_of(vm.ref)[0]
        assert disk.size_bytes == 20 * GIB
        return vm.ref, vm.name, disk.path

    def remove_foreign(self, ref: str, disk: str) -> None:
        self.world.vms.pop(ref, None)
        self.world.disks.pop(disk, None)

    def foreign_forward(self, forward: NativeForward) -> None:
        self.world.forwards[forward.place] = forward

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return self.world.vms[seen.ref].passwords.get(user) == password

    def keys_told(self, spec: VmSpec) -> list[str]:
        return self.world.vms[spec.ref].ssh_keys

    def exists(self, path: str) -> bool:
        return path in self.world.disks


@contextmanager
def fake_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A world of its own, forgotten afterwards."""
    try:
        yield FakeRig()
    finally:
        reset_worlds()


def libvirt_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """Real libvirt on this machine."""
    from .libvirt_rig import libvirt_rig as rig

    return rig(request)


def vmware_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """A double of VMware Workstation's REST API."""
    from .vmware_rig import vmware_rig as rig

    return rig(request)


def proxmox_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """A double of Proxmox VE's API."""
    from .proxmox_rig import proxmox_rig as rig

    return rig(request)


def vcenter_rig(_request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """VMware's simulator as a vCenter."""
    from .vsphere_rig import vsphere_rig as rig

    return rig(esx=False)


def esxi_rig(_request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """VMware's simulator as one ESXi alone."""
    from .vsphere_rig import vsphere_rig as rig

    return rig(esx=True)


def incus_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """A real LXD on this machine."""
    from .incus_rig import incus_rig as rig

    return rig(request)


def docker_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """A real Docker of the suite's own."""
    from .docker_rig import docker_rig as rig

    return rig(request)


def podman_rig(request: pytest.FixtureRequest) -> AbstractContextManager[Rig]:
    """A real Podman of the suite's own."""
    from .docker_rig import podman_rig as rig

    return rig(request)


@dataclass(frozen=True)
class EngineUnderTest:
    """An engine, and how to set up a host for it. ``live`` ones need something real on this machine. ``mode`` tells several hosts
    of one engine apart."""

    kind: EngineKind
    rig: Callable[[pytest.FixtureRequest], AbstractContextManager[Rig]]
    live: bool = False
    mode: str = ""

    @property
    def name(self) -> str:
        """In the names of tests."""
        return f"{self.kind.value}-{self.mode}" if self.mode else self.kind.value


PROVIDERS: tuple[EngineUnderTest, ...] = (
    EngineUnderTest(EngineKind.FAKE, fake_rig),
    EngineUnderTest(EngineKind.LIBVIRT, libvirt_rig, live=True),
    EngineUnderTest(EngineKind.VMWARE_WORKSTATION, vmware_rig),
    EngineUnderTest(EngineKind.PROXMOX, proxmox_rig),
    EngineUnderTest(EngineKind.VSPHERE, vcenter_rig, live=True, mode="vcenter"),
    EngineUnderTest(EngineKind.VSPHERE, esxi_rig, live=True, mode="esxi"),
    EngineUnderTest(EngineKind.INCUS, incus_rig, live=True),
    EngineUnderTest(EngineKind.DOCKER, docker_rig, live=True),
    EngineUnderTest(EngineKind.DOCKER, podman_rig, live=True, mode="podman"),
)
