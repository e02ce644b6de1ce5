"""What guests say of themselves. Anyone can call, so nothing is believed but the numbers, and only of VMs we know."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from panel.errors import Forbidden, InvalidInput, NotFound
from panel.events import EventBus, VmChanged
from panel.i18n import gettext_noop as _
from panel.models import Address, Nic, Vm
from panel.services.clock import now
from panel.services.names import check_mac

NUMBERS = (
    "cpu_usage", "mem_usage", "mem_total", "disk_usage", "hdd_usage", "hdd_total", "network_u", "network_d",
)  # fmt: skip
# what fuller reports of existing agents have besides; some of them put words or tables there
MORE = (
    "cpu_total", "cpu_temp", "cpu_power", "gpu_total", "gpu_usage", "network_a", "flu_total", "flu_usage", "nat_total",
    "nat_usage", "web_total", "web_usage",
)  # fmt: skip
LARGEST = 1e15
BARE_MAC = re.compile(r"[0-9A-Fa-f]{12}")


class GuestService:
    """Takes the reports of guests."""

    def __init__(self, events: EventBus) -> None:
        self._events = events

    async def report(self, name: str, mac: str, values: Mapping[str, object], sender: str) -> Vm:
        """Keep a report as "reported by the guest".

        Args:
            name: the VM's ``vm_uuid``; mac: of one of its interfaces, with or without colons. One of the two is enough.
            values: of these, the numbers that we know are kept. What else fuller reports hold is passed over.
            sender: the address that the report came from.

        Raises:
            InvalidInput: neither is given, the name fits several VMs, or a number is none.
            NotFound: no such VM.
            Forbidden: the host takes reports from a VM's own addresses only, and this was another.
        """
        vm = await self._find(name, mac.strip())
        if vm.host.strict_reports:
            await _check_sender(vm, sender)
        report = {key: _number(key, values[key]) for key in NUMBERS if values.get(key) is not None}
        report |= {key: number for key in MORE if (number := _perhaps(values.get(key))) is not None}
        vm.report, vm.report_at = report, now()
        await vm.save(update_fields=["report", "report_at"])
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return vm

    async def _find(self, name: str, mac: str) -> Vm:
        if mac:
            if BARE_MAC.fullmatch(mac):
                mac = ":".join(mac[at : at + 2] for at in range(0, 12, 2))
            nics = await Nic.filter(mac=check_mac(mac, "nic")).prefetch_related("vm__host").limit(2)
            found = [nic.vm for nic in nics]
        elif name:
            found = await Vm.filter(name=name).prefetch_related("host").limit(2)
        else:
            raise InvalidInput(_("{field} is needed, or ?nic= with a MAC address of the VM."), field="vm_uuid")
        if len(found) > 1:
            raise InvalidInput(_("{field} fits several VMs. Add ?nic= with a MAC address of the VM."), field="vm_uuid")
        if not found:
            raise NotFound(_("There is no such VM."))
        return found[0]


async def _check_sender(vm: Vm, sender: str) -> None:
    """``Forbidden`` unless ``sender`` is an address that the VM was given, or that was seen on it."""
    own = {_canonical(str(text)) for text in await Address.filter(nic__vm_id=vm.id).values_list("ip", flat=True)}
    for nic in await Nic.filter(vm_id=vm.id):
        own |= {_canonical(text) for text in nic.addresses}
    address = _canonical(sender)
    if address is None or address not in own:
        raise Forbidden(_("This host takes reports from a VM's own addresses only, and this came from another."))


def _canonical(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("/")[0].partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _number(key: str, value: object) -> float:
    number = _perhaps(value)
    if number is None:
        raise InvalidInput(_("{field} must be a number that is not negative."), field=key)
    return number


def _perhaps(value: object) -> float | None:
    """A number that makes sense, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if 0 <= value <= LARGEST else None
