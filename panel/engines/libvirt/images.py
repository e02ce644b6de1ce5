"""Images: the disk files of the host's image folder, and what a small JSON file beside each says about it.

``debian-12.qcow2`` may have ``debian-12.json``: ``{"os_name": "debian-12", "title": "Debian 12", "default_user": "root"}``.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from panel.engines.hosttypes import Image
from panel.engines.libvirt import storage
from panel.engines.libvirt.storage import VolumeInfo
from panel.errors import InvalidInput

SIDECAR_LIMIT = 64 * 1024
MARK = re.compile(r"\.coming\.([0-9a-f]{1,64})\.(.+)")
_ANY_NAME = {"qcow2", "qcow", "qed", "vmdk", "vdi", "vpc", "vhdx"}
_RAW_NAMES = (".raw", ".img")
_QCOW2_EXTERNAL_DATA = 1 << 2
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def is_image(volume: VolumeInfo) -> bool:
    """Whether a VM can be made from it: a known disk format, or a raw one that is named so, and no CD image."""
    if volume.name.startswith(".") or volume.name.lower().endswith(".iso"):
        return False
    return volume.format in _ANY_NAME or (
        volume.format == "raw" and volume.name.lower().endswith(_RAW_NAMES) and volume.capacity > 0
    )


def mark_name(key: str, token: str) -> str:
    """The file that says, as long as it is there, that the image ``key`` is not whole yet."""
    return f".coming.{token}.{key}"


def unfinished(names: Iterable[str]) -> set[str]:
    """Which of the files of a pool are images that are still on their way, by the marks among ``names``."""
    return {found[2] for name in names if (found := MARK.fullmatch(name))}


def list_images(conn: Any, pool: Any) -> list[Image]:
    """The images of the pool, by name; of two with one name the first in the order of file names wins."""
    storage.refresh(pool)
    volumes = {volume.name: volume for volume in storage.list_volumes(pool)}
    found: dict[str, Image] = {}
    coming = unfinished(volumes)
    for name in sorted(volumes):
        if name not in coming and is_image(volumes[name]):
            sidecar = posixpath.splitext(name)[0] + ".json"
            about = _read_sidecar(conn, pool, sidecar) if sidecar in volumes else {}
            image = describe(volumes[name], about)
            found.setdefault(image.name, image)
    return sorted(found.values(), key=lambda image: image.name)


def _read_sidecar(conn: Any, pool: Any, name: str) -> dict[str, str]:
    volume = storage.find_volume(pool, name)
    return parse_sidecar(storage.download(conn, volume, SIDECAR_LIMIT + 1)) if volume is not None else {}


def parse_sidecar(data: bytes) -> dict[str, str]:
    """The strings of a sidecar; empty when it is too large or no JSON object."""
    if len(data) > SIDECAR_LIMIT:
        return {}
    try:
        about = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(about, dict):
        return {}
    return {key: value.strip() for key, value in about.items() if isinstance(value, str) and value.strip()}


def describe(volume: VolumeInfo, about: dict[str, str]) -> Image:
    """An ``Image`` of a file and its sidecar."""
    name = about.get("os_name") or posixpath.splitext(volume.name)[0]
    user = about.get("default_user", "")
    return Image(
        name=name,
        key=volume.name,
        title=about.get("title") or name,
        format=volume.format,
        size_bytes=volume.allocation,
        virtual_gib=round(volume.capacity / storage.GIB, 3),
        default_user=user if _USER.fullmatch(user) else "root",
        added_at=datetime.fromtimestamp(int(volume.changed), UTC) if volume.changed else None,
    )


def refuse_foreign_parts(volume: VolumeInfo, header: bytes) -> None:
    """``InvalidInput`` for an image that draws on other files of the host: copying it would copy them.

    ``header`` is the file's first 512 bytes. qcow2: the backing file's offset at byte 8, external data files in bit 2 of
    the incompatible features at 72 (QEMU, docs/interop/qcow2.txt); a VMDK must be sparse, not a text that names files.
    """
    bad = bool(volume.backing)
    if header.startswith(b"QFI\xfb"):
        features = int.from_bytes(header[72:80], "big") if int.from_bytes(header[4:8], "big") >= 3 else 0
        bad = bad or any(header[8:16]) or bool(features & _QCOW2_EXTERNAL_DATA)
    elif volume.format == "vmdk":
        bad = bad or not header.startswith(b"KDMV")
    if bad:
        raise InvalidInput(
            "The image {image} refers to other files. Flatten it first: qemu-img convert -O qcow2 OLD NEW",
            field="os_name",
            image=volume.name,
        )
