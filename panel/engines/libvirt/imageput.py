"""Files of this machine become images of a host, through libvirt's own streams: whole or not at all.

A pool cannot rename a volume, so one is hidden by another: a mark, ``.coming.<token>.<file>``, is made first, then the sidecar,
then the file; and when all of it is there, the mark goes, in one step. After a crash the mark tells what to remove; the sidecar,
written before the file and naming the token, tells that it is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import posixpath
import re
import threading
import time
from typing import Any

import libvirt

from panel.engines.imagetypes import ImagePut
from panel.engines.libvirt import storage
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.create import Site
from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.images import MARK, SIDECAR_LIMIT, mark_name, parse_sidecar
from panel.engines.libvirt.remove import delete_volume
from panel.engines.types import Reporter
from panel.errors import Conflict, EngineFailure, EngineTimeout, InvalidInput, NotFound

MIB = 1024**2
PIECE = MIB
SPARE = 256 * MIB  # bytes of the host's file system that stay free
LEAST_SECONDS = 600.0
SLOWEST = 256 * 1024  # bytes per second: a road that is slower is given up
REPORT_SECONDS = 1.0
STILL_SECONDS = 120.0  # without a byte, after which nobody waits any more
UNDO_SECONDS = 300.0
STALE_SECONDS = 24 * 3600.0  # a mark that is older belongs to nobody
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.(qcow2|img|iso)")
_TOKEN = re.compile(r"[0-9a-f]{1,64}")
_NO_SPARSE = (libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED)


def sidecar_name(key: str) -> str:
    """The file that says what an image is called."""
    return posixpath.splitext(key)[0] + ".json"


class Putting:
    """One ``put_image``. The file goes over a connection of its own: on the host's other one, calls would wait behind it."""

    def __init__(self, client: Client, site: Site, image: ImagePut, report: Reporter) -> None:
        self._client, self._site, self._image, self._report = client, site, image, report
        self._stop = threading.Event()
        self._made: list[str] = []  # volumes, in the order in which they were made
        self._done = 0  # bytes

    async def run(self) -> None:
        """Send it. On any failure, a cancellation too, what was made is removed and the failure goes on."""
        image = self._image
        if not _KEY.fullmatch(image.key) or not _TOKEN.fullmatch(image.token):
            raise InvalidInput("{name} cannot be the name of an image's file.", field="name", name=image.key)
        try:
            size = (await asyncio.to_thread(image.file.stat)).st_size
        except OSError as error:
            raise _unreadable(image, error) from error
        own = Client(self._client.uri, self._client.name)
        sending = asyncio.ensure_future(
            own.call(lambda conn: self._put(conn, size), seconds=LEAST_SECONDS + size / SLOWEST, lane=Lane.SLOW)
        )
        sending.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # nobody asks, once we are cancelled
        try:
            await self._watch(sending, size)
        except BaseException:
            self._stop.set()
            await _to_the_end(self._undo(own, sending))
            raise
        finally:
            await _to_the_end(own.close())

    async def _watch(self, sending: asyncio.Future[None], size: int) -> None:
        """Tell how far it is until it has ended. ``EngineTimeout`` when it stands still."""
        last, moved, waited = -1, time.monotonic(), 0.0
        while not (await asyncio.wait({sending}, timeout=waited))[0]:
            waited = REPORT_SECONDS
            if self._done != last:
                last, moved = self._done, time.monotonic()
            elif time.monotonic() - moved > STILL_SECONDS:
                raise EngineTimeout(
                    "Host {host} took nothing of {name} for {seconds} s. Check the network and the host's disk, then try again.",
                    host=self._client.name, name=self._image.key, seconds=int(STILL_SECONDS),
                )  # fmt: skip
            await self._report.step(
                "Sending {name}: {done} of {size} MiB",
                percent=int(99 * last / max(1, size)), name=self._image.key, done=last // MIB, size=-(-size // MIB),
            )  # fmt: skip
        sending.result()

    # -- in a thread -----------------------------------------------------------------------------------------------

    def _put(self, conn: Any, size: int) -> None:
        image = self._image
        pool = storage.open_pool(conn, self._site.images_path, self._site.local)
        _refuse_taken(conn, pool, image.key)
        taken = min(size, image.file.stat().st_blocks * 512)  # holes stay holes
        free = int(pool.info()[3])
        if taken + SPARE > free:
            raise Conflict(
                "There is no room on the host: {needed} MiB are needed, {free} MiB of its images folder's disk can be used.",
                needed=-(-taken // MIB), free=max(0, free - SPARE) // MIB,
            )  # fmt: skip
        mark = mark_name(image.key, image.token)
        self._make(pool, mark, 1)
        about = json.dumps(dict(image.about) | {"task": image.token}, ensure_ascii=False).encode()
        sidecar = sidecar_name(image.key)
        try:
            storage.upload(conn, pool, sidecar, about, lambda: self._made.append(sidecar))
        except libvirt.libvirtError as error:
            raise _taken(error, sidecar) from None
        volume = self._make(pool, image.key, size)
        self._send(conn, volume, size)
        self._go_on()
        if not delete_volume(pool, mark):
            raise EngineFailure("The file {name} could not be written on the host.", name=image.key)

    def _make(self, pool: Any, name: str, size: int) -> Any:
        self._go_on()
        try:
            volume = pool.createXML(storage.volume_xml(name, size, "raw", sparse=True), 0)
        except libvirt.libvirtError as error:
            raise _taken(error, name) from None
        self._made.append(name)
        return volume

    def _send(self, conn: Any, volume: Any, size: int) -> None:
        stream, sparse = _upload_stream(conn, volume, size)
        try:
            with self._image.file.open("rb", buffering=0) as source:
                while self._done < size:
                    self._go_on()
                    data, length = _section(source.fileno(), self._done, size)
                    if not data and sparse:
                        stream.sendHole(length, 0)
                        self._done += length
                    else:
                        self._send_piece(stream, os.pread(source.fileno(), min(PIECE, length), self._done))
            stream.finish()
        except BaseException as error:
            with contextlib.suppress(libvirt.libvirtError):
                stream.abort()
            if isinstance(error, OSError):
                raise _unreadable(self._image, error) from error
            raise

    def _send_piece(self, stream: Any, piece: bytes) -> None:
        view = memoryview(piece)
        if not view:
            raise EngineFailure("The file {name} became shorter while it was sent.", name=self._image.file.name)
        while view:
            sent = stream.send(bytes(view))
            if sent <= 0:
                raise EngineFailure("The file {name} could not be written on the host.", name=self._image.key)
            self._done += sent
            view = view[sent:]

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise EngineFailure("The file {name} could not be written on the host.", name=self._image.key)

    # -- undoing ---------------------------------------------------------------------------------------------------

    async def _undo(self, own: Client, sending: asyncio.Future[None]) -> None:
        """Remove what was made. What cannot be removed is told in the task's log, and stays hidden by its mark."""
        await asyncio.wait({sending}, timeout=10)  # it sees the flag between two pieces
        await own.close()  # libvirt ends a stream with its connection
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})
        try:
            await self._client.call(self._undo_now, seconds=UNDO_SECONDS + 60, lane=Lane.SLOW)
        except Exception as error:
            text = str(error)
            with contextlib.suppress(Exception):
                await self._report.warn("Parts of the unfinished image could not be removed: {reason}", reason=text)

    def _undo_now(self, conn: Any) -> None:
        if self._made:
            pool = storage.open_pool(conn, self._site.images_path, self._site.local)
            mark = mark_name(self._image.key, self._image.token)
            _delete(pool, [*(name for name in reversed(self._made) if name != mark), mark])


