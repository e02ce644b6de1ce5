"""An instance as the API writes it, and the panel's mark in it: keys ``user.openidcs.*`` of its configuration."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from panel.engines.types import PowerState
from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

REF, NAME, TITLE = "user.openidcs.ref", "user.openidcs.name", "user.openidcs.title"
LONGEST_TITLE = 1000
LONGEST_NAME = 63
CONTAINER, VM = "container", "virtual-machine"
MIB, GIB = 1024**2, 1024**3
_INSTANCE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SIZE = re.compile(r"\s*(\d+)\s*([kMGTPE]i?)?B?\s*")
_UNITS = {None: 1} | {
    prefix + suffix: (1024 if suffix else 1000) ** power
    for power, prefix in enumerate("kMGTPE", 1)
    for suffix in ("", "i")
} | {"Ki": 1024}  # fmt: skip
STATES = {
    "Running": PowerState.RUNNING,
    "Ready": PowerState.RUNNING,
    "Thawed": PowerState.RUNNING,
    "Stopped": PowerState.STOPPED,
    "Frozen": PowerState.SUSPENDED,
    "Error": PowerState.CRASHED,
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """An instance, as ``/1.0/instances?recursion=2`` shows it."""

    raw: Json

    @property
    def name(self) -> str:
        """As the server calls it."""
        return str(self.raw["name"])

    @property
    def config(self) -> Json:
        """With what its profiles add."""
        return self.raw.get("expanded_config") or self.raw.get("config") or {}

    @property
    def own(self) -> Json:
        """Its own configuration."""
        return self.raw.get("config") or {}

    @property
    def devices(self) -> dict[str, Json]:
        """With what its profiles add."""
        return self.raw.get("expanded_devices") or self.raw.get("devices") or {}

    @property
    def ref(self) -> str:
        """The panel's choice, or the server's UUID of what others made."""
        return str(self.own.get(REF) or self.own.get("volatile.uuid") or self.name)

    @property
    def managed(self) -> bool:
        """Whether the panel made it."""
        return bool(self.own.get(REF))

    @property
    def panels_name(self) -> str:
        """What the panel calls it."""
        return str(self.own.get(NAME) or self.name)

    @property
    def title(self) -> str:
        """What people call it."""
        return str(self.own.get(TITLE) or self.raw.get("description") or self.name)

    @property
    def is_vm(self) -> bool:
        """Whether it is a virtual machine, not a container."""
        return self.raw.get("type") == VM

    @property
    def state(self) -> Json:
        """What is measured of it."""
        return self.raw.get("state") or {}

    @property
    def power(self) -> PowerState:
        """Its power state."""
        return STATES.get(str(self.state.get("status") or self.raw.get("status")), PowerState.UNKNOWN)

    @property
    def root(self) -> tuple[str, Json]:
        """The device of its system disk; an empty name when it has none."""
        for name, device in self.devices.items():
            if device.get("type") == "disk" and device.get("path") == "/":
                return name, device
        return "", {}

    def nics(self) -> list[tuple[str, Json]]:
        """Its interfaces, in the order of their names' numbers."""
        found = [(name, device) for name, device in self.devices.items() if device.get("type") == "nic"]
        return sorted(found, key=lambda item: re.sub(r"\d+", lambda m: m[0].zfill(9), item[0]))

    def mac(self, device: str) -> str:
        """Of an interface; empty when it has none yet."""
        given = self.devices.get(device, {}).get("hwaddr") or self.own.get(f"volatile.{device}.hwaddr") or ""
        return str(given).lower()


def writable(raw: Json) -> Json:
    """What of an instance can be written back."""
    names = ("architecture", "config", "devices", "ephemeral", "profiles", "stateful", "description")
    return {name: raw[name] for name in names if name in raw}


def instance_name(name: str) -> str:
    """What the server calls a VM of the panel's: a host name made of any identifier, another for each."""
    if _INSTANCE_NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
    plain = plain if plain[:1].isalpha() else f"vm-{plain}".rstrip("-")
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: LONGEST_NAME - 9].rstrip('-')}-{digest}"


def check_title(title: str | None) -> None:
    """``InvalidInput`` for what can be no title."""
    if title is None:
        return
    if any(ord(char) < 32 or ord(char) == 127 for char in title):
        raise InvalidInput(_("A title is one line without control characters."), field="vm_name")
    if len(title) > LONGEST_TITLE:
        raise InvalidInput(_("A title has at most {most} characters."), field="vm_name", most=LONGEST_TITLE)
    if any("\ud800" <= char <= "\udfff" for char in title):
        raise InvalidInput(_("A title must be text: this one has half a character."), field="vm_name")


def size_of(text: object) -> int | None:
    """Bytes: ``512MiB``, ``1GB``, ``1073741824``. None for what is no size (``50%``, empty)."""
    found = _SIZE.fullmatch(str(text or ""))
    return int(found[1]) * _UNITS[found[2]] if found else None


def cpus_of(text: object, all_of_them: int) -> int:
    """CPUs of ``limits.cpu``: a number, or a set such as ``0-3,7``; the host's when there is no limit."""
    given = str(text or "").strip()
    if given.isdigit():
        return int(given)
    count = 0
    for part in filter(None, given.split(",")):
        first, _dash, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return all_of_them
        count += int(last or first) - int(first) + 1
    return count or all_of_them


def gib_of(device: Json) -> float | None:
    """The size of a disk; None when it has no limit."""
    size = size_of(device.get("size"))
    return None if size is None else size / GIB
