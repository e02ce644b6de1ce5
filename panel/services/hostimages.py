"""Images that a host fetches by itself into a store of its own, and those removed again.

The URL is held to the same rules as one that the panel fetches: the panel opens it first, through every redirect, looks at its
beginning, and hands on where it led. The host then resolves the name anew, and what it gets is told by the checksum alone: so
there is none without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from panel.engines.imagetypes import ImageFetch
from panel.errors import InvalidInput
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Task, TaskStatus
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.checksums import LARGEST_FILE, Checksum, find_checksum, read_checksum
from panel.services.downloads import CHECKSUM_SECONDS, FetchRequest, file_name
from panel.services.engines import LONG, EnginePool, capabilities, limited
from panel.services.fetching import Fetcher, check_url
from panel.services.imagefiles import too_large
from panel.services.images import ImageService, actor_of, host_of, lock_of
from panel.services.observer import Observer
from panel.services.sniffing import HEAD_BYTES, ending_of
from panel.services.taskcontext import TaskContext
from panel.services.tasks import TaskService

LOOK_SECONDS = 60.0
WHOLE_SECONDS = 5 * 3600.0  # the engine has its own limit inside


class HostImageService:
    """The images of hosts whose engine has ``image_urls``."""

    def __init__(
        self, tasks: TaskService, pool: EnginePool, images: ImageService, observer: Observer, fetcher: Fetcher, audit: AuditLog
    ) -> None:  # fmt: skip
        self._tasks, self._pool, self._images, self._observer = tasks, pool, images, observer
        self._fetcher, self._audit = fetcher, audit
        tasks.register("image.host", self._run, self._settle, _("Let a host download an image"), self._again)

    def able(self, host: Host) -> bool:
        """Whether this is the way of images to a host."""
        return capabilities(host.engine).image_urls

    async def begin(self, actor: Actor, host: Host, request: FetchRequest, notes: Sequence[Text] = ()) -> Task:
        """Check what can be checked without asking the server, and begin.

        Raises:
            InvalidInput: the URL, the name or the checksum, or there is none.
            Conflict: the host has an image of this name, or one is on its way.
        """
        actor.require(Permission.MANAGE)
        capabilities(host.engine).require("image_urls")
        url = check_url(request.url, "url")
        read_checksum(request.checksum, "checksum")
        if request.checksum_url:
            check_url(request.checksum_url, "checksum_url")
        if bool(request.checksum.strip()) == bool(request.checksum_url):
            raise InvalidInput(
                _("Give a checksum or the URL of a checksum file: this host fetches the image itself, and only that tells "
                  "whether the right thing came."),
                field="checksum",
            )  # fmt: skip
        name = request.name.strip() or PurePosixPath(file_name(str(url))).stem
        name, stem = await self._images.check_name(host, name)
        await self._pool.require_somewhere(host)
        params = asdict(request) | {"name": name, "stem": stem}
        return await self._tasks.submit(
            actor, "image.host", params, host=(host.id, host.name), lock=lock_of(host, stem), notes=notes
        )

    async def remove(self, actor: Actor, host: Host, key: str) -> HostImage:
        """Remove an image from the host's store. ``NotFound``; ``Conflict`` for one that is no file."""
        actor.require(Permission.MANAGE)
        capabilities(host.engine).require("image_urls")
        image = await self._images.listed(host, key)
        await limited(self._pool.of(host).remove_image(image.key), LONG)
        await HostImage.filter(id=image.id).delete()
        text = Text(_("Removed image {name}."), {"name": image.key})
        await self._audit.write(actor, "image.delete", "host", host.name, text)
        self._observer.look_now(host.id, inventory=True)
        return image

    async def _again(self, actor: Actor, task: Task, params: dict[str, Any], notes: Sequence[Text]) -> Task:
        wanted = {key: value for key, value in params.items() if key != "stem"}
        return await self.begin(actor, await host_of(task), FetchRequest(**wanted), notes)

    async def _run(self, context: TaskContext) -> dict[str, Any]:
        params, host = context.params, await host_of(context.task)
        image = await self._looked_at(context, await self._checksum(context))
        key = await limited(self._pool.of(host).fetch_image(image, context), WHOLE_SECONDS)
        text = Text(_("Added image {name}."), {"name": key})
        await self._audit.write(actor_of(context.task), "image.add", "host", host.name, text)
        self._observer.look_now(host.id, inventory=True)
        await context.step(_("Image {name} is there"), percent=99, name=params["name"])
        return {"image": key}

    async def _checksum(self, context: TaskContext) -> Checksum:
        params = context.params
        given = read_checksum(params["checksum"], "checksum")
        if given is None:
            await context.step(_("Reading the checksum file"), percent=1)
            async with asyncio.timeout(CHECKSUM_SECONDS):
                async with self._fetcher.open(params["checksum_url"], "checksum_url", verified=False) as answer:
                    text = await answer.text(LARGEST_FILE)
            given = find_checksum(text, file_name(params["url"]), "checksum_url")
        return given

    async def _looked_at(self, context: TaskContext, checksum: Checksum) -> ImageFetch:
        """What lies at the URL, by its beginning, and where the URL leads."""
        params = context.params
        shown, most = file_name(params["url"]), self._images.limits.file
        await context.step(_("Asking {host} for {name}"), host=urlsplit(params["url"]).hostname, name=shown)
        head = b""
        async with asyncio.timeout(LOOK_SECONDS), self._fetcher.open(params["url"], "url", verified=True) as answer:
            if answer.size is not None and answer.size > most:
                raise too_large(shown, answer.size, most)
            async for piece in answer.pieces(HEAD_BYTES):
                head += piece
                if len(head) >= HEAD_BYTES:
                    break
            url = answer.url
        return ImageFetch(params["stem"], ending_of(head, shown, "url"), url, checksum.algorithm, checksum.digest)

    async def _settle(self, context: TaskContext) -> tuple[TaskStatus, Text]:
        """A download that is not finished has another name there, and goes on without us."""
        host = await host_of(context.task)
        stem = context.params["stem"]
        found = await limited(self._pool.even_disabled(host).list_images())
        if any(image.name == stem for image in found):
            return TaskStatus.SUCCEEDED, Text(_("Image {name} is there"), {"name": stem})
        return TaskStatus.FAILED, Text(
            _("The panel stopped during this download. The host may finish it; then the image shows by itself.")
        )
