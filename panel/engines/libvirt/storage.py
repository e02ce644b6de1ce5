"""Storage pools and volumes. Every function here blocks: it runs in a worker thread (``Client.call``).

A pool is found by the folder it serves, not by its name: the operator's folder may be a pool already.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from panel.engines.libvirt.domain import sources_of
from panel.engines.libvirt.failures import is_code, unless
from panel.engines.libvirt.xmltree import node, parse, serialize
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound

GIB = 1024**3
_DIR_POOLS = {"dir", "fs", "netfs"}
_FOLDER_MODE = "0711"  # QEMU's user passes through, and cannot list
_VOLUME_MODE = "0600"  # libvirt hands the file to QEMU's user while a VM uses it
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """A file of a pool. ``capacity`` is its virtual size, ``allocation`` what it takes, both in bytes; ``changed`` in seconds
    since 1970, 0 when libvirt does not know."""

    name: str
    path: str
    format: str
    capacity: int
    allocation: int
    backing: str
    changed: float = 0.0


def same_path(path: str, local: bool) -> str:
    """A form of ``path`` in which equal files are equal; links are followed on this machine only."""
    return str(Path(path).resolve()) if local and path.startswith("/") else posixpath.normpath(path)


def find_pool(conn: Any, folder: str, local: bool) -> Any | None:
    """The pool that serves ``folder``, or None."""
    wanted = same_path(folder, local)
    for pool in conn.listAllStoragePools(0):
        root = parse(pool.XMLDesc(0))
        target = root.findtext("target/path", "")
        if root.get("type") in _DIR_POOLS and target and same_path(target, local) == wanted:
            return pool
    return None


def open_pool(conn: Any, folder: str, local: bool) -> Any:
    """The pool of ``folder``, started. ``NotFound`` when ``prepare`` has not made it."""
    pool = find_pool(conn, folder, local)
    if pool is None:
        raise NotFound(
            "The host has no storage pool for {folder}. Run the host's connection test to make it.",
            folder=folder,
        )
    if not pool.isActive():
        pool.create(0)
    return pool


def ensure_pool(conn: Any, folder: str, name: str, local: bool) -> None:
    """Make sure that a started pool serves ``folder``, which is made when missing."""
    if not folder.startswith("/") or posixpath.normpath(folder) == "/":
        raise InvalidInput("{folder} is not an absolute path of a folder.", field="system_path", folder=folder)
    pool = find_pool(conn, folder, local)
    if pool is None:
        taken = {other.name() for other in conn.listAllStoragePools(0)}
        root = node(None, "pool", type_="dir")
        node(root, "name", free_name(name, taken))
        target = node(root, "target")
        node(target, "path", posixpath.normpath(folder))
        node(node(target, "permissions"), "mode", _FOLDER_MODE)
        pool = conn.storagePoolDefineXML(serialize(root), 0)
        try:
            pool.build(0)
            pool.create(0)
        except libvirt.libvirtError:
            pool.undefine()
            raise
        pool.setAutostart(1)
    elif not pool.isActive():
        with contextlib.suppress(libvirt.libvirtError):
            pool.build(0)
        pool.create(0)


def free_name(name: str, taken: set[str]) -> str:
    """``name``, or ``name-2``, ``name-3``, ... when taken."""
    if name not in taken:
        return name
    return next(f"{name}-{number}" for number in range(2, 10000) if f"{name}-{number}" not in taken)


def refresh(pool: Any) -> None:
    """Read the folder again, so that files that others put there are seen. libvirt refuses while it copies into
    the pool: then the list is as of the last time."""
    with contextlib.suppress(libvirt.libvirtError):
        pool.refresh(0)


def read_volume(volume: Any) -> VolumeInfo:
    """What libvirt knows of a volume, from its XML."""
    root = parse(volume.XMLDesc(0))
    form = root.find("target/format")
    return VolumeInfo(
        name=root.findtext("name", ""),
        path=root.findtext("target/path", ""),
        format=form.get("type", "raw") if form is not None else "raw",
        capacity=int(root.findtext("capacity") or 0),
        allocation=int(root.findtext("allocation") or 0),
        backing=root.findtext("backingStore/path", ""),
        changed=float(root.findtext("target/timestamps/mtime") or 0),
    )


def list_volumes(pool: Any) -> list[VolumeInfo]:
    """All files of the pool; one that vanishes meanwhile is left out."""
    found = []
    for volume in pool.listAllVolumes(0):
        with contextlib.suppress(libvirt.libvirtError):
            found.append(read_volume(volume))
    return found


def find_volume(pool: Any, name: str) -> Any | None:
    """The volume ``name``, or None."""
    return _or_none(lambda: pool.storageVolLookupByName(name))


def find_volume_by_path(conn: Any, path: str) -> Any | None:
    """The volume at ``path`` in any started pool, or None."""
    return _or_none(lambda: conn.storageVolLookupByPath(path))


def _or_none(lookup: Callable[[], Any]) -> Any | None:
    try:
        return lookup()
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL):
            return None
        raise


def volume_xml(name: str, capacity: int, form: str, *, sparse: bool = False) -> str:
    """The XML of a volume to make: ``capacity`` in bytes, readable by root and QEMU alone. A raw one takes all its room at once,
    unless it is ``sparse``."""
    root = node(None, "volume")
    node(root, "name", name)
    node(root, "capacity", str(capacity), unit="bytes")
    node(root, "allocation", "0" if sparse or form == "qcow2" else str(capacity), unit="bytes")
    target = node(root, "target")
    node(target, "format", type_=form)
    node(node(target, "permissions"), "mode", _VOLUME_MODE)
    return serialize(root)


def path_in(pool: Any, name: str) -> str:
    """Where a volume ``name`` of this pool is or would be."""
    return posixpath.join(parse(pool.XMLDesc(0)).findtext("target/path", ""), name)


def refuse_taken(pool: Any, names: tuple[str, ...], local: bool) -> None:
    """``Conflict`` when one of ``names`` is in the pool already, whoever made it."""
    refresh(pool)
    for name in names:
        path = path_in(pool, name)
        if find_volume(pool, name) is not None or (local and Path(path).exists()):
            raise Conflict(
                "The file {path} exists already and belongs to no VM of this name. Move it away, or choose another name.",
                path=path,
            )


def upload(conn: Any, pool: Any, name: str, data: bytes, made: Callable[[], None]) -> None:
    """A new raw volume with ``data`` in it. ``made`` is called as soon as there is a file to remove.

    ``Conflict`` when there is one of this name.
    """
    volume = pool.createXML(volume_xml(name, len(data), "raw"), 0)
    made()
    stream = conn.newStream(0)
    volume.upload(stream, 0, len(data), 0)
    view = memoryview(data)
    while view:
        sent = stream.send(bytes(view[:_CHUNK]))
        if sent <= 0:
            raise EngineFailure("The file {name} could not be written on the host.", name=name)
        view = view[sent:]
    stream.finish()


def download(conn: Any, volume: Any, limit: int) -> bytes:
    """At most the first ``limit`` bytes of a volume."""
    stream = conn.newStream(0)
    volume.download(stream, 0, limit, 0)
    data = bytearray()
    while len(data) < limit:
        part = stream.recv(min(_CHUNK, limit - len(data)))
        if not isinstance(part, bytes) or not part:
            break
        data += part
    with contextlib.suppress(libvirt.libvirtError):
        stream.finish()
    return bytes(data[:limit])


def used_paths(conn: Any, local: bool, *, but: str = "") -> set[str]:
    """Every file that a domain (other than ``but``) uses, with the backing files of those that are volumes."""
    used: set[str] = set()
    for domain in conn.listAllDomains(0):
        if domain.UUIDString() != but:
            used |= _sources(domain)
    return _whole_chains(conn, used, local)


def users_of(conn: Any, path: str, local: bool) -> list[str]:
    """The names of the domains that use the file ``path``, be it as the backing file of a backing file."""
    wanted = same_path(path, local)
    return sorted(
        domain.name() for domain in conn.listAllDomains(0) if wanted in _whole_chains(conn, _sources(domain), local)
    )


def _sources(domain: Any) -> set[str]:
    """What the definition of a domain names, as it runs and as it will start."""
    found: set[str] = set()
    with unless(libvirt.VIR_ERR_NO_DOMAIN):  # it went away meanwhile, and uses nothing
        for flag in (0, libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.isActive() else (0,):
            found |= sources_of(domain.XMLDesc(flag))
    return found


def _whole_chains(conn: Any, sources: set[str], local: bool) -> set[str]:
    """The paths of ``sources``, of their backing files, and so on down."""
    found: set[str] = set()
    waiting = set(sources)
    while waiting:
        source = waiting.pop()
        found.add(source)
        waiting |= _resolved(conn, source) - found
    return {same_path(path, local) for path in found}


def _resolved(conn: Any, source: str) -> set[str]:
    """The path of ``pool/volume``, and the backing file of what is a volume."""
    volume = None
    if source.startswith("/"):
        volume = find_volume_by_path(conn, source)
    else:
        pool_name, _, name = source.partition("/")
        with unless(libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID):  # none, or a stopped one
            volume = find_volume(conn.storagePoolLookupByName(pool_name), name)
    if volume is None:
        return set()
    with unless(libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL):  # it went away meanwhile
        info = read_volume(volume)
        return {path for path in (info.path, info.backing) if path}
    return set()


def owned_by(conn: Any, pool: Any, seed_name: str, ref: str) -> bool | None:
    """Whether the seed ``seed_name`` says that it was made for ``ref``; None when there is none, or a half-written one.

    ``create`` writes the seed first: a disk beside a seed with our ``instance-id`` is ours, even when a crash kept the
    domain from being defined; a disk without one is somebody else's.
    """
    seed = find_volume(pool, seed_name)
    if seed is None:
        return None
    data = download(conn, seed, 1024 * 1024)
    if b"instance-id: " not in data:
        return None
    return f"instance-id: {ref}\n".encode() in data
