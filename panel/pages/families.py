"""Which operating system an image holds, by its names: its icon, and what a VM of it needs at least to be pleasant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

STEP_GIB = 10  # suggested disks are multiples of it


class Pictured(Protocol):
    """Anything with an image's names."""

    name: str
    key: str
    title: str


@dataclass(frozen=True, slots=True)
class Family:
    """Operating systems that share an icon of ``static/img/systems.svg``. ``disk_gib`` is for images that are much smaller."""

    icon: str
    words: str
    memory_mib: int = 2048
    cpu_count: int = 2
    disk_gib: int = 20


FAMILIES = (
    Family("debian", r"debian"),
    Family("ubuntu", r"[xkl]?ubuntu"),
    Family("alpine", r"alpine", memory_mib=512, cpu_count=1, disk_gib=10),
    Family("redhat", r"fedora|rhel|red.?hat|rocky|alma.?linux|centos|oracle.?linux"),
    Family("windows", r"windows|win(srv|server)?.?(7|8|10|11|20\d\d)", memory_mib=4096, disk_gib=40),
)
OTHER = Family("other", r"")


def family(image: Pictured | None) -> Family:
    """The family whose word begins a word of the image's title, name or file; ``OTHER`` when none does."""
    text = f"{image.title} {image.name} {image.key}".casefold() if image else ""
    return next((each for each in FAMILIES if re.search(rf"(?<![a-z])({each.words})", text)), OTHER)


def suggested_disk(known: Family, virtual_gib: float) -> int:
    """GiB that leave an image half as much again to grow, and are never less than its family's."""
    return max(known.disk_gib, -int(-virtual_gib * 1.5 // STEP_GIB) * STEP_GIB)
