"""Changes of a VM's devices and settings as vSphere wants them told. Used in worker threads."""

from __future__ import annotations

from typing import Any

from panel.engines.types import BootDevice, NicSpec, VmSpec
from panel.engines.vsphere.config import KEY, KIB_PER_GIB, Mark, cards, cd_drive, packed, system_disk
from panel.engines.vsphere.sdk import vim
from panel.engines.vsphere.seed import entries

BLANK_GUEST = "otherGuest64"
BLANK_HARDWARE = "vmx-13"  # ESXi 6.5
SATA, DISK, CD, FIRST_NIC, COPIED = -100, -200, -300, -400, -500


def option(key: str, value: str) -> Any:
    """An entry of the advanced settings."""
    return vim.option.OptionValue(key=key, value=value)


def extra(spec: VmSpec, *, seeded: bool) -> list[Any]:
    """The panel's mark, and what cloud-init is told."""
    found = [option(KEY, packed(Mark(spec.ref, spec.title)))]
    return found + [option(key, value) for key, value in entries(spec).items()] if seeded else found


def blank(spec: VmSpec, store: str, networks: list[tuple[Any, dict[str, Any]]]) -> Any:
    """A VM with an empty disk and a CD drive, on a controller and cards that every system has drivers for."""
    sata = vim.vm.device.VirtualAHCIController(key=SATA, busNumber=0)
    changes = [change("add", sata), change("add", empty_drive(SATA, 1)), new_disk(spec.disk_gib, SATA, store)]
    for place, (nic, found) in enumerate(zip(spec.nics, networks, strict=True)):
        changes.append(change("add", card("VirtualE1000e", place, nic, found)))
    return vim.vm.ConfigSpec(
        name=spec.name,
        instanceUuid=spec.ref,
        numCPUs=spec.cpu_count,
        memoryMB=spec.memory_mib,
        guestId=BLANK_GUEST,
        version=BLANK_HARDWARE,
        files=vim.vm.FileInfo(vmPathName=f"[{store}]"),
        extraConfig=extra(spec, seeded=False),
        deviceChange=changes,
    )


def twin(spec: VmSpec, store: str, template: dict[str, Any]) -> Any:
    """A VM like a template (its ``CONFIG`` properties), with its controllers but without disks and cards. For ESXi alone,
    which cannot clone."""
    changes: list[Any] = []
    for device in template["config.hardware.device"]:
        if isinstance(
            device,
            vim.vm.device.VirtualSCSIController
            | vim.vm.device.VirtualSATAController
            | vim.vm.device.VirtualNVMEController,
        ):
            made = type(device)(key=COPIED - len(changes), busNumber=device.busNumber)
            if isinstance(device, vim.vm.device.VirtualSCSIController):
                made.sharedBus = "noSharing"
            changes.append(change("add", made))
    return vim.vm.ConfigSpec(
        name=spec.name,
        instanceUuid=spec.ref,
        numCPUs=spec.cpu_count,
        memoryMB=spec.memory_mib,
        guestId=template.get("config.guestId") or BLANK_GUEST,
        firmware=template.get("config.firmware") or "bios",
        files=vim.vm.FileInfo(vmPathName=f"[{store}]"),
        extraConfig=extra(spec, seeded=True),
        deviceChange=changes,
    )


def clone(spec: VmSpec, pool: Any, datastore: Any) -> Any:
    """A full copy of a template, marked from its first moment."""
    return vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(pool=pool, datastore=datastore),
        powerOn=False,
        template=False,
        config=vim.vm.ConfigSpec(instanceUuid=spec.ref, extraConfig=extra(spec, seeded=True)),
    )


def settled(spec: VmSpec, devices: list[Any], networks: list[tuple[Any, dict[str, Any]]], kind: str) -> Any:
    """What makes a fresh copy the VM that was asked for: sizes, cards, the disk grown.

    Args:
        kind: the type of the cards, that of the template's first.
    """
    changes = [change("remove", old) for old in cards(devices)]
    for place, (nic, found) in enumerate(zip(spec.nics, networks, strict=True)):
        changes.append(change("add", card(kind, place, nic, found)))
    disk = system_disk(devices)
    order = (BootDevice.DISK,) if cd_drive(devices) is None else (BootDevice.DISK, BootDevice.CDROM)
    if disk is not None:
        changes.append(grown(disk, spec.disk_gib))
    return vim.vm.ConfigSpec(
        instanceUuid=spec.ref,
        numCPUs=spec.cpu_count,
        memoryMB=spec.memory_mib,
        bootOptions=boot_options(devices, order),
        deviceChange=changes,
    )


def card_type(devices: list[Any]) -> str:
    """The type of the first card, or what VMware recommends."""
    found = cards(devices)
    return type(found[0]).__name__.rpartition(".")[2] if found else "VirtualVmxnet3"


