"""Files that want to be images: what is in them, looked at with distrust, and how they come into the folder whole.

A file that was brought is foreign until ``examine`` has passed it: it might draw on files of the host (backing files, external
data), claim a disk of exabytes, or be made to eat memory and time of whoever reads it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from panel.engines.base import Engine
from panel.engines.hosttypes import Image
from panel.errors import Conflict, EngineFailure, InvalidInput, TooLarge
from panel.i18n import gettext_noop as _
from panel.services.whole import to_the_end

GIB = 1024**3
INCOMING = ".incoming"  # in the images folder: the same file system, so that a rename is all it takes at the end
SPARE = 256 * 1024**2  # bytes of the file system that stay free
INFO_SECONDS = 30
INFO_LIMITS = ("prlimit", f"--as={GIB}", "--cpu=10", "--fsize=0", "--core=0", "--")
SUFFIXES = {"qcow2": ".qcow2", "raw": ".img", "iso": ".iso"}
SECTOR = 512
ISO_AT = 0x8001  # of "CD001", in the first volume descriptor
QCOW2_EXTERNAL_DATA = 1 << 2
VDI_AT = 0x40
COMPRESSED = {b"\xfd7zXZ\x00": "xz", b"\x1f\x8b": "gz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst", b"PK\x03\x04": "zip",
              b"7z\xbc\xaf\x27\x1c": "7z"}  # fmt: skip
CONVERTIBLE = {b"KDMV": "vmdk", b"COWD": "vmdk", b"# Disk Descriptor": "vmdk", b"vhdxfile": "vhdx", b"conectix": "vhd",
               b"QED\x00": "qed"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a file may be, and the disk in it, in bytes."""

    file: int
    disk: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a file is: ``qcow2``, ``raw`` or ``iso``, its size, and that of the disk in it, in bytes."""

    format: str
    size: int
    disk: int


async def examine(file: Path, shown: str, limits: Limits) -> Facts:
    """Look into a file. ``shown`` is what messages call it.

    Raises:
        InvalidInput: it is nothing that a VM can be made from, or refers to other files.
        TooLarge: it, or the disk in it, is larger than the settings allow.
    """
    kind, size = await asyncio.to_thread(_sniff, file, shown)
    if size > limits.file:
        raise too_large(shown, size, limits.file)
    if kind == "iso":
        return Facts(kind, size, size)
    info = await _qemu_img(file, kind, shown)
    specific = info.get("format-specific", {}).get("data", {})
    if any(info.get(name) for name in ("backing-filename", "full-backing-filename")) or specific.get("data-file"):
        raise _draws_on_others(shown)
    if info.get("encrypted") or specific.get("encrypt"):
        raise InvalidInput(_("{path} is encrypted. Decrypt it first: qemu-img convert -O qcow2."), path=shown)
    disk = int(info.get("virtual-size", 0))
    if not 0 < disk <= limits.disk:
        raise TooLarge(
            _("The disk in {path} has {size} GiB; images_virtual_gib allows {most} GiB."),
            path=shown, size=-(-disk // GIB), most=limits.disk // GIB,
        )  # fmt: skip
    return Facts(kind, size, disk)


def too_large(shown: str, size: int, most: int) -> TooLarge:
    """The error of a file that is larger than the settings allow."""
    return TooLarge(
        _("{path} has {size} GiB; images_largest_gib allows {most} GiB."),
        path=shown, size=-(-size // GIB), most=most // GIB,
    )  # fmt: skip


def _draws_on_others(shown: str) -> InvalidInput:
    return InvalidInput(_("{path} has a backing file. Flatten it: qemu-img convert -O qcow2."), path=shown)


def _sniff(file: Path, shown: str) -> tuple[str, int]:
    """(format, size in bytes), by the first bytes alone."""
    try:
        with file.open("rb") as opened:
            head = opened.read(SECTOR)
            opened.seek(ISO_AT)
            descriptor = opened.read(5)
            size = os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise InvalidInput(_("{path} cannot be read: {reason}."), path=shown, reason=error.strerror) from error
    if head.startswith(b"QFI\xfb"):
        features = int.from_bytes(head[72:80], "big") if int.from_bytes(head[4:8], "big") >= 3 else 0
        if any(head[8:16]) or features & QCOW2_EXTERNAL_DATA:
            raise _draws_on_others(shown)
        return "qcow2", size
    for magic, kind in COMPRESSED.items():
        if head.startswith(magic):
            raise InvalidInput(_("{path} is compressed ({kind}). Unpack it first."), path=shown, kind=kind)
    for magic, kind in CONVERTIBLE.items():
        if head.startswith(magic):
            raise _other_format(shown, kind)
    if head[VDI_AT : VDI_AT + 4] == b"\x7f\x10\xda\xbe":
        raise _other_format(shown, "vdi")
    if descriptor == b"CD001":
        return "iso", size
    if head[510:512] == b"\x55\xaa" and size % SECTOR == 0:
        return "raw", size
    raise InvalidInput(
        _("{path} is no disk image: neither qcow2, nor a CD image, nor a raw disk with a boot sector."), path=shown
    )


def _other_format(shown: str, kind: str) -> InvalidInput:
    return InvalidInput(
        _("{path} is a disk of another format ({kind}). Convert it first: qemu-img convert -O qcow2."),
        path=shown, kind=kind,
    )  # fmt: skip


async def _qemu_img(file: Path, kind: str, shown: str) -> dict[str, Any]:
    """What qemu-img says, which is given little memory and time, and told the format: it is not to guess."""
    if shutil.which("qemu-img") is None:
        raise EngineFailure(_("qemu-img is not installed. On Debian: apt-get install qemu-utils."))
    process = await asyncio.create_subprocess_exec(
        *INFO_LIMITS, "qemu-img", "info", "--output=json", "-f", kind, "--", str(file),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(INFO_SECONDS):
            output, _nothing = await process.communicate()
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not output:
        raise InvalidInput(_("{path} cannot be read as a disk image."), path=shown)
    info: dict[str, Any] = json.loads(output)
    return info


# -- the folder ------------------------------------------------------------------------------------------------


def incoming(folder: Path) -> Path:
    """Where files are on their way into ``folder``; made when missing. For the panel's eyes only."""
    path = folder / INCOMING
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EngineFailure(_("{path} cannot be written: {reason}."), path=str(path), reason=error.strerror) from error
    return path


