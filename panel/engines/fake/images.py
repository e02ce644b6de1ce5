"""What VMs of a fake host are made from."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from panel.engines.fake.world import GIB
from panel.engines.hosttypes import Image, Iso

MIB = 1024**2

IMAGES: tuple[Image, ...] = (
    Image("Debian 12", "debian-12.qcow2", "Debian 12 (bookworm)", "qcow2", 330 * MIB, 3.0, "root"),
    Image("Ubuntu 24.04", "ubuntu-24.04.qcow2", "Ubuntu 24.04 LTS", "qcow2", 590 * MIB, 3.5, "ubuntu"),
    Image("Windows 10 x64", "windows-10.qcow2", "Windows 10 x64", "qcow2", 11_000 * MIB, 40.0, "Administrator"),
)

ISOS: tuple[Iso, ...] = (
    Iso("debian-12-netinst.iso", 631 * MIB),
    Iso("virtio-win.iso", 708 * MIB),
)


def images_of(folder: str) -> list[Image]:
    """The three, and the qcow2 and raw files of ``folder``, when there is one."""
    files = sorted(Path(folder).glob("[!.]*")) if folder else []
    return [*IMAGES, *(_of_file(file) for file in files if file.suffix in {".qcow2", ".img"})]


def _of_file(file: Path) -> Image:
    about: dict[str, str] = {}
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


def find_image(name: str, folder: str = "") -> Image | None:
    """The image called ``name``, whatever its case."""
    return next((image for image in images_of(folder) if image.name.casefold() == name.casefold()), None)
