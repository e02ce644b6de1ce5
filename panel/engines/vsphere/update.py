"""Changing a VM: all of a change in one task of vSphere's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from panel.engines.common.checks import check_sizes
from panel.engines.hosttypes import Iso
from panel.engines.types import BootDevice, ChangeOutcome, PowerState, VmChange
from panel.engines.vsphere import specs
from panel.engines.vsphere.config import (
    KEY,
    KIB_PER_GIB,
    Mark,
    boot_order,
    cards,
    cd_drive,
    check_title,
    packed,
    system_disk,
)
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.view import Found, inserted
from panel.errors import Conflict, InvalidInput
from panel.i18n import gettext_noop as _


def check(one: Found, change: VmChange, isos: list[Iso]) -> None:
    """Refuse what cannot be, before anything is changed. See ``Engine.update``."""
    check_title(change.title)
    check_sizes(change.cpu_count, change.memory_mib)
    if change.disk_gib is not None:
        disk = system_disk(one.devices)
        if disk is None:
            raise InvalidInput(_("This VM has no disk that can grow."), field="hdd_num")
        now = (disk.capacityInKB or 0) / KIB_PER_GIB
        if change.disk_gib < now:
            raise InvalidInput(_("A disk only grows: it has {size} GiB now."), field="hdd_num", size=round(now, 2))
        if change.disk_gib > now and one.now.get("snapshot") is not None:
            raise Conflict(_("vSphere grows no disk of a VM with snapshots. Remove the VM's snapshots first."))
    if change.iso and change.iso not in {iso.name for iso in isos}:
        known = ", ".join(iso.name for iso in isos) or "–"
        raise InvalidInput(_("No CD image {name}. This host has: {known}."), field="iso", name=change.iso, known=known)
    if change.boot is not None:
        _check_boot(one, change.boot)
    if one.state is not PowerState.STOPPED:
        _check_hot(one, change)


def _check_boot(one: Found, order: tuple[BootDevice, ...]) -> None:
    if not order or len(set(order)) != len(order):
        raise InvalidInput(_("Name each device to start from once, and at least one."), field="boot")
    if BootDevice.NETWORK in order and not cards(one.devices):
        raise InvalidInput(_("This VM has no interface to start from."), field="boot")


def _check_hot(one: Found, change: VmChange) -> None:
    """A running VM grows where hot add is on; else it must be stopped first, as vSphere keeps nothing for the next start."""
    for wanted, now, hot in (
        (change.cpu_count, "config.hardware.numCPU", "config.cpuHotAddEnabled"),
        (change.memory_mib, "config.hardware.memoryMB", "config.memoryHotAddEnabled"),
    ):
        has = int(one.config.get(now) or 0)
        able = one.state is PowerState.RUNNING and one.config.get(hot) and wanted is not None and wanted > has
        if wanted is not None and wanted != has and not able:
            raise Conflict(
                _("vSphere changes the CPUs and memory of a stopped VM only, or adds to a running one whose settings have hot "
                  "add on. Stop the VM first.")
            )  # fmt: skip


def spec_of(one: Found, change: VmChange, folder: str) -> Any | None:
    """The change as vSphere wants it told; None when there is nothing to do."""
    changes: list[Any] = []
    values: dict[str, Any] = {}
    mark = one.mark or Mark(one.ref, one.vendors_name, made=False)
    if change.title is not None:
        mark = replace(mark, title=change.title)
    if change.cpu_count is not None and change.cpu_count != one.config.get("config.hardware.numCPU"):
        values["numCPUs"] = change.cpu_count
    if change.memory_mib is not None and change.memory_mib != one.config.get("config.hardware.memoryMB"):
        values["memoryMB"] = change.memory_mib
    if change.disk_gib is not None:
        disk = system_disk(one.devices)
        if disk is not None and (disk.capacityInKB or 0) != change.disk_gib * KIB_PER_GIB:
            changes.append(specs.grown(disk, change.disk_gib))
    if change.iso is not None:
        drive = cd_drive(one.devices)
        if (inserted(drive) if drive is not None else "") != change.iso:
            path = f"{folder.rstrip('/')}{'' if folder.endswith(']') else '/'}{change.iso}" if change.iso else ""
            changes += specs.swap_cd(one.devices, path)
    if change.boot is not None and boot_order(one.config.get("config.bootOptions")) != change.boot:
        values["bootOptions"] = specs.boot_options(one.devices, change.boot)
        mark = replace(mark, was=one.boot, since=one.started)
    if mark != (one.mark or Mark(one.ref, one.vendors_name, made=False)):
        values["extraConfig"] = [specs.option(KEY, packed(mark))]
    if changes:
        values["deviceChange"] = changes
    return vim.vm.ConfigSpec(**values) if values else None


def outcome(one: Found, change: VmChange) -> ChangeOutcome:
    """What holds already: all, but a running VM's order to start in."""
    given = [
        name
        for name in ("title", "cpu_count", "memory_mib", "disk_gib", "iso", "boot")
        if getattr(change, name) is not None
    ]
    waits = ["boot"] if change.boot is not None and one.started and change.boot != one.boot else []
    return ChangeOutcome(live=tuple(name for name in given if name not in waits), at_next_start=tuple(waits))
