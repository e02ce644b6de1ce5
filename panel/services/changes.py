"""Changes of a VM: checked before they are begun, stored, and noted while they wait for its next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from panel.engines.types import BootDevice, ChangeOutcome, VmChange
from panel.errors import InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Vm
from panel.services.engines import capabilities
from panel.services.names import check_title
from panel.services.specs import check_sizes


def check_change(vm: Vm, change: VmChange) -> dict[str, Any]:
    """The fields that are to change, to be stored.

    Raises:
        InvalidInput: a value is out of range, a disk would shrink, or the host has listed no such ISO.
        Unsupported: the engine has no CD drives or no boot order.
    """
    title = None if change.title is None else check_title(change.title, "vm_name")
    if title == "":
        raise InvalidInput(_("{field} must not be empty."), field="vm_name")
    check_sizes(change.cpu_count, change.memory_mib, change.disk_gib)
    if change.disk_gib is not None and change.disk_gib < vm.disk_gib:
        raise InvalidInput(
            _("{field}: a disk only grows. It has {now} GiB."), field="hdd_num", now=round(vm.disk_gib, 2)
        )
    if change.iso is not None:
        capabilities(vm.host.engine).require("iso")
        if change.iso and change.iso not in {iso["name"] for iso in vm.host.isos or ()}:
            raise InvalidInput(
                _("There is no ISO file {name} on host {host}. Put it into the host's images folder first."),
                field="iso", name=change.iso, host=vm.host.name,
            )  # fmt: skip
    if change.boot is not None:
        capabilities(vm.host.engine).require("boot_order")
        if not change.boot or len(change.boot) != len(set(change.boot)):
            raise InvalidInput(_("The boot order needs at least one device, and each once."), field="boot")
    return {key: value for key, value in (asdict(change) | {"title": title}).items() if value is not None}


def stored_change(stored: Mapping[str, Any]) -> VmChange:
    """A change as ``check_change`` gave it and the database kept it."""
    values = dict(stored)
    if "boot" in values:
        values["boot"] = tuple(BootDevice(word) for word in values["boot"])
    return VmChange(**values)


def note_waiting(vm: Vm, change: VmChange, outcome: ChangeOutcome, *, off: bool) -> None:
    """Bring ``pending`` and ``planned`` of the VM in line with what a change brought about."""
    waiting = set() if off else (set(vm.pending) - set(outcome.live)) | set(outcome.at_next_start)
    values = (vm.planned or {}) | {name: getattr(change, name) for name in outcome.at_next_start}
    vm.pending = sorted(waiting)
    vm.planned = {name: values[name] for name in vm.pending if name in values} or None


def said_of_change(params: Mapping[str, Any]) -> Text | None:
    """What a task is to change, or has changed."""
    fields = params.get("change") or [*params.get("live", ()), *params.get("at_next_start", ())]
    return Text(_("Change a VM: {fields}"), {"fields": ", ".join(fields)}) if fields else None
