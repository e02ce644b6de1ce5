"""Images from a browser: uploads in pieces, kept on disk beside what is known of them, so that they survive a restart of the
panel and a reload of the page.

An upload is two files in the folder ``.incoming`` of the images folder: ``<id>.json`` says what is to come, ``<id>.part`` is
what has come. How far it is, is the size of the latter: nothing else can disagree with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from panel.errors import Conflict, HostUnreachable, InvalidInput, NotFound, PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskStatus
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.checksums import ALGORITHMS, Checksum, read_checksum
from panel.services.imagefiles import check_room, too_large
from panel.services.images import ImageService, Sending, about, actor_of, host_of, lock_of, remove, unpacked
from panel.services.names import check_title
from panel.services.taskcontext import TaskContext
from panel.services.taskends import LIVING
from panel.services.tasks import TaskService
from panel.services.unpacking import unpacked_name, unpacking_told
from panel.services.uploadfiles import (
    ID,
    Upload,
    drop,
    gathered,
    read,
    read_all,
    store,
    sweep,
    written,
)

PIECE = 8 * 1024**2  # bytes of one request
MOST_OPEN = 20  # uploads of one host
STALE_SECONDS = 24 * 3600.0  # after which nobody comes back for one
LIST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """A file that is about to come. ``modified``: when it was last changed, as the browser says (milliseconds since 1970): by
    name, size and this the same file is known again."""

    file: str
    size: int
    name: str = ""
    user: str = ""
    checksum: str = ""
    modified: int = 0


class UploadService:
    """Takes files from browsers, to hosts that the panel brings images to."""

    def __init__(self, tasks: TaskService, images: ImageService, audit: AuditLog) -> None:
        self._tasks = tasks
        self._images = images
        self._audit = audit
        self._busy: set[str] = set()
        tasks.register("image.upload", self._run, self._settle, _("Import an uploaded image"))

    async def begin(self, actor: Actor, host: Host, request: UploadRequest) -> Upload:
        """Make room for a file.

        Raises:
            InvalidInput: the name, the user, the checksum or the size.
            TooLarge: more than the settings allow.
            Conflict: no room, too many uploads, an image of this name, or no way to bring one to the host.
        """
        actor.require(Permission.MANAGE)
        file = check_title(request.file.replace("\\", "/").rpartition("/")[2], "file") or "image"
        name, stem = await self._images.check_new(
            host, request.name.strip() or Path(unpacked_name(file)).stem, request.user
        )
        read_checksum(request.checksum, "checksum")
        _check_size(file, request.size, self._images.limits.file)
        folder = self._images.inbox(host, make=True)
        there = await asyncio.to_thread(read_all, folder)
        if len(there) >= MOST_OPEN:
            raise Conflict(_("There are {most} unfinished uploads already. Discard some."), most=MOST_OPEN)
        if any(other.stem == stem for other in there):
            raise Conflict(_("An upload of {name} is under way already. Continue or discard it."), name=stem)
        check_room(folder, request.size + sum(other.size - other.offset for other in there))
        upload = Upload(
            uuid.uuid4().hex,
            file,
            request.size,
            name,
            stem,
            request.user,
            request.checksum,
            request.modified,
            actor.name,
        )
        await asyncio.to_thread(store, folder, upload)
        await self._audit.write(
            actor, "image.upload.begin", "host", host.name, Text(_("Began to upload {name}."), {"name": file})
        )
        return upload

    async def all(self, host: Host) -> list[Upload]:
        """What has begun, oldest first; what a task is taking in already is left out."""
        if self._images.why_not(host) is not None:
            return []
        taken = await self._taken(host)
        try:
            async with asyncio.timeout(LIST_SECONDS):
                there = await asyncio.to_thread(read_all, self._images.inbox(host))
        except (PanelError, TimeoutError):  # no folder, or a disk that hangs: the page does not wait for it
            return []
        return [upload for upload in there if upload.id not in taken]

    async def get(self, host: Host, upload_id: str) -> Upload:
        """An upload as it is now. ``NotFound``."""
        found = None
        if ID.fullmatch(upload_id):
            found = await asyncio.to_thread(read, self._images.inbox(host), upload_id)
        if found is None:
            raise NotFound(_("There is no such upload. It was finished, discarded, or nobody came back for it."))
        return found

    async def append(self, host: Host, upload_id: str, offset: int, body: AsyncIterable[bytes]) -> Upload:
        """Write a piece at ``offset``, which must be where the last one ended. What came of it before it broke off stays.

        Raises:
            Conflict: another offset, or another piece is on its way.
            InvalidInput: more than was announced.
        """
        async with self._alone(upload_id):
            upload = await self.get(host, upload_id)
            if offset != upload.offset:
                raise Conflict(_("The upload goes on at byte {offset}."), offset=upload.offset)
            part = self._images.inbox(host) / f"{upload_id}.part"
            await _append(part, offset, min(PIECE, upload.size - offset), body)
            return await self.get(host, upload_id)

    async def whole(self, actor: Actor, host: Host, request: UploadRequest, body: AsyncIterable[bytes]) -> Task:
        """Take a file in one go, as a form without JavaScript sends it, and let it become an image. ``request.size`` is the most
        that may come. Nothing stays of what breaks off. Raises as ``begin``, ``append`` and ``finish`` do."""
        upload = await self.begin(actor, host, request)
        folder = self._images.inbox(host)
        try:
            async with self._alone(upload.id):
                size = await _append(folder / f"{upload.id}.part", 0, upload.size, body)
                _check_size(upload.file, size, self._images.limits.file)
                await asyncio.to_thread(store, folder, replace(upload, size=size))
        except BaseException:
            drop(folder, upload.id)
            raise
        return await self.finish(actor, host, upload.id)

    async def finish(self, actor: Actor, host: Host, upload_id: str) -> Task:
        """Let what has come become an image: a task, for that takes a while. ``Conflict`` when something is missing."""
        actor.require(Permission.MANAGE)
        upload = await self.get(host, upload_id)
        if not upload.complete:
            raise Conflict(_("The upload goes on at byte {offset}."), offset=upload.offset)
        params = {"upload": upload.id, "stem": upload.stem}
        return await self._tasks.submit(
            actor, "image.upload", params, host=(host.id, host.name), lock=lock_of(host, upload.stem)
        )

    async def discard(self, actor: Actor, host: Host, upload_id: str) -> Upload:
        """Remove what has come. ``Conflict`` while a piece is on its way or a task takes it in."""
        actor.require(Permission.MANAGE)
        async with self._alone(upload_id):
            upload = await self.get(host, upload_id)
            if upload_id in await self._taken(host):
                raise Conflict(_("A task takes this upload in. Cancel the task."))
            drop(self._images.inbox(host), upload_id)
        await self._audit.write(
            actor,
            "image.upload.discard",
            "host",
            host.name,
            Text(_("Discarded the upload of {name}."), {"name": upload.file}),
        )
        return upload

    async def sweep(self) -> None:
        """Remove what nobody came back for, what a dead task left, and what was for hosts that are removed."""
        gathering = await asyncio.to_thread(self._images.gathering)
        hosts = await Host.all()
        for host_id in gathering.keys() - {host.id for host in hosts}:
            await asyncio.to_thread(shutil.rmtree, gathering[host_id], ignore_errors=True)
        for host in hosts:
            with suppress(PanelError):  # one without a way for images
                folder = self._images.inbox(host)
                busy = self._busy | await self._taken(host) | set(await _living(host))
                await asyncio.to_thread(sweep, folder, time.time() - STALE_SECONDS, busy)

    @asynccontextmanager
    async def _alone(self, upload_id: str) -> AsyncIterator[None]:
        if upload_id in self._busy:
            raise Conflict(_("Another part of this upload is on its way."))
        self._busy.add(upload_id)
        try:
            yield
        finally:
            self._busy.discard(upload_id)

    async def _taken(self, host: Host) -> set[str]:
        """The uploads that a living task has."""
        found = set()
        for task in await Task.filter(id__in=await _living(host), kind="image.upload"):
            found.add(self._tasks.params_of(task).get("upload", ""))
        return found

    async def _run(self, context: TaskContext) -> dict[str, Any]:
        host, upload_id = await host_of(context.task), context.params["upload"]
        folder = self._images.inbox(host)
        upload = await self.get(host, upload_id)
        part = folder / f"{upload_id}.part"
        try:
            facts = await self._checked(context, host, upload, part)
            await context.step(_("Looking into {name}"), percent=self._images.share(host, 97), name=upload.file)
            key = await self._images.take(
                actor_of(context.task), host, part, upload.stem, facts, shown=upload.file, field="file",
                tell=unpacking_told(context, upload.file, self._images.share(host, 97)), report=Sending(context),
            )  # fmt: skip
        except (Conflict, HostUnreachable, OSError):
            raise  # what has come is good; it waits until its way is free
        except asyncio.CancelledError:
            if await Task.filter(id=context.task.id, cancel_requested=True).exists():
                drop(folder, upload_id)
            raise
        except PanelError:
            drop(folder, upload_id)
            raise
        drop(folder, upload_id)
        await context.step(_("Image {name} is there"), percent=99, name=key)
        return {"image": key}

    async def _checked(self, context: TaskContext, host: Host, upload: Upload, part: Path) -> dict[str, str]:
        """What is written beside the image. ``InvalidInput`` for a wrong checksum."""
        wanted = read_checksum(upload.checksum, "checksum")
        found = {}
        if wanted is not None:
            await context.step(_("Reading {name} to compare its checksum"), percent=2, name=upload.file)
            digest = hashlib.new(wanted.algorithm)
            done, told = 0, time.monotonic()
            with part.open("rb") as opened:
                while data := await asyncio.to_thread(opened.read, PIECE):
                    await asyncio.to_thread(digest.update, data)
                    done += len(data)
                    if time.monotonic() - told >= 1.0:
                        told = time.monotonic()
                        await context.progress(
                            _("Reading {name} to compare its checksum"),
                            percent=self._images.share(host, 2 + 92 * done // upload.size),
                            name=upload.file,
                        )
            if Checksum(wanted.algorithm, digest.hexdigest()) != wanted:
                raise InvalidInput(
                    _("The checksum is wrong: {algorithm} of what came is {found}, expected was {wanted}."),
                    field="checksum", algorithm=wanted.algorithm, found=digest.hexdigest(), wanted=wanted.digest,
                )  # fmt: skip
            found = {ALGORITHMS[len(wanted.digest)]: wanted.digest}
        return about(upload.name, upload.user, task=context.task.id, **found)

    async def _settle(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        host, stem = await host_of(context.task), context.params["stem"]
        folder = self._images.inbox(host)
        remove(unpacked(folder / f"{context.params['upload']}.part"))
        placed = await self._images.settled(host, stem, context.task.id)
        if placed:
            drop(folder, context.params["upload"])
            return TaskStatus.SUCCEEDED, Text(_("Image {name} is there"), {"name": placed})
        return TaskStatus.FAILED, Text(
            _("The panel stopped during this task. What was uploaded is there: finish it again.")
        )


async def _living(host: Host) -> list[str]:
    ids = await Task.filter(host_id=host.id, status__in=LIVING, kind__startswith="image.").values_list("id", flat=True)
    return [str(task_id) for task_id in ids]


async def _append(part: Path, offset: int, room: int, body: AsyncIterable[bytes]) -> int:
    """Write ``body`` at ``offset``; where it ended. ``InvalidInput`` when it is longer than ``room``."""
    async for data in gathered(body):
        room -= len(data)
        if room < 0:
            raise InvalidInput(_("The upload is longer than was announced."), field="file")
        await written(part, offset, data)
        offset += len(data)
    return offset


def _check_size(file: str, size: int, most: int) -> None:
    if size < 1:
        raise InvalidInput(_("{path} is empty."), field="file", path=file)
    if size > most:
        raise too_large(file, size, most)
