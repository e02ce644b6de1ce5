"""Images of hosts: read them, and put files into the images folder of a host that is this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from panel.engines.types import Image
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host
from panel.security import Actor, Permission
from panel.services.audit import AuditLog
from panel.services.engines import EnginePool, capabilities, limited
from panel.services.names import check_identifier, check_title
from panel.services.observer import Observer

HERE = {"", "localhost", "127.0.0.1", "qemu:///system"}
FORMATS = {"qcow2": ".qcow2", "raw": ".img"}
BUILD_SECONDS = 900
INFO_SECONDS = 30
BUILD_SCRIPT = Path(__file__).parents[2] / "scripts" / "build_demo_image.sh"
DEMO_FILE = "openidcs-demo.qcow2"


class ImageService:
    """The images of hosts."""

    def __init__(self, pool: EnginePool, observer: Observer, audit: AuditLog) -> None:
        self._pool = pool
        self._observer = observer
        self._audit = audit

    async def read(self, host: Host) -> list[Image]:
        """The images of a host, asked of it now."""
        capabilities(host.engine).require("images")
        engine = self._pool.of(host)
        await limited(engine.prepare())
        return await limited(engine.list_images())

    async def add(self, actor: Actor, host: Host, file: Path, name: str, user: str) -> Image:
        """Copy a disk image of this machine into the host's images folder, whole or not at all.

        Raises:
            InvalidInput: it is no disk image, or has a backing file.
            Conflict: the host is another machine, or has an image of that name.
        """
        actor.require(Permission.MANAGE)
        folder = _folder(host)
        name = check_title(name, "name")
        info = await _inspect(file)
        if info.get("backing-filename"):
            raise InvalidInput(_("{path} has a backing file. Flatten it: qemu-img convert -O qcow2."), path=file.name)
        if info.get("format") not in FORMATS:
            raise InvalidInput(_("{path} is not a qcow2 or raw disk image."), path=file.name)
        stem = check_identifier("".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-"), "name")
        target = folder / (stem + FORMATS[info["format"]])
        if target.exists():
            raise Conflict(_("There is an image {name} already."), name=target.name)
        try:
            await asyncio.to_thread(_copy, file, target, {"os_name": name, "title": name, "default_user": user})
        except OSError as error:
            raise EngineFailure(
                _("{path} cannot be written: {reason}."), path=target.name, reason=error.strerror
            ) from error
        await self._audit.write(actor, "image.add", "host", host.name, Text(_("Added image {name}."), {"name": name}))
        self._observer.look_now(host.id, inventory=True)
        for image in await self.read(host):
            if image.key == target.name:
                return image
        raise EngineFailure(_("The host does not list image {name} after it was copied."), name=target.name)

    async def build_demo(self, actor: Actor, host: Host) -> Image:
        """Build the demo image from Debian packages and add it; an older one is replaced."""
        folder = _folder(host)
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


def _folder(host: Host) -> Path:
    if host.address not in HERE or not host.images_path:
        raise Conflict(_("Host {name} is another machine: put the image into its images folder there."), name=host.name)
    folder = Path(host.images_path)
    if not folder.is_dir():
        raise NotFound(_("Host {name} has no images folder {path}."), name=host.name, path=host.images_path)
    return folder


async def _inspect(file: Path) -> dict[str, Any]:
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img", "info", "--output=json", "--", str(file),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(INFO_SECONDS):
            output, _nothing = await process.communicate()
    except FileNotFoundError as error:
        raise EngineFailure(_("qemu-img is not installed. On Debian: apt-get install qemu-utils.")) from error
    except TimeoutError as error:
        process.kill()
        raise InvalidInput(_("{path} cannot be read as a disk image."), path=file.name) from error
    if process.returncode:
        raise InvalidInput(_("{path} cannot be read as a disk image."), path=file.name)
    info: dict[str, Any] = json.loads(output)
    return info


def _copy(source: Path, target: Path, facts: dict[str, str]) -> None:
    """Copy under a temporary name, then rename: nobody sees half an image."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o644)
        target.with_suffix(".json").write_text(json.dumps(facts), "utf-8")
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            if not target.exists():
                target.with_suffix(".json").unlink(missing_ok=True)
        raise
    finally:
        temporary.unlink(missing_ok=True)
