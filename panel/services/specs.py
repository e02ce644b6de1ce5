"""What a VM is made of, checked: sizes, interfaces, host name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from panel.engines.types import EngineKind, NicMode, NicSpec, VmSpec
from panel.errors import Conflict, InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Nic
from panel.services.engines import capabilities
from panel.services.names import IDENTIFIER, check_mac, new_mac

MAX_CPU = 512
MAX_MEMORY_MIB = 16 * 1024 * 1024
MIN_MEMORY_MIB = 16
MOST_LIMIT = 2**31 - 1
RATES = ("speed_u", "speed_d", "flu_num")  # Mbit/s from and to the VM, GiB a month
LIMITS = (*RATES, "nat_num", "web_num")  # forwards and domains it may have: 0 is none at all
MAX_DISK_GIB = 64 * 1024
MAX_NICS = 8


@dataclass(frozen=True, slots=True)
class NicRequest:
    """An interface that is wanted; an empty ``mac``, and where the panel gives addresses an empty ``ip4`` or ``ip6``, means:
    allocate one."""

    name: str
    mode: NicMode = NicMode.NAT
    mac: str = ""
    ip4: str = ""
    ip6: str = ""


@dataclass(frozen=True, slots=True)
class VmRequest:
    """A VM that is wanted. ``notes`` are warnings of the door it came through, for the task's log."""

    name: str
    title: str
    os_name: str
    cpu_count: int
    memory_mib: int
    disk_gib: int
    nics: tuple[NicRequest, ...] = ()
    password: str | None = field(default=None, repr=False)
    ssh_keys: tuple[str, ...] = ()
    hostname: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    start: bool = False
    notes: tuple[Text, ...] = ()


def check_limits(limits: Mapping[str, int | None]) -> dict[str, int | None]:
    """Limits as a VM keeps them, None where it has none: 0 of a rate or of traffic is none either. ``InvalidInput`` names the
    field."""
    for name, value in limits.items():
        if value is not None and not 0 <= value <= MOST_LIMIT:
            raise InvalidInput(_("{field} must be between {least} and {most}."), field=name, least=0, most=MOST_LIMIT)
    return {name: value or (None if name in RATES else value) for name, value in limits.items()}


async def nic_specs(host: Host, wanted: tuple[NicRequest, ...]) -> tuple[NicSpec, ...]:
    """The interfaces to make, each with a MAC of its own on the host. ``InvalidInput`` or ``Conflict`` names the field."""
    if len(wanted) > MAX_NICS:
        raise InvalidInput(_("{field} may have at most {most} interfaces."), field="nic_all", most=MAX_NICS)
    specs: list[NicSpec] = []
    for nic in wanted or (NicRequest("eth0"),):
        if not IDENTIFIER.fullmatch(nic.name):
            raise InvalidInput(
                _(
                    "{field}: {name} is no name for an interface. It is 1 to 63 letters, digits, '.', '_' or '-', and begins "
                    "with a letter or digit, as in eth0."
                ),
                field="nic_all", name=nic.name[:64] or "\"\"",
            )  # fmt: skip
        mac = check_mac(nic.mac, f"nic_all.{nic.name}.mac_addr") if nic.mac else new_mac()
        while not nic.mac and await Nic.exists(mac=mac):
            mac = new_mac()
        holder = await Nic.get_or_none(mac=mac, vm__host_id=host.id).select_related("vm")
        if holder is not None or any(spec.mac == mac for spec in specs):
            raise Conflict(
                _("{field}: MAC address {mac} belongs to VM {holder} already."),
                field=f"nic_all.{nic.name}.mac_addr", mac=mac, holder=holder.vm.name if holder else "?",
            )  # fmt: skip
        specs.append(NicSpec(nic.name, nic.mode, mac))
    return tuple(specs)


def stored_spec(stored: dict[str, Any]) -> VmSpec:
    """A specification as a task's parameters keep it."""
    nics = tuple(NicSpec(nic["name"], NicMode(nic["mode"]), nic["mac"], nic["network"]) for nic in stored["nics"])
    return VmSpec(**(stored | {"nics": nics, "ssh_keys": tuple(stored.get("ssh_keys", ()))}))


def check_source(engine: EngineKind, os_name: str | None) -> tuple[Text, ...]:
    """What is to be said of what a VM is made from. ``InvalidInput`` when the engine makes VMs from images only."""
    able = capabilities(engine)
    reason = able.why_not("blank")
    if reason is not None and not os_name:
        raise InvalidInput(reason, field="os_name")
    return () if able.disk_size else (Text(_("hdd_num has no effect on this engine: the disk is the image's own.")),)


def hostname(name: str) -> str:
    """A host name by RFC 1123 out of an identifier."""
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name).strip("-").lower()[:63] or "vm"


def check_sizes(cpu_count: int | None, memory_mib: int | None, disk_gib: int | None) -> None:
    """``InvalidInput`` with the field for sizes that no VM has; None is not checked."""
    for field_name, value, least, most, unit in (
        ("cpu_num", cpu_count, 1, MAX_CPU, ""),
        ("ram_num", memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB, "MiB"),
        ("hdd_num", disk_gib, 1, MAX_DISK_GIB, "GiB"),
    ):
        if value is not None and not least <= value <= most:
            raise InvalidInput(
                _("{field} must be between {least} and {most} {unit}.") if unit
                else _("{field} must be between {least} and {most}."),
                field=field_name, least=least, most=most, unit=unit,
            )  # fmt: skip