def check_room(folder: Path, needed: int) -> None:
    """``Conflict`` unless the file system takes ``needed`` more bytes and keeps some."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise Conflict(
            _("There is no room: {needed} MiB are needed, {free} MiB of the images folder's disk can be used."),
            needed=-(-needed // 1024**2), free=max(0, free - SPARE) // 1024**2,
        )  # fmt: skip


def check_free(folder: Path, stem: str) -> None:
    """``Conflict`` when there is an image ``stem``, of whatever format: their sidecars would be one."""
    for name in names_of(stem):
        if (folder / name).exists():
            raise Conflict(_("There is an image {name} already."), name=name)


def names_of(stem: str) -> list[str]:
    """What the file of an image ``stem`` may be called."""
    return [stem + suffix for suffix in SUFFIXES.values()]


async def place(part: Path, folder: Path, stem: str, facts: Facts, about: Mapping[str, str]) -> str:
    """Let a file that was examined become ``stem`` in ``folder``, at once and never over another; its name there."""
    target = folder / (stem + SUFFIXES[facts.format])
    check_free(folder, stem)
    try:
        await to_the_end(asyncio.to_thread(_place, part, target, dict(about)))
    except FileExistsError as error:
        raise Conflict(_("There is an image {name} already."), name=target.name) from error
    except OSError as error:
        raise unwritable(target.name, error) from error
    return target.name


def unwritable(shown: str, error: OSError) -> EngineFailure:
    """The error of a file that the disk did not take."""
    return EngineFailure(_("{path} cannot be written: {reason}."), path=shown, reason=error.strerror or str(error))


def _place(part: Path, target: Path, about: dict[str, str]) -> None:
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # the command line may be at the same name
        check_free(target.parent, target.stem)
        _put(part, target, about)
    finally:
        os.close(folder)


def _put(part: Path, target: Path, about: dict[str, str]) -> None:
    sidecar = target.with_suffix(".json")
    before = sidecar.read_bytes() if sidecar.exists() else None
    sidecar.write_text(json.dumps(about, ensure_ascii=False), "utf-8")
    try:
        part.chmod(0o644)
        with part.open("rb") as opened:
            os.fsync(opened.fileno())
        try:
            target.hardlink_to(part)  # which never replaces anything, as a rename would
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            part.rename(target)
    except BaseException:
        with suppress(OSError):
            sidecar.write_bytes(before) if before is not None else sidecar.unlink()
        raise
    part.unlink(missing_ok=True)


def read_about(file: Path) -> dict[str, Any]:
    """The sidecar of an image; empty when there is none that can be read."""
    with suppress(OSError, ValueError, RecursionError):  # of one that is nested without bottom
        about = json.loads(file.with_suffix(".json").read_text("utf-8"))
        if isinstance(about, dict):
            return about
    return {}


async def cds_of(engine: Engine) -> list[Image]:
    """The CD images of a host that the panel brings files to, as the rows of the host keep them."""
    if engine.images_folder is not None:
        return await asyncio.to_thread(_list_isos, engine.images_folder)
    if not (engine.capabilities.image_files and engine.capabilities.iso):
        return []
    found = await engine.list_isos()
    return [Image(Path(iso.name).stem[:200], iso.name, "", "iso", iso.size_bytes, 0.0, "") for iso in found]


def _list_isos(folder: Path) -> list[Image]:
    found = []
    with suppress(OSError):
        for file in sorted(folder.glob("[!.]*.[iI][sS][oO]")):
            facts = file.stat()
            name = str(read_about(file).get("os_name") or file.stem)[:200]
            added = datetime.fromtimestamp(int(facts.st_mtime), UTC)
            found.append(Image(name, file.name, name, "iso", facts.st_size, 0.0, "", added))
    return found
