"""Images of hosts: read them, bring files to a host and take them out.

Of a host that is this machine, the images folder is at hand: what comes gathers in it, and is an image by getting its name. To
another machine, of an engine with ``image_files``, the file is sent when it is whole; it gathers in the panel's data folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tortoise.functions import Count

from panel.engines.hosttypes import Image
from panel.engines.imagetypes import ImagePut
from panel.engines.types import Reporter
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host, HostImage, Task, Vm
from panel.security import Actor, Permission, Source
from panel.services.audit import AuditLog
from panel.services.engines import LONG, EnginePool, capabilities, limited
from panel.services.imagefiles import (
    GIB,
    INCOMING,
    Limits,
    cds_of,
    check_free,
    check_room,
    examine,
    incoming,
    names_of,
    place,
    read_about,
    unwritable,
)
from panel.services.imagefiles import SUFFIXES as ENDINGS
from panel.services.names import check_identifier, check_title, folded
from panel.services.observer import Observer
from panel.services.taskcontext import TaskContext
from panel.services.unpacking import Tell, packed_as, unpack
from panel.settings import Settings

BUILD_SECONDS = 900
BUILD_SCRIPT = Path(__file__).parents[2] / "scripts" / "build_demo_image.sh"
DEMO_FILE = "openidcs-demo.qcow2"
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


async def _nobody(_read: int, _done: int) -> None:
    """Is told how far it is, and tells nobody."""


class ImageService:
    """The images of hosts."""

    def __init__(self, settings: Settings, pool: EnginePool, observer: Observer, audit: AuditLog) -> None:
        self.limits = Limits(settings.images_largest_gib * GIB, settings.images_virtual_gib * GIB)
        self._gathering = settings.data_folder / "images"
        self._pool = pool
        self._observer = observer
        self._audit = audit

    async def read(self, host: Host) -> list[Image]:
        """The images of a host, asked of it now."""
        capabilities(host.engine).require("images")
        engine = self._pool.of(host)
        await limited(engine.prepare())
        return await limited(engine.list_images())

    async def used_by(self, host: Host) -> dict[str, int]:
        """How many VMs of the host were made from an image, by its name."""
        rows = await Vm.filter(host_id=host.id).exclude(os_name="").group_by("os_name").annotate(count=Count("id")).values(
            "os_name", "count"
        )  # fmt: skip
        return {row["os_name"]: row["count"] for row in rows}

    async def made_from(self, host: Host, image: HostImage, most: int) -> list[str]:
        """The names of at most ``most`` VMs that were made from an image."""
        vms = Vm.filter(host_id=host.id, os_name=image.name).order_by("name").limit(most)
        return [str(name) for name in await vms.values_list("name", flat=True)]

    def why_not(self, host: Host) -> Text | None:
        """Why the panel cannot bring images to a host, or None when it can."""
        reason = capabilities(host.engine).why_not("images")
        if reason is not None:
            return Text(reason)
        if not self.local(host) and not capabilities(host.engine).image_files:
            return _elsewhere(host)
        return None

    def local(self, host: Host) -> bool:
        """Whether the images folder of a host is one of this machine."""
        return self._pool.even_disabled(host).images_folder is not None

    def share(self, host: Host, percent: int) -> int:
        """How much of the whole way it is to have ``percent`` of the file here: half of it, when it is sent on then."""
        return percent if self.local(host) else percent // 2

    def folder(self, host: Host) -> Path:
        """The images folder of a host that is this machine. ``Conflict`` when it is another, ``NotFound`` without one."""
        reason = self.why_not(host) or (None if self.local(host) else _elsewhere(host))
        if reason is not None:
            error = Conflict(reason.msgid)
            error.text = reason
            raise error
        self._pool.require_here(host)
        folder = self._pool.even_disabled(host).images_folder
        if folder is None or not folder.is_dir():
            raise NotFound(_("Host {name} has no images folder {path}."), name=host.name, path=str(folder or ""))
        return folder

    def inbox(self, host: Host, *, make: bool = False) -> Path:
        """Where files for a host gather, as ``folder`` says it; ``make`` it when missing."""
        if self.local(host) or self.why_not(host) is not None:
            folder = self.folder(host)
        else:
            folder = self._gathering / str(host.id)
            if make:
                try:
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                except OSError as error:
                    raise unwritable(str(folder), error) from error
        return incoming(folder) if make else folder / INCOMING

    def gathering(self) -> dict[int, Path]:
        """Where files for hosts that are other machines gather, by the host's id."""
        with suppress(OSError):
            return {int(folder.name): folder for folder in self._gathering.iterdir() if folder.name.isdecimal()}
        return {}

    async def check_name(self, host: Host, name: str) -> tuple[str, str]:
        """(name, file name without its ending) of an image that is to come. ``InvalidInput`` for what the name may not be,
        ``Conflict`` when there is one of it."""
        name = check_title(name, "name")
        stem = "".join(char if char.isascii() and (char.isalnum() or char in "._") else "-" for char in name)
        stem = check_identifier(re.sub("-+", "-", stem).strip("-._")[:60], "name")
        for image in await HostImage.filter(host_id=host.id):
            if folded(image.name) == folded(name):
                raise Conflict(_("There is an image {name} already."), field="name", name=image.name)
        return name, stem

    async def check_new(self, host: Host, name: str, user: str) -> tuple[str, str]:
        """The same of one that comes into the images folder.

        Raises:
            InvalidInput: what the name or the user may not be.
            Conflict: there is one of this name.
        """
        name, stem = await self.check_name(host, name)
        if user and not USER.fullmatch(user):
            raise InvalidInput(_("{field}: {user} is no user name of a Linux system."), field="user", user=user[:64])
        self.inbox(host)  # which says why there is none
        if self.local(host):
            check_free(self.folder(host), stem)
        elif there := await HostImage.filter(host_id=host.id, key__in=names_of(stem)).first():
            raise Conflict(_("There is an image {name} already."), name=there.key)
        return name, stem

    async def add(self, actor: Actor, host: Host, file: Path, name: str, user: str) -> Image:
        """Bring a disk or CD image of this machine to the host, whole or not at all.

        Raises:
            InvalidInput: it is no image, or draws on other files.
            Conflict: the host is not one to bring images to, or has an image of that name.
        """
        actor.require(Permission.MANAGE)
        folder = self.inbox(host, make=True)
        name, stem = await self.check_new(host, name, user)
        part = folder / f"{stem}.{os.getpid()}.part"
        try:
            if await packed_as(file, file.name) is None:
                found = await examine(file, file.name, self.limits)  # before it is copied, which takes a while
                check_room(folder, found.size)
            await asyncio.to_thread(shutil.copyfile, file, part)
            key = await self.take(actor, host, part, stem, about(name, user), shown=file.name, field="file")
        except OSError as error:
            raise unwritable(part.name, error) from error
        finally:
            part.unlink(missing_ok=True)
        for image in [*await self.read(host), *await cds_of(self._pool.of(host))]:
            if image.key == key:
                return image
        raise EngineFailure(_("The host does not list image {name} after it was copied."), name=key)

    async def take(
        self,
        actor: Actor,
        host: Host,
        part: Path,
        stem: str,
        facts: Mapping[str, str],
        *,
        shown: str,
        field: str,
        tell: Tell = _nobody,
        report: Reporter | None = None,
    ) -> str:
        """Examine a file that has come, unpacked when it is packed, and make it an image of the host; its name in the folder.

        ``field`` is where the file was named, ``tell`` hears how far unpacking is, ``report`` sending. What was not packed may
        not be at ``part`` any more then.
        """
        whole, kind = part, await packed_as(part, shown)
        try:
            if kind is not None:
                whole = unpacked(part)
                await unpack(part, whole, kind, shown, field, self.limits.file, tell)
            found = await examine(whole, shown, self.limits)
            if self.local(host):
                key = await place(whole, self.folder(host), stem, found, facts)
            else:
                key = await self._send(host, whole, stem + ENDINGS[found.format], facts, report or _Silent())
        finally:
            if whole != part:
                remove(whole)
        await self._audit.write(actor, "image.add", "host", host.name, Text(_("Added image {name}."), {"name": key}))
        self._observer.look_now(host.id, inventory=True)
        return key

    async def _send(self, host: Host, file: Path, key: str, facts: Mapping[str, str], report: Reporter) -> str:
        engine = self._pool.of(host)
        await limited(engine.prepare())
        await engine.put_image(ImagePut(file, key, facts, facts.get("task") or uuid.uuid4().hex), report)
        return key

    async def settled(self, host: Host, stem: str, token: str) -> str | None:
        """After a crash: the image that the task ``token`` has made of what came, or None; then nothing of it is on the host."""
        if self.local(host):
            folder = self.folder(host)
            placed = [name for name in names_of(stem) if (folder / name).exists()]
            return placed[0] if placed and read_about(folder / f"{stem}.json").get("task") == token else None
        engine = self._pool.even_disabled(host)
        whole = [key for key in names_of(stem) if await limited(engine.settle_image(key, token), LONG)]
        return whole[0] if whole else None

    async def delete(self, actor: Actor, host: Host, key: str) -> HostImage:
        """Remove an image's file.

        Raises:
            NotFound: the host has no such image.
            Conflict: a VM draws on the file, or the host is not one to bring images to.
        """
        actor.require(Permission.MANAGE)
        folder = self.folder(host) if self.local(host) or self.why_not(host) is not None else None
        image = await self.get(host, key)
        engine = self._pool.of(host)
        users = await limited(engine.image_users(image.key))
        if users:
            raise Conflict(
                _("{name} is in use: the disks or CD drives of {vms} draw on it."), name=image.key, vms=", ".join(users[:10])
            )  # fmt: skip
        if folder is None:
            await limited(engine.remove_image(image.key), LONG)
        else:
            _unlink(folder / image.key)
        await HostImage.filter(id=image.id).delete()
        await self._audit.write(
            actor, "image.delete", "host", host.name, Text(_("Removed image {name}."), {"name": image.key})
        )
        self._observer.look_now(host.id, inventory=True)
        return image

    async def get(self, host: Host, key: str) -> HostImage:
        """An image's row by its file. ``NotFound``."""
        image = await self.listed(host, key)
        if image.key != Path(image.key).name:
            raise NotFound(_("Host {host} has no image {name}."), host=host.name, name=key[:255])
        return image

    async def listed(self, host: Host, key: str) -> HostImage:
        """An image's row by its key, whatever that is on the host. ``NotFound``."""
        image = await HostImage.get_or_none(host_id=host.id, key=key[:255])
        if image is None:
            raise NotFound(_("Host {host} has no image {name}."), host=host.name, name=key[:255])
        return image

    async def build_demo(self, actor: Actor, host: Host) -> Image:
        """Build the demo image from Debian packages and add it; an older one is replaced."""
        folder = self.folder(host)
        if not BUILD_SCRIPT.exists():
            raise NotFound(_("The build script is part of the source tree, which is not here."))
        with tempfile.TemporaryDirectory(prefix="openidcs-demo-") as work:
            process = await asyncio.create_subprocess_exec(
                str(BUILD_SCRIPT), str(folder), work,
                stdin=asyncio.subprocess.DEVNULL, env=os.environ | {"OPENIDCS_REBUILD": "1"},
            )  # fmt: skip
            try:
                async with asyncio.timeout(BUILD_SECONDS):
                    code = await process.wait()
            except TimeoutError as error:
                process.kill()
                raise EngineFailure(_("The build took longer than {seconds} s."), seconds=BUILD_SECONDS) from error
            if code:
                raise EngineFailure(_("The build failed; its output is above."))
        await self._audit.write(
            actor, "image.add", "host", host.name, Text(_("Added image {name}."), {"name": DEMO_FILE})
        )
        return next(image for image in await self.read(host) if image.key == DEMO_FILE)


