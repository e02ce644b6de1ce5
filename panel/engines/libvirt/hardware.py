"""The CD drive and the boot order of a domain: the running one where QEMU can, the definition always. Everything here blocks.

Boot order is written on the devices (``<boot order='1'/>``): ``<os><boot dev='cdrom'/>`` means the first CD drive only, which
in the panel's VMs holds the first-boot settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import libvirt

from panel.engines.hosttypes import Iso
from panel.engines.libvirt import storage
from panel.engines.libvirt.domain import DomainConfig, boot_order, iso_element, read_domain
from panel.engines.libvirt.images import unfinished
from panel.engines.libvirt.storage import VolumeInfo
from panel.engines.libvirt.xmltree import Element, node, parse, serialize
from panel.engines.types import BootDevice
from panel.errors import Conflict, InvalidInput

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_BUSES = {"pc": ("ide", "hd", 4), "q35": ("sata", "sd", 6)}  # machine: the bus, names and places of CD drives


def is_iso(volume: VolumeInfo) -> bool:
    """Whether it can be put into a CD drive."""
    named = volume.name.lower().endswith(".iso")
    return not volume.name.startswith(".") and volume.capacity > 0 and (named or volume.format == "iso")


def list_isos(pool: Any) -> list[Iso]:
    """The ISO files of the pool, by name."""
    return sorted((Iso(volume.name, volume.capacity) for volume in _isos(pool)), key=lambda iso: iso.name)


def _isos(pool: Any) -> list[VolumeInfo]:
    storage.refresh(pool)
    volumes = storage.list_volumes(pool)
    coming = unfinished(volume.name for volume in volumes)
    return [volume for volume in volumes if volume.name not in coming and is_iso(volume)]


def find_iso(pool: Any, name: str) -> str:
    """The path of the ISO file ``name``. ``InvalidInput`` when the pool has none."""
    volumes = _isos(pool)
    found = next((volume.path for volume in volumes if volume.name == name), None)
    if found is None:
        raise InvalidInput(
            "There is no ISO file {name} on this host. It has: {names}.",
            field="iso",
            name=name,
            names=", ".join(sorted(volume.name for volume in volumes)) or "-",
        )
    return found


def check_boot(config: DomainConfig, order: Sequence[BootDevice]) -> None:
    """``InvalidInput`` for an order that is empty, has something twice, or has what the VM lacks."""
    if not order or len(order) != len(set(order)):
        raise InvalidInput("The boot order needs at least one device, and each once.", field="boot")
    if BootDevice.DISK in order and config.system_disk is None:
        raise InvalidInput("The VM has no disk to start from.", field="boot")
    if BootDevice.NETWORK in order and not config.nics:
        raise InvalidInput("The VM has no network interface to start from.", field="boot")


def set_iso(domain: Any, path: str) -> bool:
    """Put the file at ``path`` into the CD drive, or eject with an empty one; True when it is so already. A drive that the
    running VM lacks is there at its next start. ``Conflict`` when it cannot have one."""
    there = True
    if domain.isActive():
        root = parse(domain.XMLDesc(0))
        drive = iso_element(root)
        if drive is not None:
            _change_medium(domain, drive, path)
        else:
            there = not path
    if domain.isPersistent():
        _edit(domain, lambda root: _put_iso(root, path))
    elif not there:
        raise Conflict("The VM has no CD drive, and libvirt forgets it when it stops: it cannot get one.")
    return there


def _change_medium(domain: Any, drive: Element, path: str) -> None:
    """In the running VM. A guest that has locked the tray is not asked twice: as with a pin in the emergency hole."""
    _fill(drive, path)
    text = serialize(drive)
    try:
        domain.updateDeviceFlags(text, _LIVE)
    except libvirt.libvirtError:
        domain.updateDeviceFlags(text, _LIVE | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)


def _put_iso(root: Element, path: str) -> None:
    drive = iso_element(root)
    if drive is None and path:
        drive = _add_drive(root)
    if drive is not None:
        _fill(drive, path)


def _fill(drive: Element, path: str) -> None:
    """What is in a drive. A file that is gone at the next start leaves it empty, and the VM starts."""
    for old in [child for child in drive if child.tag in {"source", "backingStore"}]:
        drive.remove(old)
    drive.set("type", "file")
    driver = drive.find("driver")
    if driver is not None:
        driver.set("type", "raw")
    if path:
        node(drive, "source", file=path, startupPolicy="optional")


def _add_drive(root: Element) -> Element:
    """An empty CD drive more, started from as the others are."""
    machine = root.find("os/type")
    name = machine.get("machine", "") if machine is not None else ""
    bus, prefix, places = _BUSES["q35" if "q35" in name else "pc"]
    devices = root.find("devices")
    if devices is None or not ("q35" in name or name.startswith("pc")):
        raise Conflict("A CD drive cannot be added to a machine of type {machine}. Add one in libvirt.", machine=name)
    taken = {target.get("dev", "") for target in devices.findall("disk/target")}
    free = [f"{prefix}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:places]]
    free = [one for one in free if one not in taken]
    if not free:
        raise Conflict("The VM has no place for a CD drive. Remove one of its {bus} disks in libvirt.", bus=bus)
    order = boot_order(root)
    drive = node(devices, "disk", type_="file", device="cdrom")
    node(drive, "driver", name="qemu", type_="raw")
    node(drive, "target", dev=free[0], bus=bus)
    node(drive, "readonly")
    write_boot(root, order)
    return drive


def set_boot(domain: Any, order: Sequence[BootDevice]) -> bool:
    """Start from these devices, in this order; True when it is so already."""
    if not domain.isPersistent():
        raise Conflict("libvirt forgets this VM when it stops: its boot order cannot be changed.")
    _edit(domain, lambda root: _choose_boot(root, order))
    return not domain.isActive() or read_domain(domain.XMLDesc(0)).boot == tuple(order)


def _choose_boot(root: Element, order: Sequence[BootDevice]) -> None:
    if BootDevice.CDROM in order and iso_element(root) is None:
        _add_drive(root)
    write_boot(root, order)


def write_boot(root: Element, order: Sequence[BootDevice]) -> None:
    """Number the devices of a definition that are started from, and no others."""
    system, devices = root.find("os"), root.find("devices")
    if system is None or devices is None:
        return
    for parent in (system, *devices):
        for old in parent.findall("boot"):
            parent.remove(old)
    drive = iso_element(root)
    kinds = {
        BootDevice.DISK: [disk for disk in devices.findall("disk") if disk.get("device", "disk") == "disk"],
        BootDevice.CDROM: [drive] if drive is not None else [],
        BootDevice.NETWORK: devices.findall("interface"),
    }
    for number, device in enumerate((device for kind in order for device in kinds[kind]), 1):
        node(device, "boot", order=str(number))


def _edit(domain: Any, change: Callable[[Element], None]) -> None:
    """Change the definition, secrets in it kept."""
    root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    change(root)
    domain.connect().defineXMLFlags(serialize(root), 0)
