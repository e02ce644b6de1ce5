"""Proxmox VE's double, on a port of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote
from uuid import uuid4

import pytest

from panel.engines.proxmox.config import mark_of
from panel.engines.types import EngineKind, HostConnection, VmObservation, VmSpec
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster, Machine
from tests.doubles.serving import served

from .kit import SECRET, some_spec
from .providers import Rig

USER, TOKEN = "panel@pve", "panel@pve!contract"


class ProxmoxRig(Rig):
    """A double with two templates."""

    kind = EngineKind.PROXMOX
    image = "debian-12"
    big_image = "windows-10"
    iso = "virtio-win.iso"
    boot_seconds = 30.0
    shutdown_seconds = 5.0

    def __init__(self, world: Cluster, base: str) -> None:
        self.world = world
        options = {"network_nat": "vmbr1", "shutdown_timeout": "1"}
        self.connection = HostConnection("contract", base, TOKEN, SECRET, disks_path="local-lvm", options=options)

    def spec(self, **changes: object) -> VmSpec:
        """Every VM is a clone of a template: of one without an agent unless the test says otherwise."""
        return some_spec(self.prefix, **({"image": "tiny"} | changes))

    def deafen(self, ref: str) -> None:
        self._machine(ref).deaf = True

    def files(self) -> set[str]:
        return set(self.world.volumes)

    def lose_disks(self, ref: str, name: str) -> None:
        self.world.volumes -= set(self._machine(ref).volumes())

    def lose_definition(self, ref: str) -> None:
        del self.world.machines[self._machine(ref).vmid]

    def foreign(self) -> tuple[str, str, str]:
        vm = self.world.add(f"{self.prefix}foreign-{uuid4().hex[:6]}")
        return str(vm.vmid), vm.name, next(iter(vm.disks().values()))

    def remove_foreign(self, ref: str, disk: str) -> None:
        vm = self.world.machines.pop(int(ref), None)
        self.world.volumes -= {disk, *(vm.volumes() if vm else ())}

    async def logs_in(self, seen: VmObservation, user: str, password: str) -> bool:
        return self._machine(seen.ref).passwords.get(user) == password

    def lists_images_as(self, name: str) -> str:
        return f"local:import/{name}.raw"

    def keys_told(self, spec: VmSpec) -> list[str]:
        return unquote(self._machine(spec.ref).config.get("sshkeys", "")).splitlines()

    def exists(self, path: str) -> bool:
        return path in self.world.volumes

    def _machine(self, ref: str) -> Machine:
        marks = [(vm, mark_of(vm.config, vm.vmid)) for vm in list(self.world.machines.values())]
        return next(vm for vm, mark in marks if mark is not None and mark.ref == ref)


@contextmanager
def proxmox_rig(_request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A cluster of the suite's own."""
    world = Cluster()
    world.add(ProxmoxRig.image, gib=1, template=True)
    world.add(ProxmoxRig.big_image, gib=20, template=True)
    world.add("tiny", gib=1, template=True, agent=False)
    with served(pve(world, Door(USER, "unused", f"{TOKEN}={SECRET}"))) as base:
        yield ProxmoxRig(world, base)
