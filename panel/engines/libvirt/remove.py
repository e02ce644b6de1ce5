"""Removing a VM: what the panel made goes, what it did not make stays. May be repeated until nothing is left."""

from __future__ import annotations

import time
from typing import Any

import libvirt

from panel.engines.hosttypes import Leftover
from panel.engines.libvirt import storage
from panel.engines.libvirt.domain import DomainConfig, read_domain
from panel.engines.libvirt.failures import is_code, unless
from panel.engines.types import DeleteOutcome

BUILDING_SECONDS = 600.0
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def delete_volume(pool: Any, name: str, seconds: float = BUILDING_SECONDS) -> bool:
    """Delete the volume ``name`` if it is there. libvirt refuses while it still writes it (a copy that a crash left
    running): then again, until ``seconds`` have passed. False when it is still there."""
    deadline = time.monotonic() + seconds
    storage.refresh(pool)
    while True:
        volume = storage.find_volume(pool, name)
        if volume is None:
            return True
        try:
            volume.delete(0)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL):
                return True
            building = is_code(error, libvirt.VIR_ERR_OPERATION_INVALID)
            if not building or time.monotonic() > deadline:
                return False
            time.sleep(0.5)  # in a worker thread
        else:
            return True


def remove_vm(conn: Any, ref: str, disks_path: str, local: bool, names: tuple[str, str] | None) -> DeleteOutcome:
    """Remove the domain ``ref`` and its volumes; blocking. ``names`` are the disk's and the seed's file names.

    With a domain, its own list says what the panel made. Without one (a crash, or somebody undefined it), the disk goes
    only if the seed beside it names ``ref``: a file of that name may be another's.
    """
    domain = _find_domain(conn, ref)
    if domain is None:
        return _remove_half_made(conn, ref, disks_path, local, names) if names else DeleteOutcome()
    config = read_domain(domain.XMLDesc(0))
    persistent = domain.isPersistent()
    with unless(libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):  # it does not run
        domain.destroy()
    removed, kept = _remove_listed(conn, config, local)
    if persistent:
        domain.undefineFlags(_UNDEFINE)
    return DeleteOutcome(tuple(removed), tuple(kept))


def _find_domain(conn: Any, ref: str) -> Any | None:
    try:
        return conn.lookupByUUIDString(ref)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise


def _remove_listed(conn: Any, config: DomainConfig, local: bool) -> tuple[list[str], list[str]]:
    """Delete the volumes that the domain's metadata lists, unless another domain uses one."""
    used = storage.used_paths(conn, local, but=config.ref)
    removed, kept = [], []
    for path in config.volumes:
        volume = storage.find_volume_by_path(conn, path)
        if volume is None:
            continue
        if storage.same_path(path, local) in used:
            kept.append(path)
        elif delete_volume(volume.storagePoolLookupByVolume(), volume.name()):
            removed.append(path)
        else:
            kept.append(path)
    ours = set(config.volumes)
    kept += [disk.source for disk in config.disks if disk.source and disk.source not in ours]
    return removed, kept


def _remove_half_made(conn: Any, ref: str, disks_path: str, local: bool, names: tuple[str, str]) -> DeleteOutcome:
    pool = storage.find_pool(conn, disks_path, local)
    if pool is None or not pool.isActive():
        return DeleteOutcome()
    storage.refresh(pool)
    disk, seed = names
    used = storage.used_paths(conn, local)
    ours = storage.owned_by(conn, pool, seed, ref)
    removed, kept = [], []
    for name, may_go in ((disk, ours is True), (seed, ours is not False)):
        path = storage.path_in(pool, name)
        if storage.find_volume(pool, name) is None:
            continue
        if may_go and storage.same_path(path, local) not in used and delete_volume(pool, name):
            removed.append(path)
        else:
            kept.append(path)
    return DeleteOutcome(tuple(removed), tuple(kept))


def leftovers(conn: Any, disks_path: str, local: bool) -> list[Leftover]:
    """Files of the disks pool that no domain uses, nor a disk that one uses."""
    pool = storage.find_pool(conn, disks_path, local)
    if pool is None or not pool.isActive():
        return []
    storage.refresh(pool)
    used = storage.used_paths(conn, local)
    return [
        Leftover(volume.path, volume.allocation)
        for volume in storage.list_volumes(pool)
        if volume.format != "dir" and storage.same_path(volume.path, local) not in used
    ]