def _elsewhere(host: Host) -> Text:
    return Text(_("Host {name} is another machine: put the image into its images folder there."), {"name": host.name})


def _unlink(file: Path) -> None:
    """Remove an image's file and what is beside it."""
    try:
        file.unlink(missing_ok=True)
        file.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        raise EngineFailure(_("{path} cannot be removed: {reason}."), path=file.name, reason=error.strerror) from error


class _Silent:
    """A reporter that tells nobody."""

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """Nothing."""

    async def warn(self, message: str, /, **params: object) -> None:
        """Nothing."""


class Sending:
    """Tells a task how far the second half of the way is: from here to the host."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context

    async def step(self, message: str, /, *, percent: int | None = None, **params: object) -> None:
        """The bar moves from 50 on; the log stays short."""
        await self._context.progress(message, percent=50 + (percent or 0) * 48 // 100, **params)

    async def warn(self, message: str, /, **params: object) -> None:
        """Pass on."""
        await self._context.warn(message, **params)


def unpacked(part: Path) -> Path:
    """Where what is in a packed file comes to lie, beside it."""
    return part.with_suffix(".unpacked")


def about(name: str, user: str, **more: str) -> dict[str, str]:
    """What is written beside an image."""
    return {"os_name": name, "title": name, "default_user": user or "root"} | {k: v for k, v in more.items() if v}


def lock_of(host: Host, stem: str) -> str:
    """The lock of the task that brings an image: one per file."""
    return f"image:{host.id}:{hashlib.sha256(stem.encode()).hexdigest()[:32]}"


def actor_of(task: Task) -> Actor:
    """Who asked for a task, for the log of what it did."""
    return Actor(task.actor, Source(task.source))


async def host_of(task: Task) -> Host:
    """The host that a task is about. ``NotFound`` when it is gone."""
    host = await Host.get_or_none(id=task.host_id)
    if host is None:
        raise NotFound(_("There is no host {name}."), name=task.host_name)
    return host


def remove(*files: Path) -> None:
    """Remove files as far as that goes."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