def card(kind: str, place: int, nic: NicSpec, network: tuple[Any, dict[str, Any]]) -> Any:
    """A new interface on a port group."""
    return getattr(vim.vm.device, kind)(
        key=FIRST_NIC - place,
        addressType="manual",
        macAddress=nic.mac,
        wakeOnLanEnabled=True,
        connectable=vim.vm.device.VirtualDevice.ConnectInfo(
            startConnected=True, connected=True, allowGuestControl=True
        ),
        backing=_backing(*network),
    )


def _backing(network: Any, props: dict[str, Any]) -> Any:
    ethernet = vim.vm.device.VirtualEthernetCard
    switch = props.get("config.distributedVirtualSwitch")
    if switch is not None:
        port = vim.dvs.PortConnection(portgroupKey=props["key"], switchUuid=switch.uuid)
        return ethernet.DistributedVirtualPortBackingInfo(port=port)
    summary = props.get("summary")
    if summary is not None:
        return ethernet.OpaqueNetworkBackingInfo(
            opaqueNetworkId=summary.opaqueNetworkId, opaqueNetworkType=summary.opaqueNetworkType
        )
    return ethernet.NetworkBackingInfo(network=network, deviceName=props["name"])


def new_disk(gib: int, controller: int, store: str) -> Any:
    """A new empty thin disk."""
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(
        diskMode="persistent", thinProvisioned=True, fileName=f"[{store}]"
    )
    disk = vim.vm.device.VirtualDisk(
        key=DISK, controllerKey=controller, unitNumber=0, capacityInKB=gib * KIB_PER_GIB, backing=backing
    )
    return change("add", disk, file="create")


def copied_disk(original: Any, path: str, controller: int) -> Any:
    """A disk that has been copied to ``path``, where its original was."""
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(diskMode="persistent", fileName=path)
    disk = vim.vm.device.VirtualDisk(
        key=DISK,
        controllerKey=controller,
        unitNumber=original.unitNumber,
        capacityInKB=original.capacityInKB,
        backing=backing,
    )
    return change("add", disk)


def grown(disk: Any, gib: int) -> Any:
    """A disk's new size."""
    disk.capacityInKB = gib * KIB_PER_GIB
    if disk.capacityInBytes is not None:
        disk.capacityInBytes = gib * KIB_PER_GIB * 1024
    return change("edit", disk)


def empty_drive(controller: int, unit: int) -> Any:
    """A CD drive with nothing in it."""
    return vim.vm.device.VirtualCdrom(
        key=CD, controllerKey=controller, unitNumber=unit, backing=_no_cd(), connectable=_cd_connected(there=False)
    )


def swap_cd(devices: list[Any], path: str) -> list[Any]:
    """Put ``path`` into the CD drive, or with an empty one eject; a VM without a drive gets one, when there is something to put
    in. ``path``: as ``[store] folder/file.iso``."""
    drive = cd_drive(devices)
    if drive is None and not path:
        return []
    backing = vim.vm.device.VirtualCdrom.IsoBackingInfo(fileName=path) if path else _no_cd()
    if drive is not None:
        drive.backing, drive.connectable = backing, _cd_connected(there=bool(path))
        return [change("edit", drive)]
    controller, unit, changes = _free_place(devices)
    made = empty_drive(controller, unit)
    made.backing, made.connectable = backing, _cd_connected(there=True)
    return [*changes, change("add", made)]


def _free_place(devices: list[Any]) -> tuple[int, int, list[Any]]:
    """A controller's key and unit for a CD drive: SATA or IDE that is there, else a new SATA controller."""
    taken = {(device.controllerKey, device.unitNumber) for device in devices}
    for kind, units in ((vim.vm.device.VirtualSATAController, 30), (vim.vm.device.VirtualIDEController, 2)):
        for controller in (device for device in devices if isinstance(device, kind)):
            for unit in range(units):
                if (controller.key, unit) not in taken:
                    return controller.key, unit, []
    return SATA, 0, [change("add", vim.vm.device.VirtualAHCIController(key=SATA, busNumber=0))]


def _no_cd() -> Any:
    return vim.vm.device.VirtualCdrom.RemotePassthroughBackingInfo(deviceName="", exclusive=False)


def _cd_connected(*, there: bool) -> Any:
    return vim.vm.device.VirtualDevice.ConnectInfo(startConnected=there, connected=there, allowGuestControl=True)


def boot_options(devices: list[Any], order: tuple[BootDevice, ...]) -> Any:
    """The order that a VM starts in. A kind of which it has none is left out."""
    options = vim.vm.BootOptions
    entries_: list[Any] = []
    for kind in order:
        if kind is BootDevice.DISK:
            disk = system_disk(devices)
            entries_ += [options.BootableDiskDevice(deviceKey=disk.key)] if disk is not None else []
        elif kind is BootDevice.CDROM:
            entries_.append(options.BootableCdromDevice())
        else:
            entries_ += [options.BootableEthernetDevice(deviceKey=one.key) for one in cards(devices)]
    return options(bootOrder=entries_)


def change(operation: str, device: Any, file: str | None = None) -> Any:
    """One change of a device."""
    return vim.vm.device.VirtualDeviceSpec(operation=operation, fileOperation=file, device=device)
