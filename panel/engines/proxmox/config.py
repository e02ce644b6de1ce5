"""A VM's configuration as Proxmox writes it, and the panel's mark in it.

The mark is a line of the VM's notes, an HTML comment that Proxmox's pages do not show: what the VM is called in the panel, and
for which number that holds, so that a copy made by hand is not taken for the panel's.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

import orjson

from panel.engines.types import BootDevice, DiskObservation, NicMode, NicObservation
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

_MARK = re.compile(r"\n?<!-- openidcs ([A-Za-z0-9+/=]+) -->")
_DRIVE = re.compile(r"(ide|sata|scsi|virtio)\d+")
_VOLUME = re.compile(r"rootfs|mp\d+")
_NET = re.compile(r"net(\d+)")
_MAC = re.compile(r"(?P<model>[a-z0-9-]+)=(?P<mac>(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2})")
_UNITS = {"K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}
LONGEST_TITLE = 1000

Config = dict[str, Any]
Addresses = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the panel wrote. ``ref`` and ``name`` are empty for a VM that it did not make."""

    vmid: int
    title: str
    ref: str = ""
    name: str = ""


def with_mark(notes: str, mark: Mark) -> str:
    """The VM's notes, with this mark in place of another. ``InvalidInput`` for a title with half a character."""
    values = {"vmid": mark.vmid, "title": mark.title, "ref": mark.ref, "name": mark.name}
    try:
        packed = base64.b64encode(orjson.dumps(values)).decode()
    except TypeError:
        raise InvalidInput(_("A title must be text: this one has half a character."), field="vm_name") from None
    return _MARK.sub("", notes).rstrip("\n") + f"\n<!-- openidcs {packed} -->"


def mark_of(config: Config, vmid: int) -> Mark | None:
    """The panel's mark, when it is this VM's."""
    found = _MARK.search(str(config.get("description", "")))
    if found is None:
        return None
    try:
        values = orjson.loads(base64.b64decode(found[1], validate=True))
        mark = Mark(int(values["vmid"]), str(values["title"]), str(values["ref"]), str(values["name"]))
    except (ValueError, KeyError, TypeError):
        return None
    return mark if mark.vmid == vmid else None


def check_title(title: str | None) -> None:
    """``InvalidInput`` for what can be no title."""
    if title is None:
        return
    if any(ord(char) < 32 or ord(char) == 127 for char in title):
        raise InvalidInput(_("A title is one line without control characters."), field="vm_name")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(_("A title has at most {most} characters."), field="vm_name", most=LONGEST_TITLE)
    with_mark("", Mark(0, title))


def dns_name(text: str) -> str:
    """What Proxmox calls a VM, and cloud-init its host: a DNS name made of any identifier."""
    labels = [re.sub(r"[^A-Za-z0-9-]", "-", label).strip("-")[:63].strip("-") for label in text.split(".")]
    return ".".join(filter(None, labels))[:200].strip(".-") or "vm"


def cores_of(config: Config) -> int:
    """CPUs."""
    return int(config.get("cores") or 1) * int(config.get("sockets") or 1)


def memory_of(config: Config) -> int:
    """MiB; newer ones write ``current=2048``."""
    found = re.search(r"\d+", str(config.get("memory") or "512"))
    return int(found[0]) if found else 0


def agent_on(config: Config) -> bool:
    """Whether the VM has the agent's device."""
    return re.match(r"(enabled=)?1", str(config.get("agent", ""))) is not None


def is_container(config: Config) -> bool:
    """Whether it is LXC's: those have a root file system and no drives."""
    return "rootfs" in config


def _drives(config: Config) -> list[str]:
    pattern = _VOLUME if is_container(config) else _DRIVE
    return sorted(filter(pattern.fullmatch, config), key=_order)


def disks(config: Config, *, ours: bool) -> tuple[DiskObservation, ...]:
    """Its drives, the system disk first. Cloud-init's own drive is none of them. Of a container, its volumes."""
    seen = []
    for drive in _drives(config):
        source, *options = str(config[drive]).split(",")
        values = dict(option.partition("=")[::2] for option in options)
        if source.endswith("cloudinit") or "-cloudinit" in source:
            continue
        cd = values.get("media") == "cdrom"
        seen.append(
            DiskObservation(
                name=drive,
                kind=BootDevice.CDROM if cd else BootDevice.DISK,
                bus="" if is_container(config) else drive.rstrip("0123456789"),
                source="" if source == "none" else source,
                format=values.get("format", ""),
                size_gib=gib(values.get("size", "")),
                ours=ours and not cd,
            )
        )
    first = boot_disk(config)
    return tuple(sorted(seen, key=lambda disk: disk.name != first))


def boot_disk(config: Config) -> str:
    """The drive of the system disk: the first disk that it starts from, else its first; empty when it has none. A container's
    root file system."""
    if is_container(config):
        return "rootfs"
    drives = [drive for drive in _drives(config) if "media=cdrom" not in str(config[drive])]
    order = [*re.split(r"[;,=]", str(config.get("boot", ""))), str(config.get("bootdisk", ""))]
    return next((drive for drive in order if drive in drives), drives[0] if drives else "")


def has_seed(config: Config) -> bool:
    """Whether it has a cloud-init drive."""
    return any("cloudinit" in str(config[drive]) for drive in filter(_DRIVE.fullmatch, config))


def serial_of(config: Config) -> str:
    """The first serial port that a terminal can be opened on; empty when there is none."""
    return next((key for key in sorted(config) if key.startswith("serial") and str(config[key]) == "socket"), "")


def nets(config: Config) -> list[str]:
    """``net0`` and so on, in order."""
    return sorted(filter(_NET.fullmatch, config), key=lambda key: int(key[3:]))


def nic(key: str, value: str, nat_bridge: str, told: Addresses) -> NicObservation:
    """An interface. A container's says its own name, and ``hwaddr`` where a VM's says its card."""
    found = _MAC.search(value)
    mac = found["mac"].lower() if found else ""
    options = dict(option.partition("=")[::2] for option in value.split(","))
    bridge = options.get("bridge", "")
    model = found["model"] if found else ""
    return NicObservation(
        name=options.get("name") or f"eth{key[3:]}",
        mac=mac,
        mode=NicMode.NAT if bridge == nat_bridge else NicMode.BRIDGE if bridge else None,
        network=bridge,
        addresses=told.get(mac, ()),
        model=options.get("type", "veth") if model == "hwaddr" else model,
    )


def gib(size: str) -> float | None:
    """``32G`` as a number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])", size)
    return float(found[1]) * _UNITS[found[2]] if found else None


def _order(drive: str) -> tuple[str, int]:
    bus = drive.rstrip("0123456789")
    return bus, int(drive[len(bus) :] or "0")
