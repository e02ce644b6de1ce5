"""Images from URLs: a task that streams a file to disk, checks it, and lets it become an image at the end."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from panel.errors import InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, Task, TaskStatus
from panel.security import Actor, Permission
from panel.services.catalogue import CloudImage
from panel.services.checksums import LARGEST_FILE, Checksum, find_checksum, read_checksum
from panel.services.fetching import Download, Fetcher, check_url
from panel.services.imagefiles import check_room, too_large, unwritable
from panel.services.images import ImageService, Sending, about, actor_of, host_of, lock_of, remove, unpacked
from panel.services.taskcontext import TaskContext
from panel.services.tasks import TaskService
from panel.services.unpacking import unpacked_name, unpacking_told

MIB = 1024**2
PIECE = MIB
ROOM_EVERY = 256 * MIB  # bytes between two looks at the free room of the disk
PROGRESS_SECONDS = 1.0
WHOLE_SECONDS = 12 * 3600  # of one download: a server that sends a byte now and then does not keep it for ever
CHECKSUM_SECONDS = 60


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """An image that is wanted. ``checksum`` is a SHA-256 or SHA-512, ``checksum_url`` the file that a distribution publishes."""

    url: str
    name: str = ""
    user: str = ""
    checksum: str = ""
    checksum_url: str = ""


def of_catalogue(image: CloudImage) -> FetchRequest:
    """What to ask for, to have an image of the catalogue."""
    return FetchRequest(image.url, image.title, image.user, "", image.checksums)


class DownloadService:
    """Brings images from URLs to hosts that are this machine."""

    def __init__(self, tasks: TaskService, images: ImageService, fetcher: Fetcher) -> None:
        self._tasks = tasks
        self._images = images
        self.fetcher = fetcher
        tasks.register("image.fetch", self._run, self._settle, _("Download an image"), self._again)

    async def begin(self, actor: Actor, host: Host, request: FetchRequest, notes: Sequence[Text] = ()) -> Task:
        """Check what can be checked without asking the server, and begin.

        Raises:
            InvalidInput: the URL, the name or the checksum.
            Conflict: the host is not one to bring images to, has an image of this name, or one is on its way.
        """
        actor.require(Permission.MANAGE)
        url = check_url(request.url, "url")
        read_checksum(request.checksum, "checksum")
        if request.checksum_url:
            check_url(request.checksum_url, "checksum_url")
            if request.checksum:
                raise InvalidInput(_("Give a checksum or the URL of a checksum file, not both."), field="checksum_url")
        name = request.name.strip() or PurePosixPath(unpacked_name(file_name(str(url)))).stem
        name, stem = await self._images.check_new(host, name, request.user)
        params = asdict(request) | {"name": name, "stem": stem}
        return await self._tasks.submit(
            actor, "image.fetch", params, host=(host.id, host.name), lock=lock_of(host, stem), notes=notes
        )

    async def _again(self, actor: Actor, task: Task, params: dict[str, Any], notes: Sequence[Text]) -> Task:
        host = await host_of(task)
        wanted = {key: value for key, value in params.items() if key != "stem"}
        return await self.begin(actor, host, FetchRequest(**wanted), notes)

    async def _run(self, context: TaskContext) -> dict[str, Any]:
        params, host = context.params, await host_of(context.task)
        part = self._images.inbox(host, make=True) / f"{context.task.id}.part"
        shown = file_name(params["url"])
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                wanted = await self._wanted(context)
                await context.step(_("Asking {host} for {name}"), host=urlsplit(params["url"]).hostname, name=shown)
                async with self.fetcher.open(params["url"], "url", verified=wanted is not None) as answer:
                    digest = await self._receive(context, host, answer, part, wanted)
        except TimeoutError as error:
            remove(part)
            raise InvalidInput(
                _("{name} did not come within {hours} h."), name=shown, hours=WHOLE_SECONDS // 3600
            ) from error
        except BaseException:
            remove(part)
            raise
        try:
            await context.step(_("Looking into {name}"), percent=self._images.share(host, 97), name=shown)
            facts = about(params["name"], params["user"], task=context.task.id, **{digest.algorithm: digest.digest})
            key = await self._images.take(
                actor_of(context.task), host, part, params["stem"], facts, shown=shown, field="url",
                tell=unpacking_told(context, shown, self._images.share(host, 97)), report=Sending(context),
            )  # fmt: skip
        finally:
            remove(part)
        await context.step(_("Image {name} is there"), percent=99, name=key)
        return {"image": key}

    async def _wanted(self, context: TaskContext) -> Checksum | None:
        params = context.params
        given = read_checksum(params["checksum"], "checksum")
        if given is None and params["checksum_url"]:
            await context.step(_("Reading the checksum file"), percent=1)
            async with asyncio.timeout(CHECKSUM_SECONDS):
                async with self.fetcher.open(params["checksum_url"], "checksum_url", verified=False) as answer:
                    text = await answer.text(LARGEST_FILE)
            given = find_checksum(text, file_name(params["url"]), "checksum_url")
        if given is None:
            await context.warn(_("No checksum was given: nobody can tell whether what comes is what was meant."))
        return given

    async def _receive(
        self, context: TaskContext, host: Host, answer: Download, part: Path, wanted: Checksum | None
    ) -> Checksum:
        """Write the body to ``part``; what its checksum is. At most one piece is in memory."""
        shown, most = file_name(context.params["url"]), self._images.limits.file
        if answer.size is not None and answer.size > most:
            raise too_large(shown, answer.size, most)
        check_room(part.parent, answer.size or 0)
        algorithm = wanted.algorithm if wanted else "sha256"
        digest, done, told = hashlib.new(algorithm), 0, 0.0
        try:
            with part.open("xb") as opened:
                async for piece in answer.pieces(PIECE):
                    if done // ROOM_EVERY != (done + len(piece)) // ROOM_EVERY:
                        check_room(part.parent, max(0, (answer.size or 0) - done))
                    done += len(piece)
                    if done > most:
                        raise too_large(shown, done, most)
                    await asyncio.to_thread(_write, opened, digest, piece)
                    if time.monotonic() - told >= PROGRESS_SECONDS:
                        told = time.monotonic()
                        await _tell(context, shown, done, answer.size, self._images.share(host, 92))
        except OSError as error:
            raise unwritable(shown, error) from error
        found = Checksum(algorithm, digest.hexdigest())
        if wanted is not None and wanted != found:
            raise InvalidInput(
                _("The checksum is wrong: {algorithm} of what came is {found}, expected was {wanted}."),
                field="checksum", algorithm=algorithm, found=found.digest, wanted=wanted.digest,
            )  # fmt: skip
        await context.step(
            _("{amount} MiB came; {algorithm} {digest}") if wanted is None else _("{amount} MiB came, and the checksum is right"),
            percent=self._images.share(host, 95), amount=-(-done // MIB), algorithm=algorithm, digest=found.digest,
        )  # fmt: skip
        return found

    async def _settle(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        host = await host_of(context.task)
        part = self._images.inbox(host) / f"{context.task.id}.part"
        remove(part, unpacked(part))
        placed = await self._images.settled(host, context.params["stem"], context.task.id)
        if placed:
            return TaskStatus.SUCCEEDED, Text(_("Image {name} is there"), {"name": placed})
        return TaskStatus.FAILED, Text(
            _("The panel stopped during this download. What had come was removed; try again to begin anew.")
        )


def file_name(url: str) -> str:
    """What a URL calls its file; the host's name when it does not."""
    parts = urlsplit(url)
    return PurePosixPath(unquote(parts.path)).name[:200] or (parts.hostname or "image")


def _write(opened: IO[bytes], digest: Any, piece: bytes) -> None:
    opened.write(piece)
    digest.update(piece)


async def _tell(context: TaskContext, shown: str, done: int, size: int | None, share: int) -> None:
    if size:
        await context.progress(
            _("{name}: {done} of {size} MiB"), percent=2 + int(share * done / size), name=shown,
            done=done // MIB, size=-(-size // MIB),
        )  # fmt: skip
    else:
        await context.progress(_("{name}: {done} MiB"), percent=2, name=shown, done=done // MIB)
