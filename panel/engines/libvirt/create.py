"""Making a VM: seed, disk, domain; whole or not at all.

Order matters for a crash in the middle: the seed, which names its owner, comes first; the domain, which lists the volumes,
comes last. ``remove`` finds what is left of either half.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import libvirt

from panel.engines.hosttypes import Image
from panel.engines.libvirt import storage
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.domain import MAX_CPU_CEILING, Placement, domain_xml
from panel.engines.libvirt.failures import is_code, unless
from panel.engines.libvirt.host import is_accelerated
from panel.engines.libvirt.images import list_images, refuse_foreign_parts
from panel.engines.libvirt.remove import delete_volume
from panel.engines.libvirt.seed import seed_image
from panel.engines.types import Reporter, VmSpec
from panel.errors import Conflict, EngineFailure, InvalidInput

COPY_SECONDS = 3600.0
START_SECONDS = 120.0
MIN_MEMORY_MIB = 16
UPLOAD_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REF = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Site:
    """Where on the host VMs are made."""

    disks_path: str
    images_path: str
    network_nat: str
    network_bridge: str
    local: bool


@dataclass(slots=True)
class _Made:
    """What this create has made, newest last; only this is removed when it fails."""

    volumes: list[str] = field(default_factory=list)
    domain: bool = False


def disk_name(name: str) -> str:
    """The file of a VM's system disk in the disks pool."""
    return f"{name}.qcow2"


def seed_name(name: str) -> str:
    """The file of a VM's seed in the disks pool."""
    return f"{name}-seed.iso"


def is_name(name: str) -> bool:
    """Whether a VM, and so its files, can be called this."""
    return bool(_NAME.fullmatch(name))


def is_ref(ref: str) -> bool:
    """Whether it is a UUID as libvirt writes it."""
    return bool(_REF.fullmatch(ref))


