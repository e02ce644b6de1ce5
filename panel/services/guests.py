"""What guests say of themselves. Anyone can call, so nothing is believed but the numbers, and only of VMs we know."""

from __future__ import annotations

from collections.abc import Mapping

from panel.errors import InvalidInput, NotFound
from panel.events import EventBus, VmChanged
from panel.i18n import gettext_noop as _
from panel.models import Nic, Vm
from panel.services.clock import now
from panel.services.names import check_mac

NUMBERS = (
    "cpu_usage", "mem_usage", "mem_total", "disk_usage", "hdd_usage", "hdd_total", "network_u", "network_d",
)  # fmt: skip
LARGEST = 1e15


class GuestService:
    """Takes the reports of guests."""

    def __init__(self, events: EventBus) -> None:
        self._events = events

    async def report(self, name: str, mac: str, values: Mapping[str, object]) -> Vm:
        """Keep a report as "reported by the guest".

        Args:
            name: the VM's ``vm_uuid``; mac: of one of its interfaces. One of the two is enough.

        Raises:
            InvalidInput: neither is given, the name fits several VMs, or a number is none.
            NotFound: no such VM.
        """
        vm = await self._find(name, mac)
        report = {key: _number(key, values[key]) for key in NUMBERS if values.get(key) is not None}
        vm.report, vm.report_at = report, now()
        await vm.save(update_fields=["report", "report_at"])
        self._events.publish(VmChanged(vm.id, vm.host_id))
        return vm

    async def _find(self, name: str, mac: str) -> Vm:
        if mac:
            nics = await Nic.filter(mac=check_mac(mac, "nic")).prefetch_related("vm").limit(2)
            found = [nic.vm for nic in nics]
        elif name:
            found = await Vm.filter(name=name).limit(2)
        else:
            raise InvalidInput(_("{field} is needed, or ?nic= with a MAC address of the VM."), field="vm_uuid")
        if len(found) > 1:
            raise InvalidInput(_("{field} fits several VMs. Add ?nic= with a MAC address of the VM."), field="vm_uuid")
        if not found:
            raise NotFound(_("There is no such VM."))
        return found[0]


def _number(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
        raise InvalidInput(_("{field} must be a number that is not negative."), field=key)
    return value
