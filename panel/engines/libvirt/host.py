"""The host itself: what it is, how busy it is, and whether it truly has KVM. Blocking functions: worker threads."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from panel.engines.hosttypes import HostInfo, HostStatus
from panel.engines.libvirt import storage
from panel.engines.libvirt.networks import find_network
from panel.engines.libvirt.xmltree import parse
from panel.i18n import Text
from panel.i18n import gettext_noop as _

POOL_SECONDS = 60.0
_DEV_KVM = Path("/dev/kvm")
_CPUINFO = Path("/proc/cpuinfo")


def cpu_has_virtualization(cpuinfo: str) -> bool:
    """Whether ``/proc/cpuinfo`` lists ``vmx`` or ``svm``."""
    flags = {
        flag for line in cpuinfo.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()
    }
    return bool(flags & {"vmx", "svm"})


def is_accelerated(conn: Any, local: bool) -> bool:
    """Whether VMs can run under KVM.

    libvirt reports KVM wherever ``/dev/kvm`` exists, also where it is an emulation in which kernels die: on this machine
    we look ourselves; of a remote one libvirt's capabilities are all there is.
    """
    root = parse(conn.getCapabilities())
    offered = root.find("guest/arch[@name='x86_64']/domain[@type='kvm']") is not None
    if not local or not offered:
        return offered
    try:
        # QEMU runs as a user of its own: what the panel's user may open tells only when that is root
        usable = os.geteuid() != 0 or os.access(_DEV_KVM, os.W_OK)
        return usable and cpu_has_virtualization(_CPUINFO.read_text())
    except OSError:
        return False


def probe(conn: Any, local: bool, network_nat: str, bridge: str, folders: tuple[str, ...]) -> HostInfo:
    """What the connection test tells. Storage and network may be missing still: ``prepare`` makes them."""
    accelerated = is_accelerated(conn, local)
    warnings: list[Text] = []
    if not accelerated:
        warnings.append(
            Text(
                _(
                    "No hardware virtualization here: VMs run in software emulation, about ten times slower. "
                    "Turn on virtualization in the firmware, or nested virtualization."
                )
            )
        )
    for folder in folders:
        if storage.find_pool(conn, folder, local) is None:
            warnings.append(Text(_("There is no storage pool for {folder} yet."), {"folder": folder}))
    network = find_network(conn, network_nat)
    if network is None or not network.isActive():
        warnings.append(Text(_("The network {network} is not started yet."), {"network": network_nat}))
    if bridge and local and not Path("/sys/class/net", bridge, "bridge").exists():
        warnings.append(Text(_("This machine has no bridge named {bridge}."), {"bridge": bridge}))
    return HostInfo(
        version=f"libvirt {dotted(conn.getLibVersion())}, {conn.getType()} {dotted(conn.getVersion())}",
        hostname=conn.getHostname(),
        cpu_count=int(conn.getInfo()[2]),
        memory_mib=_memory_mib(conn),
        accelerated=accelerated,
        warnings=tuple(warnings),
    )


def _memory_mib(conn: Any) -> int:
    """The host's memory; ``getInfo`` counts less of it on machines whose memory is hot-plugged."""
    try:
        return int(conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS).get("total", 0) // 1024)
    except libvirt.libvirtError:
        return int(conn.getInfo()[1])


def dotted(number: int) -> str:
    """libvirt's version number, 1000000 * major + 1000 * minor + release, as people write it."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


@dataclass(slots=True)
class CpuSample:
    """Counters of the host's CPUs in ns, and the load that they gave."""

    busy: int
    total: int
    percent: float | None = None


class LoadMeter:
    """Load of the host between two questions: libvirt's counters only grow."""

    def __init__(self) -> None:
        self._last: CpuSample | None = None
        self._refreshed = -POOL_SECONDS

    def status(self, conn: Any, folder: str, local: bool) -> HostStatus:
        """The load now; ``cpu_percent`` is None the first time."""
        cpu = conn.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS)
        self._last = next_sample(self._last, cpu)
        memory = conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        total = memory.get("total", 0)
        free = memory.get("free", 0) + memory.get("buffers", 0) + memory.get("cached", 0)
        capacity, available = self._disk(conn, folder, local)
        return HostStatus(
            cpu_percent=self._last.percent,
            cpu_count=int(conn.getInfo()[2]),
            memory_total_mib=int(total // 1024),
            memory_used_mib=int(max(0, total - free) // 1024),
            disk_total_gib=round(capacity / storage.GIB, 2),
            disk_used_gib=round(max(0, capacity - available) / storage.GIB, 2),
        )

    def _disk(self, conn: Any, folder: str, local: bool) -> tuple[int, int]:
        """(size, free) in bytes of the file system of the disks; zeros when the pool is missing."""
        pool = storage.find_pool(conn, folder, local)
        if pool is None or not pool.isActive():
            return 0, 0
        if time.monotonic() - self._refreshed > POOL_SECONDS:  # reads every file's header: not each time
            self._refreshed = time.monotonic()
            storage.refresh(pool)
        with contextlib.suppress(libvirt.libvirtError):
            _state, capacity, _allocation, available = pool.info()
            return int(capacity), int(available)
        return 0, 0


def next_sample(last: CpuSample | None, cpu: dict[str, int]) -> CpuSample:
    """The load since ``last``, from libvirt's counters (ns in kernel, user, idle, iowait)."""
    busy = cpu.get("kernel", 0) + cpu.get("user", 0)
    total = busy + cpu.get("idle", 0) + cpu.get("iowait", 0)
    sample = CpuSample(busy, total)
    if last is not None:
        passed = total - last.total
        moved = 0 <= busy - last.busy <= passed and passed > 0
        sample.percent = round(100 * (busy - last.busy) / passed, 1) if moved else last.percent
    return sample
