"""VMware Workstation's double, on a port of this machine."""

from __future__ import annotations

import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from panel.engines.common import sshtrust
from panel.engines.hosttypes import NativeForward
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.doubles.hostshell import LAUNCH_PATH, Shell, parted, shell
from tests.doubles.serving import served
from tests.doubles.vmrest import vmrest
from tests.doubles.vmrest_world import IMAGES, VMS, Workstation

from .kit import SECRET, some_spec
from .providers import Rig


class VmwareRig(Rig):
    """A double with two templates, and a third whose guest has no VMware Tools."""

    kind = EngineKind.VMWARE_WORKSTATION
    image = "Debian 12"
    big_image = "Windows 10 x64"
    boot_seconds = 30.0
    shutdown_seconds = 5.0
    ports = False

    def __init__(self, world: Workstation, base: str, ssh: Shell) -> None:
        self.world = world
        options = {"vnc_ports": free_ports(60), "shutdown_timeout": "0.5"} | ssh.options
        self.connection = HostConnection(
            "contract", base, "admin", SECRET, disks_path="d:/vms", images_path="d:/images", launch_path=LAUNCH_PATH,
            **parted(options),
        )  # fmt: skip

    def spec(self, **changes: object) -> VmSpec:
        """Every VM of Workstation is a copy of a template: of one without Tools unless the test says otherwise."""
        return some_spec(self.prefix, **({"image": "tiny"} | changes))

    def deafen(self, ref: str) -> None:
        machine = self._machine(ref)
        machine.tools = machine.deaf = True

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

    def foreign_forward(self, forward: NativeForward) -> None:
        guest = {"ip": forward.address, "port": forward.target_port}
        rule = {"port": forward.port, "protocol": forward.protocol, "desc": "by hand", "guest": guest}
        self.world.forwards["vmnet8", forward.protocol, forward.port] = rule

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return self._machine(seen.ref).passwords.get(user) == password

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
    world.add("tiny", IMAGES, tools=False)
    with (
        tempfile.TemporaryDirectory() as folder,
        shell(world, Path(folder)) as opened,
        pytest.MonkeyPatch.context() as patch,
        served(vmrest(world, "admin", SECRET)) as base,
    ):
        patch.setattr(sshtrust, "SYSTEM_KNOWN_HOSTS", (str(opened.known_hosts),))
        yield VmwareRig(world, base, opened)