def _unreadable(image: ImagePut, error: OSError) -> EngineFailure:
    return EngineFailure("{path} cannot be read: {reason}.", path=image.file.name, reason=error.strerror or str(error))


def _section(fd: int, at: int, size: int) -> tuple[bool, int]:
    """Whether there is data at ``at``, or a hole, and how long it goes on, in bytes."""
    try:
        data = min(size, os.lseek(fd, at, os.SEEK_DATA))
    except OSError as error:
        if error.errno != errno.ENXIO:  # there is no data any more
            return True, size - at  # a file system that does not know
        return False, size - at
    if data > at:
        return False, data - at
    return True, min(size, os.lseek(fd, at, os.SEEK_HOLE)) - at


def _upload_stream(conn: Any, volume: Any, size: int) -> tuple[Any, bool]:
    """A stream into ``volume``, and whether it takes holes (libvirt 3.4 on both sides)."""
    stream = conn.newStream(0)
    try:
        volume.upload(stream, 0, size, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    except libvirt.libvirtError as error:
        if not is_code(error, *_NO_SPARSE):
            raise
    else:
        return stream, True
    stream = conn.newStream(0)
    volume.upload(stream, 0, size, 0)
    return stream, False


def _taken(error: Any, name: str) -> Exception:
    if is_code(error, libvirt.VIR_ERR_STORAGE_VOL_EXIST):
        return Conflict("There is an image {name} already.", field="name", name=name)
    return error  # type: ignore[no-any-return]


def _refuse_taken(conn: Any, pool: Any, key: str) -> None:
    """``Conflict`` when there is a file ``key``, or one whose sidecar would be the same. What broke off long ago, on a host that
    was not there to be cleaned, goes."""
    storage.refresh(pool)
    volumes = {volume.name: volume for volume in storage.list_volumes(pool)}
    for name, volume in list(volumes.items()):
        found = MARK.fullmatch(name)
        if found and found[2] == key and 0 < volume.changed < time.time() - STALE_SECONDS:
            settle(conn, pool, key, found[1])
            volumes = {volume.name: volume for volume in storage.list_volumes(pool)}
    stem = posixpath.splitext(key)[0]
    for name in volumes:
        if posixpath.splitext(name)[0] == stem:
            raise Conflict("There is an image {name} already.", field="name", name=name)


def settle(conn: Any, pool: Any, key: str, token: str) -> bool:
    """See ``Engine.settle_image``."""
    if not _KEY.fullmatch(key) or not _TOKEN.fullmatch(token):
        return False
    storage.refresh(pool)
    mark, sidecar = mark_name(key, token), sidecar_name(key)
    beside = storage.find_volume(pool, sidecar)
    about = parse_sidecar(storage.download(conn, beside, SIDECAR_LIMIT + 1)) if beside is not None else {}
    ours = about.get("task") == token
    if storage.find_volume(pool, mark) is None:
        return ours and storage.find_volume(pool, key) is not None
    if ours:
        _delete(pool, [key, sidecar, mark])
    else:  # without a word in it, it is ours and half written: there was none when the mark was made
        _delete(pool, [mark] if about else [sidecar, mark])
    return False


def remove_image(conn: Any, pool: Any, key: str, local: bool) -> None:
    """See ``Engine.remove_image``: the file, then what is beside it."""
    storage.refresh(pool)
    if not key or "/" in key or key.startswith(".") or storage.find_volume(pool, key) is None:
        raise NotFound("The host has no image {name}.", name=key[:255])
    users = storage.users_of(conn, storage.path_in(pool, key), local)
    if users:
        raise Conflict(
            "{name} is in use: the disks or CD drives of {vms} draw on it.", name=key, vms=", ".join(users[:10])
        )
    _delete(pool, [key, sidecar_name(key)])


def _delete(pool: Any, names: list[str]) -> None:
    """In this order; what cannot be deleted keeps the rest. ``EngineFailure``."""
    for name in names:
        if not delete_volume(pool, name, UNDO_SECONDS):
            raise EngineFailure("The file {name} could not be removed from the host.", name=name)


async def _to_the_end(work: Any) -> None:
    job = asyncio.ensure_future(work)
    while not job.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(job)
