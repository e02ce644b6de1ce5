"""Changing a VM: live where libvirt and the guest can, else for the next start."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

import libvirt

from panel.engines.libvirt import hardware, storage
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.create import Site, check_sizes
from panel.engines.libvirt.domain import cpu_ceiling, read_domain
from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.xmltree import check_title
from panel.engines.types import ChangeOutcome, Reporter, VmChange
from panel.errors import Conflict, InvalidInput

RESIZE_SECONDS = 120.0
ISO_SECONDS = 60.0
BALLOON_WAIT_SECONDS = 10.0
_LIVE, _CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG

# beyond the VM's ceiling, or a machine type without CPU hot-plug
_NOT_LIVE = (
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_OPERATION_INVALID,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    libvirt.VIR_ERR_OPERATION_FAILED,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_INTERNAL_ERROR,
)


async def apply(client: Client, site: Site, ref: str, change: VmChange, report: Reporter) -> ChangeOutcome:
    """Do ``change``, the disk first: it is the one that is refused. Of a stopped VM everything holds at once."""
    client.check_ref(ref)
    live: list[str] = []
    later: list[str] = []
    check_sizes(change.cpu_count, change.memory_mib, change.disk_gib)
    title = None if change.title is None else check_title(change.title)
    iso = await client.call(lambda conn: _check_hardware(conn, site, ref, change), lane=Lane.SLOW, seconds=ISO_SECONDS)
    if change.disk_gib is not None:
        size = change.disk_gib
        await report.step("Growing the disk to {size} GiB", size=size)
        await client.domain(ref, lambda dom: grow(dom, size), seconds=RESIZE_SECONDS, lane=Lane.SLOW, settle=True)
        live.append("disk_gib")
    if title is not None:
        wanted = title
        await client.domain(ref, lambda dom: set_title(dom, wanted), settle=True)
        live.append("title")
    if change.cpu_count is not None:
        count = change.cpu_count
        await report.step("Setting {count} CPUs", count=count)
        done = await client.domain(ref, lambda dom: set_cpus(dom, count), seconds=RESIZE_SECONDS, settle=True)
        (live if done else later).append("cpu_count")
    if change.memory_mib is not None:
        await report.step("Setting {memory} MiB of memory", memory=change.memory_mib)
        done = await _memory(client, ref, change.memory_mib)
        (live if done else later).append("memory_mib")
    hard = await _hardware(client, ref, change, iso, report)
    live += [name for name, done in hard.items() if done]
    later += [name for name, done in hard.items() if not done]
    if later:
        await report.warn("Some of it takes effect when the VM is stopped and started again.")
    return ChangeOutcome(tuple(live), tuple(later))


def _check_hardware(conn: Any, site: Site, ref: str, change: VmChange) -> str:
    """The path of the ISO that is wanted, or empty; refuse what cannot be before anything is changed."""
    if change.boot is not None:
        hardware.check_boot(read_domain(conn.lookupByUUIDString(ref).XMLDesc(0)), change.boot)
    if not change.iso:
        return ""
    return hardware.find_iso(storage.open_pool(conn, site.images_path, site.local), change.iso)


async def _hardware(client: Client, ref: str, change: VmChange, iso: str, report: Reporter) -> dict[str, bool]:
    """The CD drive and the boot order; whether each holds already."""
    done: dict[str, bool] = {}
    if change.iso is not None:
        if change.iso:
            await report.step("Inserting {iso} into the CD drive", iso=change.iso)
        else:
            await report.step("Ejecting the CD")
        done["iso"] = await client.domain(
            ref, lambda dom: hardware.set_iso(dom, iso), seconds=ISO_SECONDS, lane=Lane.SLOW, settle=True
        )
    if change.boot is not None:
        order = change.boot
        await report.step("Setting the boot order")
        done["boot"] = await client.domain(ref, lambda dom: hardware.set_boot(dom, order), settle=True)
    return done


def grow(domain: Any, size_gib: int) -> None:
    """Grow the system disk. ``InvalidInput`` when it would shrink, ``Conflict`` when there is none to grow."""
    disk = read_domain(domain.XMLDesc(0)).system_disk
    if disk is None:
        raise Conflict("The VM has no disk that could grow.")
    current = int(domain.blockInfo(disk.target)[0])
    wanted = size_gib * storage.GIB
    if wanted < current:
        raise InvalidInput(
            "A disk cannot shrink. It has {size} GiB.", field="hdd_num", size=math.ceil(current / storage.GIB)
        )
    if wanted == current:
        return
    if domain.isActive():
        domain.blockResize(disk.target, wanted, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        return
    conn = domain.connect()
    if disk.by_pool:
        pool, _, name = disk.source.partition("/")
        volume = storage.find_volume(conn.storagePoolLookupByName(pool), name)
    else:
        volume = storage.find_volume_by_path(conn, disk.source)
    if volume is None:
        raise Conflict("The disk {path} is in no storage pool. Start the VM, then grow it.", path=disk.source)
    volume.resize(wanted, 0)


def set_title(domain: Any, title: str) -> None:
    """Set, or with an empty title remove, what people call the VM."""
    flags = (_LIVE if domain.isActive() else 0) | (_CONFIG if domain.isPersistent() else 0)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, title or None, None, None, flags)


def set_cpus(domain: Any, count: int) -> bool:
    """Set the CPUs; True when they hold already. More are plugged in while the VM runs, up to its ceiling.

    Fewer wait for the next start: a guest may ignore the request to give a CPU back, and QEMU 7.2 crashes when the VM is
    reset while such a request is open (seen under TCG).
    """
    if domain.isPersistent():
        maximum = domain.vcpusFlags(_CONFIG | libvirt.VIR_DOMAIN_VCPU_MAXIMUM)
        if count > maximum:
            domain.setVcpusFlags(cpu_ceiling(count), _CONFIG | libvirt.VIR_DOMAIN_VCPU_MAXIMUM)
        domain.setVcpusFlags(count, _CONFIG)
    if not domain.isActive():
        return True
    current = domain.vcpusFlags(_LIVE)
    if count <= current:
        return bool(count == current)
    try:
        domain.setVcpusFlags(count, _LIVE)
    except libvirt.libvirtError as error:
        if is_code(error, *_NOT_LIVE):
            return False
        raise
    return bool(domain.vcpusFlags(_LIVE) == count)


async def _memory(client: Client, ref: str, memory_mib: int) -> bool:
    """Set the memory for the next start, and now if the VM booted with as much; True when it holds already.

    A running guest gives memory back through its balloon driver, or does not: it is asked, then looked at.
    """
    asked = await client.domain(ref, lambda dom: set_memory(dom, memory_mib * 1024), settle=True)
    if asked is not None:
        return asked
    deadline = time.monotonic() + BALLOON_WAIT_SECONDS
    while time.monotonic() < deadline:
        actual = await client.domain(ref, _balloon)
        if actual == memory_mib * 1024:
            return True
        await asyncio.sleep(0.5)
    return False


def _balloon(domain: Any) -> int:
    """What the guest holds now, in KiB, as ``observe`` shows it."""
    rows = domain.connect().domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BALLOON, 0)
    return int(rows[0][1].get("balloon.current", 0)) if rows else 0


def set_memory(domain: Any, kib: int) -> bool | None:
    """Set ``kib`` of memory in the definition, and ask a running guest: then None, for its answer takes time.

    True when nothing runs; False when the running VM booted with less, which only a start changes.
    """
    if domain.isPersistent():
        domain.setMemoryFlags(kib, _CONFIG | libvirt.VIR_DOMAIN_MEM_MAXIMUM)
        domain.setMemoryFlags(kib, _CONFIG)
    if not domain.isActive():
        return True
    if kib > domain.maxMemory():
        return False
    with contextlib.suppress(libvirt.libvirtError):  # no balloon, or the VM is busy: at the next start
        domain.setMemoryFlags(kib, _LIVE)
        return None
    return False