class Creation:
    """One ``create``. Calls that change something are waited for even when the task is cancelled (``settle``); one that
    exceeds its time, so that nobody waits any more, cleans up itself when it comes back (``_change``)."""

    def __init__(self, client: Client, site: Site, spec: VmSpec, report: Reporter) -> None:
        self._client = client
        self._site = site
        self._spec = spec
        self._report = report
        self._made = _Made()
        self._given_up = threading.Event()

    async def run(self) -> None:
        """Make the VM. On any failure, a cancellation too, what was made is removed and the failure goes on."""
        self._check()
        try:
            await self._make()
        except BaseException:
            # not cancelled with us: a second cancellation must not leave half of it behind
            cleaning = asyncio.get_running_loop().create_task(self._undo())
            while not cleaning.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(cleaning)
            raise

    def _check(self) -> None:
        spec = self._spec
        if not is_name(spec.name) or not is_ref(spec.ref):
            raise InvalidInput(
                "{name} cannot be a VM's name: use letters, digits, dots, hyphens and underscores.",
                field="vm_uuid",
                name=spec.name,
            )
        check_sizes(spec.cpu_count, spec.memory_mib, spec.disk_gib)

    async def _make(self) -> None:
        spec, report = self._spec, self._report
        await report.step("Checking name and image", percent=0)
        image, accelerated, paths = await self._client.call(self._plan, seconds=UPLOAD_SECONDS, lane=Lane.SLOW)
        place = Placement(
            paths[0], paths[1], accelerated, self._site.local, self._site.network_nat, self._site.network_bridge
        )
        xml = domain_xml(spec, place)  # what is wrong with the spec shows before anything is made
        data = await asyncio.to_thread(seed_image, spec)
        await report.step("Writing the first-boot settings", percent=5)
        await self._change(lambda conn: self._write_seed(conn, data), UPLOAD_SECONDS)
        if image is None:
            await report.step("Making an empty disk of {size} GiB", percent=10, size=spec.disk_gib)
            await self._volume(disk_name(spec.name), self._empty_disk, UPLOAD_SECONDS)
        else:
            await report.step("Copying the image {image}", percent=10, image=image.name)
            await self._copy(image)
        await report.step("Defining the VM", percent=90)
        self._made.domain = True
        # libvirt's first definition after an upgrade of QEMU tries out every QEMU binary: half a minute
        await self._change(lambda conn: self._define(conn, xml), START_SECONDS)
        if spec.start:
            await report.step("Starting the VM", percent=95)
            await self._change(lambda conn: conn.lookupByUUIDString(spec.ref).create(), START_SECONDS)

    def _plan(self, conn: Any) -> tuple[Image | None, bool, tuple[str, str]]:
        """In a thread: refuse what is taken, find the image, and learn the paths that the volumes will have."""
        spec, site = self._spec, self._site
        refuse_known(conn, spec)
        pool = storage.open_pool(conn, site.disks_path, site.local)
        names = (disk_name(spec.name), seed_name(spec.name))
        storage.refuse_taken(pool, names, site.local)
        image = None
        if spec.image is not None:
            image = self._find_image(conn, spec.image)
        paths = (storage.path_in(pool, names[0]), storage.path_in(pool, names[1]))
        return image, is_accelerated(conn, site.local), paths

    def _find_image(self, conn: Any, wanted: str) -> Image:
        pool = storage.open_pool(conn, self._site.images_path, self._site.local)
        images = list_images(conn, pool)
        image = next((item for item in images if wanted == item.name), None)
        image = image or next((item for item in images if wanted == item.key), None)
        if image is None:
            raise InvalidInput(
                "There is no image {image} on this host. It has: {names}.",
                field="os_name",
                image=wanted,
                names=", ".join(item.name for item in images) or "-",
            )
        volume = pool.storageVolLookupByName(image.key)
        info = storage.read_volume(volume)
        refuse_foreign_parts(info, storage.download(conn, volume, 512))
        if info.capacity > self._spec.disk_gib * storage.GIB:
            raise InvalidInput(
                "The image {image} needs a disk of at least {size} GiB.",
                field="hdd_num",
                image=image.name,
                size=math.ceil(info.capacity / storage.GIB),
            )
        return image

    async def _volume(self, name: str, make: Callable[[Any], None], seconds: float) -> None:
        """Run ``make(conn)``, which makes the volume ``name``; noted first, so that half of one is removed too. Beside a
        seed of ours the name is ours."""
        self._made.volumes.append(name)
        await self._change(make, seconds)

    async def _change(self, work: Callable[[Any], None], seconds: float) -> None:
        """Run ``work(conn)``; if the create has been given up meanwhile, undo it in the same thread."""

        def guarded(conn: Any) -> None:
            try:
                work(conn)
            finally:
                if self._given_up.is_set():
                    self._undo_now(conn)

        await self._client.call(guarded, seconds=seconds, lane=Lane.SLOW, settle=True)

    def _write_seed(self, conn: Any, data: bytes) -> None:
        """The one step that of two creates with one name only one can do: libvirt refuses the second volume."""
        name = seed_name(self._spec.name)
        storage.upload(conn, self._pool(conn), name, data, lambda: self._made.volumes.append(name))

    def _empty_disk(self, conn: Any) -> None:
        size = self._spec.disk_gib * storage.GIB
        self._pool(conn).createXML(storage.volume_xml(disk_name(self._spec.name), size, "qcow2"), 0)

    def _pool(self, conn: Any) -> Any:
        return storage.open_pool(conn, self._site.disks_path, self._site.local)

    async def _copy(self, image: Image) -> None:
        """A full copy, so that the image may change or go; libvirt runs it, and tells how much is there."""
        copying = asyncio.get_running_loop().create_task(
            self._volume(disk_name(self._spec.name), lambda conn: self._copy_disk(conn, image), COPY_SECONDS)
        )
        try:
            while not (await asyncio.wait({copying}, timeout=2))[0]:
                done = await self._client.call(self._copied)
                share = min(1.0, done / max(1, image.size_bytes))
                await self._report.step(
                    "Copied {share} % of {image}",
                    percent=10 + round(75 * share),
                    share=round(100 * share),
                    image=image.name,
                )
        finally:
            if not copying.done():
                copying.cancel()
                await asyncio.wait({copying})
        copying.result()

    def _copy_disk(self, conn: Any, image: Image) -> None:
        source_pool = storage.open_pool(conn, self._site.images_path, self._site.local)
        source = source_pool.storageVolLookupByName(image.key)
        name = disk_name(self._spec.name)
        capacity = storage.read_volume(source).capacity
        volume = self._pool(conn).createXMLFrom(storage.volume_xml(name, capacity, "qcow2"), source, 0)
        size = self._spec.disk_gib * storage.GIB
        if size > capacity:
            volume.resize(size, 0)

    def _copied(self, conn: Any) -> int:
        volume = storage.find_volume(self._pool(conn), disk_name(self._spec.name))
        if volume is None:
            return 0
        try:
            return int(volume.info()[2])
        except libvirt.libvirtError:  # being built, and this storage cannot tell
            return 0

    def _define(self, conn: Any, xml: str) -> None:
        try:
            refuse_known(conn, self._spec)
        except Conflict:
            self._made.domain = False  # somebody else's
            raise
        conn.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)

    async def _undo(self) -> None:
        """Remove what was made, newest first. What cannot be removed is told in the task's log."""
        self._given_up.set()
        try:
            await self._client.call(self._undo_now, seconds=COPY_SECONDS, lane=Lane.SLOW)
        except Exception as error:
            text = str(error)
            with contextlib.suppress(Exception):
                await self._report.warn("Parts of the unfinished VM could not be removed: {reason}", reason=text)

    def _undo_now(self, conn: Any) -> None:
        if self._made.domain:
            with unless(libvirt.VIR_ERR_NO_DOMAIN):
                domain = conn.lookupByUUIDString(self._spec.ref)
                with unless(libvirt.VIR_ERR_OPERATION_INVALID):  # it does not run
                    domain.destroy()
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        pool = self._pool(conn)
        left = [name for name in reversed(self._made.volumes) if not delete_volume(pool, name, COPY_SECONDS)]
        if left:
            raise EngineFailure("These files are left in {folder}: {names}.", folder=self._site.disks_path, names=left)


def check_sizes(cpu_count: int | None, memory_mib: int | None, disk_gib: int | None) -> None:
    """``InvalidInput`` with the field for sizes that no VM has; None is not checked."""
    if cpu_count is not None and not 1 <= cpu_count <= MAX_CPU_CEILING:
        raise InvalidInput("A VM has 1 to {count} CPUs.", field="cpu_num", count=MAX_CPU_CEILING)
    if memory_mib is not None and memory_mib < MIN_MEMORY_MIB:
        raise InvalidInput("A VM needs at least {size} MiB of memory.", field="ram_num", size=MIN_MEMORY_MIB)
    if disk_gib is not None and disk_gib < 1:
        raise InvalidInput("A disk has at least 1 GiB.", field="hdd_num")


def refuse_known(conn: Any, spec: VmSpec) -> None:
    """``Conflict`` when the host has a domain with this name or this UUID. Neither is touched."""
    lookups = ((conn.lookupByName, spec.name), (conn.lookupByUUIDString, spec.ref))
    for lookup, value in lookups:
        try:
            lookup(value)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                raise
        else:
            raise Conflict("The host has a VM {value} already. Choose another name.", value=value)
