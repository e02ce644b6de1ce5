"""What an observer sees of a fake host."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from zlib import crc32

from panel.engines.fake.load import (
    DISK_READ_RATE,
    DISK_WRITE_RATE,
    NET_RX_RATE,
    NET_TX_RATE,
    busy_seconds,
    memory_used,
    total_bytes,
)
from panel.engines.fake.snapshots import view_snapshots
from panel.engines.fake.world import GIB, SEED_BYTES, FakeDisk, FakeNetwork, FakeNic, FakeVm, FakeWorld
from panel.engines.hosttypes import HostStatus, NetworkInfo
from panel.engines.types import (
    BootDevice,
    DiskObservation,
    NicMode,
    NicObservation,
    PowerState,
    Snapshot,
    VmObservation,
)

ON = frozenset({PowerState.RUNNING, PowerState.SUSPENDED})
HOST_CPUS = 16
HOST_MEMORY_MIB = 64 * 1024
HOST_DISK_GIB = 2000.0


def view_vm(vm: FakeVm, now: float, reservations: Mapping[str, list[str]], disks: Iterable[FakeDisk]) -> VmObservation:
    """One VM as it is; its guest has the addresses that DHCP keeps for it, and those that it was told of."""
    seen = VmObservation(
        ref=vm.ref,
        name=vm.name,
        title=vm.title,
        state=vm.state,
        cpu_count=vm.cpu_count,
        memory_mib=vm.memory_mib,
        disk_gib=float(vm.disk_gib),
        nics=tuple(_view_nic(nic, vm, reservations) for nic in vm.nics),
        os_name=vm.image,
        managed=vm.managed,
        disks=_view_disks(vm, disks),
        boot=tuple(BootDevice(word) for word in vm.boot),
        iso=vm.iso,
        snapshots=view_snapshots(vm),
    )
    if vm.state not in ON:
        return seen
    return _with_counters(seen, vm.ran(now), agent=vm.agent and vm.state is PowerState.RUNNING)


def _view_disks(vm: FakeVm, disks: Iterable[FakeDisk]) -> tuple[DiskObservation, ...]:
    """Its files: disks, the first-boot settings on a CD, and the drive for ISO files."""
    found: list[DiskObservation] = []
    for disk in disks:
        if disk.size_bytes == SEED_BYTES:
            found.append(DiskObservation("hda", BootDevice.CDROM, "ide", disk.path, "raw", None, disk.made_by_panel))
        else:
            size = round(disk.size_bytes / GIB, 3)
            found.append(
                DiskObservation("vda", BootDevice.DISK, "virtio", disk.path, "qcow2", size, disk.made_by_panel)
            )
    if vm.iso is not None:
        path = posixpath.join("/fake/images", vm.iso) if vm.iso else ""
        found.append(DiskObservation("hdb", BootDevice.CDROM, "ide", path, "raw" if path else ""))
    return tuple(found)


def _with_counters(seen: VmObservation, ran: float, *, agent: bool) -> VmObservation:
    ref = seen.ref
    return replace(
        seen,
        cpu_seconds=seen.cpu_count * busy_seconds(ref, "cpu", ran),
        memory_used_mib=memory_used(ref, seen.memory_mib, ran),
        disk_read_bytes=total_bytes(ref, "read", ran, DISK_READ_RATE),
        disk_write_bytes=total_bytes(ref, "write", ran, DISK_WRITE_RATE),
        net_rx_bytes=total_bytes(ref, "rx", ran, NET_RX_RATE),
        net_tx_bytes=total_bytes(ref, "tx", ran, NET_TX_RATE),
        agent=agent,
    )


def _view_nic(nic: FakeNic, vm: FakeVm, reservations: Mapping[str, list[str]]) -> NicObservation:
    addresses: tuple[str, ...] = ()
    if vm.state is PowerState.RUNNING and vm.agent:
        number = crc32(nic.mac.encode())
        made_up = (f"10.77.{number % 256}.{2 + (number >> 8) % 250}",)
        told = [text.split("/")[0] for text in nic.addresses]
        addresses = tuple(dict.fromkeys([*reservations.get(nic.mac, ()), *told])) or made_up
    port = "f" + nic.mac.replace(":", "") if vm.state in ON else ""
    return NicObservation(nic.name, nic.mac, nic.mode, nic.network, addresses, port, "virtio")


def view_garbage(
    vm: FakeVm, now: float, _reservations: Mapping[str, list[str]], _disks: Iterable[FakeDisk]
) -> VmObservation:
    """One VM as a broken hypervisor might tell it: markup, impossible numbers, counters that fall."""
    return VmObservation(
        ref=vm.ref,
        name=vm.name,
        title="<script>alert(1)</script>\x07\u202e" + vm.title + "\n" * 3 + "x" * 300,
        state=PowerState.CRASHED if int(now) % 2 else PowerState.RUNNING,
        cpu_count=0,
        memory_mib=-1,
        disk_gib=float("inf"),
        nics=(NicObservation("", "not-a-mac", None, '"><b>', ("999.1.2.3", "::zz", "")),),
        os_name="]]><!--",
        cpu_seconds=1e6 - now % 1e6,
        memory_used_mib=2**62,
        disk_read_bytes=int(1e6 - now % 1e6),
        disk_write_bytes=-5,
        net_rx_bytes=2**64,
        net_tx_bytes=0,
        agent=None,
        managed=vm.managed,
        disks=(DiskObservation("<b>\x07" + "d" * 300, BootDevice.DISK, "\n", "/" * 5000, "", float("nan")),),
        iso="\u202e\x00" + "i" * 5000,
        snapshots=(Snapshot("<i>\x07" + "s" * 300, "\n" * 9 + "d" * 5000, None, "\u202e"),) * 300,
    )


def view_host(world: FakeWorld) -> HostStatus:
    """The host's load: the sum of its running VMs."""
    on = [vm for vm in world.vms.values() if vm.state in ON]
    running = [vm for vm in on if vm.state is PowerState.RUNNING]
    busy = sum(0.35 * vm.cpu_count for vm in running)
    return HostStatus(
        cpu_percent=min(100.0, 2.0 + 100.0 * busy / HOST_CPUS),
        cpu_count=HOST_CPUS,
        memory_total_mib=HOST_MEMORY_MIB,
        memory_used_mib=min(HOST_MEMORY_MIB, 2048 + sum(vm.memory_mib for vm in on)),
        disk_total_gib=HOST_DISK_GIB,
        disk_used_gib=min(HOST_DISK_GIB, sum(disk.size_bytes for disk in world.disks.values()) / GIB),
    )


def view_network(network: FakeNetwork) -> NetworkInfo:
    """The NAT network as it is."""
    return NetworkInfo(
        name=network.name,
        mode=NicMode.NAT,
        bridge=network.bridge,
        subnet4=network.subnet4,
        gateway4=network.gateway4,
        subnet6=network.subnet6,
        gateway6=network.gateway6,
        forward_mode="nat",
        reservations=_pairs(network.reservations),
        leases=_pairs(network.leases),
    )


def _pairs(held: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((mac, address) for mac, addresses in held.items() for address in addresses)
