"""What VMs are made from: templates to clone, and files of a storage: systems for containers (``vztmpl``) and disk images of
cloud systems (``import``)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from panel.engines.hosttypes import Image
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.view import Found, Viewer, is_template, template_gib
from panel.errors import EngineFailure, EngineTimeout, InvalidInput
from panel.i18n import gettext_noop as _

CLONE, CONTAINER, DISK = "template", "container", "cloud image"
CONTENTS = {"vztmpl": CONTAINER, "import": DISK}
NEEDED = {CONTAINER: "rootdir", DISK: "images"}
DISKS = (".qcow2", ".raw", ".vmdk", ".img")
PACKED = (".tar.zst", ".tar.xz", ".tar.gz", ".tar")


@dataclass(frozen=True, slots=True)
class Source:
    """One of them.

    Attributes:
        kind: ``CLONE``, ``CONTAINER`` or ``DISK``.
        volume: the file, as Proxmox names it; empty for a template.
        template: the template; None for a file.
        gib: what its disk needs; 0 when that is not known before it is there.
    """

    kind: str
    name: str
    node: str
    volume: str = ""
    template: Found | None = None
    gib: float = 0.0
    size_bytes: int = 0

    @property
    def path_kind(self) -> str:
        """What is made of it, as paths have it."""
        if self.template is not None:
            return self.template.kind
        return "lxc" if self.kind == CONTAINER else "qemu"

    def image(self) -> Image:
        """As the panel lists it."""
        one = self.template
        user = str(one.config.get("ciuser") or "root") if one else "root"
        key = str(one.vmid) if one else self.volume
        return Image(self.name, key, self.name, self.kind, self.size_bytes, self.gib, default_user=user)


class Sources:
    """Those of a host."""

    def __init__(self, client: Client, viewer: Viewer) -> None:
        self._client, self._viewer = client, viewer

    async def all(self, library: list[Found]) -> dict[str, Source]:
        """By name. Of several of one name a template goes first, and of those the one with the lowest number. A container's
        template is none: its copy would keep the secrets of the first."""
        found: dict[str, Source] = {}
        for one in sorted(library, key=lambda one: one.vmid):
            if is_template(one) and not one.container:
                gib = template_gib(one)
                made = Source(CLONE, one.vendors_name, one.node, template=one, gib=gib, size_bytes=round(gib * 1024**3))
                found.setdefault(made.name, made)
        for file in await self._files():
            found.setdefault(file.name, file)
        return found

    async def _files(self) -> list[Source]:
        """Files of all storages that are there; shared ones are asked once."""
        places: dict[str, dict[str, Any]] = {}
        for line in await self._viewer.resources("storage"):
            if line.get("status") == "available" and contents(line) & CONTENTS.keys():
                places.setdefault(str(line["storage"]) if line.get("shared") else str(line["id"]), line)
        lists = await asyncio.gather(*(self._content(line) for line in places.values()))
        return sorted((source for each in lists for source in each), key=lambda one: (one.kind, one.volume, one.node))

    async def _content(self, line: dict[str, Any]) -> list[Source]:
        node, storage = str(line["node"]), str(line["storage"])
        path = f"/nodes/{quote(node, safe='')}/storage/{quote(storage, safe='')}/content"
        try:
            found = await self._client.get(path)
        except (EngineFailure, EngineTimeout):
            return []  # of a storage that is away
        made = []
        for entry in found or []:
            volume = str(entry.get("volid", ""))
            what, _slash, file = volume.partition(":")[2].partition("/")
            kind = CONTENTS.get(what)
            name = plain_name(file)
            if kind is None or (kind == DISK and not file.endswith(DISKS)) or not name:
                continue
            made.append(Source(kind, name, node, volume, size_bytes=int(entry.get("size") or 0)))
        return made

    async def storage(self, node: str, kind: str, wanted: str) -> str:
        """Where on a node its disk goes: ``wanted``, or else the first that takes such disks. ``InvalidInput`` names
        ``system_path``."""
        lines = [line for line in await self._viewer.resources("storage") if line.get("node") == node]
        able = sorted(
            str(line["storage"])
            for line in lines
            if line.get("status") == "available" and NEEDED[kind] in contents(line)
        )
        if wanted in able or (able and not wanted):
            return wanted or able[0]
        if wanted:
            raise InvalidInput(
                _("The storage {name} on node {node} takes no {content}. Choose another one (system_path)."),
                field="system_path", name=wanted, node=node, content=NEEDED[kind],
            )  # fmt: skip
        raise InvalidInput(
            _("Node {node} has no storage for {content}. Add one (Datacenter, Storage)."),
            field="system_path", node=node, content=NEEDED[kind],
        )  # fmt: skip


def contents(line: dict[str, Any]) -> set[str]:
    """What a storage takes."""
    return set(str(line.get("content", "")).split(","))


def plain_name(file: str) -> str:
    """What people call a file: without folder and ending."""
    name = PurePosixPath(file).name
    return next((name.removesuffix(end) for end in (*PACKED, *DISKS) if name.endswith(end)), name)
