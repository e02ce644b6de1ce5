"""What a real hypervisor would refuse, before anything is made."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

from panel.engines.fake.images import find_image, images_of, isos_of
from panel.engines.fake.world import FakeNetwork, FakeVm, FakeWorld
from panel.engines.types import BootDevice, VmChange, VmSpec
from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
MAX_CPUS = 64


def check_spec(world: FakeWorld, spec: VmSpec, folder: str = "") -> None:
    """``InvalidInput`` or ``Conflict`` unless ``spec`` can be made on this host now."""
    if not NAME.fullmatch(spec.name):
        raise InvalidInput(
            _("The name {name} is not usable. Use letters, digits, dot, underscore and hyphen."),
            field="vm_uuid",
            name=repr(spec.name),
        )
    check_sizes(spec.title, spec.cpu_count, spec.memory_mib)
    if spec.image is not None:
        check_image(world, spec.image, spec.disk_gib, folder)
    if spec.disk_gib < 1:
        raise InvalidInput(_("A disk has at least 1 GiB."), field="hdd_num")
    if world.named(spec.name) or spec.name in world.making:
        raise Conflict(_("A VM called {name} exists already. Choose another name."), name=spec.name)
    if spec.ref in world.vms or spec.ref in world.making.values():
        raise Conflict(_("The VM {ref} exists already."), ref=spec.ref)


def check_image(world: FakeWorld, name: str, disk_gib: int, folder: str = "") -> None:
    """``InvalidInput`` unless the host has the image and the disk holds it."""
    image = find_image(name, folder, world.images)
    if image is None:
        known = ", ".join(item.name for item in images_of(folder, world.images))
        raise InvalidInput(_("No image {name}. This host has: {known}."), field="os_name", name=name, known=known)
    if image.virtual_gib > disk_gib:
        raise InvalidInput(
            _("{name} needs a disk of at least {size} GiB."),
            field="hdd_num",
            name=image.name,
            size=image.virtual_gib,
        )


def check_sizes(title: str | None, cpu_count: int | None, memory_mib: int | None) -> None:
    """``InvalidInput`` for a title, CPU count or memory that no VM can have."""
    if title is not None and "\0" in title:
        raise InvalidInput(_("A title cannot contain a zero byte."), field="vm_name")
    if cpu_count is not None and not 1 <= cpu_count <= MAX_CPUS:
        raise InvalidInput(_("A VM has 1 to {most} CPUs."), field="cpu_num", most=MAX_CPUS)
    if memory_mib is not None and memory_mib < 16:
        raise InvalidInput(_("A VM has at least 16 MiB of memory."), field="ram_num")


def check_change(world: FakeWorld, vm: FakeVm, change: VmChange) -> None:
    """``InvalidInput`` unless the whole of ``change`` can be done."""
    check_sizes(change.title, change.cpu_count, change.memory_mib)
    if change.disk_gib is not None and change.disk_gib < vm.disk_gib:
        raise InvalidInput(
            _("The disk has {size} GiB already: it can grow, not shrink."), field="hdd_num", size=vm.disk_gib
        )
    isos = [iso.name for iso in isos_of(world.images)]
    if change.iso and change.iso not in isos:
        known = ", ".join(isos)
        raise InvalidInput(
            _("There is no ISO file {name} on this host. It has: {names}."), field="iso", name=change.iso, names=known
        )
    if change.boot is not None and (not change.boot or len(change.boot) != len(set(change.boot))):
        raise InvalidInput(_("The boot order needs at least one device, and each once."), field="boot")
    if change.boot and BootDevice.NETWORK in change.boot and not vm.nics:
        raise InvalidInput(_("The VM has no network interface to start from."), field="boot")


def check_reservation(network: FakeNetwork, mac: str, addresses: tuple[str, ...]) -> None:
    """``InvalidInput`` or ``Conflict`` unless DHCP can give ``mac`` these addresses."""
    subnets = [ip_network(text) for text in (network.subnet4, network.subnet6) if text]
    versions = [ip_address(text).version for text in addresses]
    if len(versions) != len(set(versions)):
        raise InvalidInput(_("DHCP gives one address of a family to an interface."), field="ip_address")
    for text in addresses:
        if not any(ip_address(text) in subnet for subnet in subnets):
            raise InvalidInput(
                _("{address} is in no network of the host that has DHCP."), field="ip_address", address=text
            )
        holder = next((other for other, held in network.reservations.items() if text in held and other != mac), None)
        if holder is not None:
            raise Conflict(_("Address {address} is reserved for {mac} on the host."), address=text, mac=holder)
