"""What a hypervisor says is not believed blindly: nonsense in an observation becomes "not known" before it is stored."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from panel.engines.types import DiskObservation, Load, NicObservation, Snapshot, VmObservation
from panel.services.names import MAC

LARGEST_INT = 2**31 - 1  # of an integer column
LARGEST_DISK_GIB = 1e9
MOST_DISKS = 64
MOST_SNAPSHOTS = 100
LARGEST_COUNTER = 2**63 - 1
LOOKED_AT = 4  # times the length that is kept
INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # what the gateway takes for one
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn"})  # control characters, and those that turn the direction of text


def cleaned(seen: VmObservation) -> VmObservation:
    """The same observation with texts that are one line, numbers that are possible, and addresses that are addresses."""
    disk, cpu, used = seen.disk_gib, seen.cpu_seconds, seen.memory_used_mib
    good: dict[str, Any] = {
        "title": one_line(seen.title),
        "os_name": one_line(seen.os_name),
        "cpu_count": min(max(0, seen.cpu_count), LARGEST_INT),
        "memory_mib": min(max(0, seen.memory_mib), LARGEST_INT),
        "disk_gib": disk if disk is not None and 0 <= disk <= LARGEST_DISK_GIB else None,
        "nics": tuple(_nics(seen.nics)),
        "cpu_seconds": cpu if cpu is not None and math.isfinite(cpu) and cpu >= 0 else None,
        "memory_used_mib": used if used is not None and 0 <= used <= LARGEST_INT else None,
        "disk_read_bytes": _counter(seen.disk_read_bytes),
        "disk_write_bytes": _counter(seen.disk_write_bytes),
        "net_rx_bytes": _counter(seen.net_rx_bytes),
        "net_tx_bytes": _counter(seen.net_tx_bytes),
        "disks": tuple(_disk(disk) for disk in seen.disks[:MOST_DISKS]),
        "iso": one_line(seen.iso, 255) if seen.iso is not None else None,
        "load": _load(seen.load),
        "snapshots": tuple(_snapshot(one) for one in seen.snapshots[:MOST_SNAPSHOTS]),
    }
    wrong = {name: value for name, value in good.items() if value != getattr(seen, name)}
    return replace(seen, **wrong) if wrong else seen


def _disk(disk: DiskObservation) -> DiskObservation:
    size = disk.size_gib
    good: dict[str, Any] = {
        "name": one_line(disk.name, 32),
        "bus": one_line(disk.bus, 16),
        "source": one_line(disk.source, 512),
        "format": one_line(disk.format, 16),
        "size_gib": round(size, 2) if size is not None and 0 <= size <= LARGEST_DISK_GIB else None,
    }
    wrong = {name: value for name, value in good.items() if value != getattr(disk, name)}
    return replace(disk, **wrong) if wrong else disk


def _load(seen: Load | None) -> Load | None:
    if seen is None:
        return None
    rates = {
        name: _number(getattr(seen, name), LARGEST_COUNTER) for name in ("disk_read", "disk_write", "net_rx", "net_tx")
    }
    return Load(cpu_percent=_number(seen.cpu_percent, 100.0), **rates)


def _number(value: float | None, most: float) -> float | None:
    return min(value, most) if value is not None and math.isfinite(value) and value >= 0 else None


def _snapshot(seen: Snapshot) -> Snapshot:
    name, parent = one_line(seen.name, 128), one_line(seen.parent, 128)
    return replace(seen, name=name, parent=parent, description=one_line(seen.description))


def one_line(text: str, most: int = 200) -> str:
    """A text for people: one line, without hidden characters, cut at ``most``. The end of what is far longer is not looked at."""
    text = text[: most * LOOKED_AT]
    if text.isprintable() and "  " not in text:  # as nearly all are: nothing to look for, letter by letter
        return text.strip()[:most]
    shown = re.sub(r"\s", " ", text)
    for char in set(shown):  # each once: a host that tells nonsense tells much of it
        if unicodedata.category(char) in HIDDEN:
            shown = shown.replace(char, "")
    return re.sub(" +", " ", shown).strip()[:most]


def _nics(seen: Iterable[NicObservation]) -> list[NicObservation]:
    """Interfaces by MAC: one without, or with the MAC of another, cannot be told apart and is left out."""
    known: dict[str, NicObservation] = {}
    for nic in seen:
        mac = nic.mac.lower()
        if MAC.fullmatch(mac) and mac not in known:
            port = nic.port if INTERFACE.fullmatch(nic.port) else ""
            addresses = tuple(text for text in nic.addresses if _is_address(text))
            network, model = one_line(nic.network, 64), one_line(nic.model, 32)
            if (mac, network, addresses, port, model) != (nic.mac, nic.network, nic.addresses, nic.port, nic.model):
                nic = replace(nic, mac=mac, network=network, addresses=addresses, port=port, model=model)  # noqa: PLW2901
            known[mac] = nic
    return list(known.values())


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("/")[0].partition("%")[0])
    except ValueError:
        return False
    return len(text) <= 64


def _counter(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= LARGEST_COUNTER else None
