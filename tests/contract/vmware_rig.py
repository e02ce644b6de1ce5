"""VMware Workstation's double, on a port of this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import IMAGES, VMS, Workstation

from .kit import SECRET, some_spec
from .providers import Rig


class VmwareRig(Rig):
    """A double with two templates."""

    kind = EngineKind.VMWARE_WORKSTATION
    image = "Debian 12"
    big_image = "Windows 10 x64"
    boot_seconds = 30.0
    shutdown_seconds = 5.0

    def __init__(self, world: Workstation, base: str) -> None:
        self.world = world
        options = {"vnc_ports": free_ports(60), "shutdown_timeout": "0.5"}
        self.connection = HostConnection(
            "contract", base, "admin", SECRET, disks_path="d:/vms", images_path="d:/images", options=options
        )

    def spec(self, **changes: object) -> VmSpec:
        """Every VM of Workstation is a copy of a template."""
        return some_spec(self.prefix, **({"image": self.image} | changes))

    def deafen(self, ref: str) -> None:
        self._machine(ref).deaf = True

    def files(self) -> set[str]:
        return set(self.world.files)

    def lose_disks(self, ref: str, name: str) -> None:
        self.world.files -= {self._machine(ref).disk}

    def lose_definition(self, ref: str) -> None:
        del self.world.machines[self._machine(ref).id]

    def foreign(self) -> tuple[str, str, str]:
        vm = self.world.add(f"{self.prefix}foreign-{uuid4().hex[:6]}", VMS)
        return vm.id, vm.name, vm.disk

    def remove_foreign(self, ref: str, disk: str) -> None:
        vm = self.world.machines.pop(ref, None)
        self.world.files -= {disk, vm.path if vm else ""}

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return path in self.world.files

    def _machine(self, ref: str):  # type: ignore[no-untyped-def]
        return next(vm for vm in list(self.world.machines.values()) if ref in vm.path)


def free_ports(count: int) -> str:
    """A range of ports below the system's own, none of which is taken now."""
    while True:
        first = random.randrange(10000, 32000)
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return f"{first}-{first + count - 1}"


@contextmanager
def vmware_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A Workstation of the suite's own."""
    world = Workstation()
    for name in (VmwareRig.image, VmwareRig.big_image):
        world.add(name, IMAGES)
    with served(vmrest(world, "admin", SECRET)) as base:
        yield VmwareRig(world, base)
