"""Images that a node downloads into a storage of its own, and such files removed again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from panel.engines.imagetypes import ImageFetch
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.sources import CONTENTS, contents
from panel.engines.proxmox.tasks import Tasks, to_the_end
from panel.engines.proxmox.view import Viewer
from panel.engines.types import Reporter
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound, PanelError
from panel.i18n import gettext_noop as _

FETCH_SECONDS = 4 * 3600.0
REMOVE_SECONDS = 300.0
ENDINGS = {".qcow2": "import", ".raw": "import", ".tar.xz": "vztmpl", ".tar.gz": "vztmpl", ".tar.zst": "vztmpl"}


class Images:
    """The files of a host's storages. ``storage``: where new ones go; empty: where they fit and most is free."""

    def __init__(self, client: Client, viewer: Viewer, tasks: Tasks, storage: str) -> None:
        self._client, self._viewer, self._tasks, self._storage = client, viewer, tasks, storage

    async def fetch(self, image: ImageFetch, report: Reporter) -> str:
        """See ``Engine.fetch_image``. Proxmox downloads under another name, checks, and renames at the end."""
        content = ENDINGS.get(image.ending)
        if content is None:
            raise InvalidInput(
                _("Proxmox takes images that end in: {endings}."), field="url", endings=", ".join(ENDINGS)
            )
        node, storage = await self._place(content)
        file = image.name + image.ending
        volume = f"{storage}:{content}/{file}"
        path = _path(node, storage)
        if await self._is_there(path, volume):
            raise Conflict(_("There is an image {name} already."), field="name", name=file)
        await report.step(_("Node {node} downloads it to storage {storage}"), percent=5, node=node, storage=storage)
        form = {"content": content, "filename": file, "url": image.url, "verify-certificates": "1"}
        form |= {"checksum": image.digest, "checksum-algorithm": image.algorithm}
        beginning = asyncio.ensure_future(self._client.post(f"{path}/download-url", form))
        try:
            await self._tasks.wait(str(await asyncio.shield(beginning)), FETCH_SECONDS, report, (5, 95))
        except BaseException:
            await to_the_end(self._undo(beginning, path, volume))
            raise
        if not await self._is_there(path, volume):
            raise EngineFailure(_("The host does not list image {name} after it was copied."), name=file)
        return volume

    async def remove(self, key: str) -> None:
        """See ``Engine.remove_image``."""
        storage, _colon, rest = key.partition(":")
        if rest.partition("/")[0] not in CONTENTS:
            raise Conflict(
                _("Image {name} is a template VM. Remove it on Proxmox's own pages: linked clones may draw on it."),
                name=key,
            )
        lines = [line for line in await self._lines() if line.get("storage") == storage]
        for line in sorted(lines, key=lambda line: str(line["node"])):
            path = _path(str(line["node"]), storage)
            if await self._is_there(path, key):
                await self._delete(path, key)
                return
        raise NotFound(_("There is no image {name} on the host."), name=key)

    async def _undo(self, beginning: asyncio.Future[Any], path: str, volume: str) -> None:
        """Remove what our own download brought, when it was quicker than whoever cancelled it; another's file stays."""
        with suppress(PanelError):
            upid = str(await beginning)
            await self._tasks.end(upid)
            if await self._tasks.went_well(upid) and await self._is_there(path, volume):
                await self._delete(path, volume)

    async def _delete(self, path: str, volume: str) -> None:
        upid = await self._client.delete(f"{path}/content/{quote(volume, safe='')}")
        if upid:
            await self._tasks.wait(str(upid), REMOVE_SECONDS)

    async def _is_there(self, path: str, volume: str) -> bool:
        return any(entry.get("volid") == volume for entry in await self._client.get(f"{path}/content") or [])

    async def _place(self, content: str) -> tuple[str, str]:
        """A node and a storage of it."""
        lines = [line for line in await self._lines() if content in contents(line)]
        fitting = [line for line in lines if self._storage in {"", str(line["storage"])}]
        if not fitting:
            known = ", ".join(sorted({str(line["storage"]) for line in lines})) or "–"
            raise InvalidInput(
                _("No storage {name} takes files of the content type {content}. These do: {known}. Turn it on for one "
                  "(Datacenter, Storage), or name another in the host's settings (images_path)."),
                field="url", name=self._storage, content=content, known=known,
            )  # fmt: skip
        best = max(fitting, key=lambda line: (_free(line), str(line["node"])))
        return str(best["node"]), str(best["storage"])

    async def _lines(self) -> list[dict[str, Any]]:
        return [line for line in await self._viewer.resources("storage") if line.get("status") == "available"]


def _path(node: str, storage: str) -> str:
    return f"/nodes/{quote(node, safe='')}/storage/{quote(storage, safe='')}"


def _free(line: dict[str, Any]) -> int:
    return int(line.get("maxdisk") or 0) - int(line.get("disk") or 0)
