"""A VM's configuration as vSphere has it, and the panel's mark in it.

The mark is an entry of the VM's advanced settings (``extraConfig``). It names the VM's ``instanceUuid``, which a copy made by
hand does not share, so that the copy is not taken for the panel's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from panel.engines.types import BootDevice, DiskObservation, NicMode, NicObservation
from panel.engines.vsphere.sdk import vim
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

KEY = "openidcs.mark"
LONGEST_TITLE = 1000
LONGEST_NAME = 80  # vSphere's own
KIB_PER_GIB = 1024**2
Addresses = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the panel wrote.

    Attributes:
        ref: for which ``instanceUuid``.
        made: the panel made the VM.
        was, since: what it started from when it was started at ``since``, although its settings say something else by now.
    """

    ref: str
    title: str
    made: bool = True
    was: tuple[BootDevice, ...] = ()
    since: str = ""


def packed(mark: Mark) -> str:
    """The mark as a value of ``extraConfig``. ``InvalidInput`` for a title with half a character."""
    try:
        return base64.b64encode(orjson.dumps(mark)).decode()
    except TypeError:
        raise InvalidInput(_("A title must be text: this one has half a character."), field="vm_name") from None


def mark_of(extra: Iterable[Any] | None, ref: str) -> Mark | None:
    """The panel's mark, when it is this VM's. Of several entries the last holds."""
    values = [str(option.value) for option in extra or () if option.key == KEY]
    if not values:
        return None
    try:
        found = orjson.loads(base64.b64decode(values[-1], validate=True))
        was = tuple(BootDevice(kind) for kind in found["was"])
        mark = Mark(str(found["ref"]), str(found["title"]), bool(found["made"]), was, str(found["since"]))
    except (ValueError, KeyError, TypeError):
        return None
    return mark if mark.ref == ref else None


def check_title(title: str | None) -> None:
    """``InvalidInput`` for what can be no title."""
    if title is None:
        return
    if any(ord(char) < 32 or ord(char) == 127 for char in title):
        raise InvalidInput(_("A title is one line without control characters."), field="vm_name")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(_("A title has at most {most} characters."), field="vm_name", most=LONGEST_TITLE)
    packed(Mark("", title))


def plain_name(name: str) -> str:
    """A name of vSphere's, which escapes three characters in it."""
    return re.sub("%(2f|5c|25)", lambda found: {"2f": "/", "5c": "\\", "25": "%"}[found[1].lower()], name, flags=re.I)


def folder_of(path: str) -> str:
    """``[store] folder`` of ``[store] folder/file``; ends with ``/``."""
    return path.rpartition("/")[0] + "/" if "/" in path else path


def disks(devices: Iterable[Any], home: str, *, ours: bool) -> tuple[DiskObservation, ...]:
    """Its disks and CD drives, the system disk first.

    Args:
        home: the folder of the VM; disks elsewhere are not the panel's.
    """
    seen = []
    by_key = {device.key: device for device in devices}
    for device in sorted(by_key.values(), key=_place):
        cd = isinstance(device, vim.vm.device.VirtualCdrom)
        if not cd and not isinstance(device, vim.vm.device.VirtualDisk):
            continue
        source = str(getattr(device.backing, "fileName", "") or "")
        bus = _bus(by_key.get(device.controllerKey))
        seen.append(
            DiskObservation(
                name=f"{bus}{_number(by_key.get(device.controllerKey))}:{device.unitNumber or 0}",
                kind=BootDevice.CDROM if cd else BootDevice.DISK,
                bus=bus,
                source=source,
                format="" if cd else "vmdk",
                size_gib=None if cd else (device.capacityInKB or 0) / KIB_PER_GIB,
                ours=ours and not cd and folder_of(source) == home,
            )
        )
    return tuple(sorted(seen, key=lambda disk: disk.kind is BootDevice.CDROM))


def system_disk(devices: Iterable[Any]) -> Any | None:
    """The device of the first disk; None when it has none."""
    found = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    return min(found, key=_place, default=None)


def cards(devices: Iterable[Any]) -> list[Any]:
    """The devices of its interfaces, in order."""
    found = [device for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard)]
    return sorted(found, key=lambda device: (device.unitNumber or 0, abs(device.key)))


def cd_drive(devices: Iterable[Any]) -> Any | None:
    """The device of the first CD drive; None when it has none."""
    found = [device for device in devices if isinstance(device, vim.vm.device.VirtualCdrom)]
    return min(found, key=_place, default=None)


def network_key(card: Any) -> str:
    """What the card is connected to: a port group's name, or the key of a distributed or opaque one."""
    backing = card.backing
    port = getattr(backing, "port", None)
    if port is not None:
        return str(port.portgroupKey or "")
    return str(getattr(backing, "opaqueNetworkId", None) or getattr(backing, "deviceName", None) or "")


def nic(place: int, card: Any, names: dict[str, str], nat: str, told: Addresses) -> NicObservation:
    """An interface. ``names``: of port groups, by their keys."""
    key = network_key(card)
    network = names.get(key, key)
    mac = str(card.macAddress or "").lower()
    return NicObservation(
        name=f"eth{place}",
        mac=mac,
        mode=NicMode.NAT if network and network == nat else NicMode.BRIDGE if network else None,
        network=network,
        addresses=told.get(mac, ()),
        model=_type_name(card).removeprefix("Virtual").lower(),
    )


def boot_order(options: Any) -> tuple[BootDevice, ...]:
    """What it starts from, each kind once; empty when that is left to the firmware."""
    kinds = {
        "BootableDiskDevice": BootDevice.DISK,
        "BootableCdromDevice": BootDevice.CDROM,
        "BootableEthernetDevice": BootDevice.NETWORK,
    }
    found = [kinds.get(_type_name(entry)) for entry in getattr(options, "bootOrder", None) or ()]
    return tuple(dict.fromkeys(kind for kind in found if kind is not None))


def addresses(nets: Iterable[Any] | None) -> Addresses:
    """What VMware Tools told, by MAC."""
    told: Addresses = {}
    for each in nets or ():
        found = tuple(text for text in each.ipAddress or () if text and not text.lower().startswith("fe80:"))
        if each.macAddress and found:
            told[str(each.macAddress).lower()] = found
    return told


def _place(device: Any) -> tuple[int, int]:
    return (device.controllerKey or 0, device.unitNumber or 0)


def _bus(controller: Any) -> str:
    for kind, name in (
        ("VirtualSCSIController", "scsi"),
        ("VirtualSATAController", "sata"),
        ("VirtualNVMEController", "nvme"),
        ("VirtualIDEController", "ide"),
    ):
        if controller is not None and isinstance(controller, getattr(vim.vm.device, kind)):
            return name
    return "disk"


def _number(controller: Any) -> int:
    return int(getattr(controller, "busNumber", 0) or 0)


def _type_name(thing: Any) -> str:
    return type(thing).__name__.rpartition(".")[2]
