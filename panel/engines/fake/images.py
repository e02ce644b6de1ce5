"""What VMs of a fake host are made from."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from panel.engines.fake.world import GIB
from panel.engines.hosttypes import Image, Iso
from panel.engines.imagetypes import ImagePut
from panel.engines.types import Reporter
from panel.errors import Conflict, EngineFailure, NotFound
from panel.i18n import gettext_noop as _

MIB = 1024**2
LONG = 64 * MIB  # what is larger takes its time

IMAGES: tuple[Image, ...] = (
    Image("Debian 12", "debian-12.qcow2", "Debian 12 (bookworm)", "qcow2", 330 * MIB, 3.0, "root"),
    Image("Ubuntu 24.04", "ubuntu-24.04.qcow2", "Ubuntu 24.04 LTS", "qcow2", 590 * MIB, 3.5, "ubuntu"),
    Image("Windows 10 x64", "windows-10.qcow2", "Windows 10 x64", "qcow2", 11_000 * MIB, 40.0, "Administrator"),
)

ISOS: tuple[Iso, ...] = (
    Iso("debian-12-netinst.iso", 631 * MIB),
    Iso("virtio-win.iso", 708 * MIB),
)


def images_of(folder: str, sent: Mapping[str, Image]) -> list[Image]:
    """The three, the qcow2 and raw files of ``folder``, when there is one, and what was ``sent``."""
    files = sorted(Path(folder).glob("[!.]*")) if folder else []
    there = [_of_file(file) for file in files if file.suffix in {".qcow2", ".img"}]
    return [*IMAGES, *there, *(image for image in sent.values() if image.format != "iso")]


def isos_of(sent: Mapping[str, Image]) -> list[Iso]:
    """The two, and those that were ``sent``."""
    return [*ISOS, *(Iso(image.key, image.size_bytes) for image in sent.values() if image.format == "iso")]


async def put(sent: dict[str, Image], image: ImagePut, report: Reporter) -> None:
    """Take a file in: what it is, is kept. ``Conflict`` when there is one of its name."""
    if any(image.key == key or Path(image.key).stem == Path(key).stem for key in sent):
        raise Conflict(_("There is an image {name} already."), field="name", name=image.key)
    try:
        size = image.file.stat().st_size
    except OSError as error:
        raise EngineFailure(
            _("{path} cannot be read: {reason}."), path=image.file.name, reason=error.strerror
        ) from error
    for percent in (0, 50, 99):
        await report.step(
            _("Sending {name}: {done} of {size} MiB"),
            percent=percent, name=image.key, done=size * percent // 100 // MIB, size=-(-size // MIB),
        )  # fmt: skip
        await asyncio.sleep(0.2 * (size > LONG))
    found = _of_file(image.file, dict(image.about))
    sent[image.key] = replace(found, key=image.key, format="iso" if image.key.endswith(".iso") else found.format)


def drop(sent: dict[str, Image], key: str) -> None:
    """Forget what was sent. ``NotFound``."""
    if sent.pop(key, None) is None:
        raise NotFound(_("The host has no image {name}."), name=key[:255])


def _of_file(file: Path, about: dict[str, str] | None = None) -> Image:
    if about is None:
        about = {}
        with suppress(OSError, ValueError):
            about = json.loads(file.with_suffix(".json").read_text("utf-8"))
    with file.open("rb") as opened:
        header = opened.read(32)
    facts = file.stat()
    qcow2 = header.startswith(b"QFI\xfb")
    virtual = int.from_bytes(header[24:32], "big") if qcow2 else facts.st_size
    name = about.get("os_name", file.stem)
    return Image(
        name=name,
        key=file.name,
        title=about.get("title", name),
        format="qcow2" if qcow2 else "raw",
        size_bytes=facts.st_blocks * 512,
        virtual_gib=round(virtual / GIB, 3),
        default_user=about.get("default_user") or "root",
        added_at=datetime.fromtimestamp(int(facts.st_mtime), UTC),
    )


def find_image(name: str, folder: str, sent: Mapping[str, Image]) -> Image | None:
    """The image called ``name``, whatever its case."""
    return next((image for image in images_of(folder, sent) if image.name.casefold() == name.casefold()), None)
