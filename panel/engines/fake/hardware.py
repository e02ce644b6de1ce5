"""What fake VMs are made of, and how it changes."""

from __future__ import annotations

from typing import Any

from panel.engines.fake.images import find_image
from panel.engines.fake.view import ON
from panel.engines.fake.world import GIB, SEED_BYTES, FakeNic, FakeVm, FakeWorld
from panel.engines.types import VmChange, VmSpec

FIELDS = ("title", "cpu_count", "memory_mib", "disk_gib", "iso", "boot")


def wanted(change: VmChange) -> dict[str, Any]:
    """What is to change, by field."""
    return {name: value for name in FIELDS if (value := getattr(change, name)) is not None}


def waits(vm: FakeVm, name: str, value: Any) -> bool:
    """Whether a change of the VM, as it is, holds only from its next start."""
    if vm.state not in ON:
        return False
    if name == "iso":
        return vm.iso is None and bool(value)
    if name == "boot":
        return tuple(vm.boot) != tuple(value)
    return name in {"cpu_count", "memory_mib"} and bool(value < getattr(vm, name))


def apply(world: FakeWorld, vm: FakeVm, name: str, value: Any, *, later: bool) -> None:
    """Change one field, or keep the change for the next start."""
    vm.pending.pop(name, None)
    value = list(value) if name == "boot" else value
    if later:
        vm.pending[name] = value
    elif name != "iso" or value or vm.iso is not None:  # what has no drive has nothing to eject
        setattr(vm, name, value)
    if name == "disk_gib":
        for disk in world.disks_of(vm.ref):
            if disk.size_bytes != SEED_BYTES:
                disk.size_bytes = vm.disk_gib * GIB


def make_vm(world: FakeWorld, spec: VmSpec, folder: str = "") -> FakeVm:
    """The stopped VM that ``spec`` asks for. Every image has an agent; an empty disk has none."""
    image = find_image(spec.image, folder, world.images) if spec.image else None
    vm = FakeVm(
        ref=spec.ref,
        name=spec.name,
        title=spec.title,
        cpu_count=spec.cpu_count,
        memory_mib=spec.memory_mib,
        disk_gib=spec.disk_gib,
        nics=[
            FakeNic(nic.name, nic.mac, nic.mode, nic.network or f"fake-{nic.mode}", list(nic.addresses))
            for nic in spec.nics
        ],
        image=image.name if image else "",
        hostname=spec.hostname,
        agent=image is not None,
    )
    vm.ssh_keys = list(spec.ssh_keys) if image else []
    if image and spec.password is not None:
        vm.passwords[spec.user] = spec.password
    return vm
