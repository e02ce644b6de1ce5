"""The two files of an upload: what is to come, and what has come of it. Read and written by ``panel.services.uploads``."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _
from panel.services.imagefiles import unwritable
from panel.services.images import remove, unpacked

WRITE = 1024**2  # bytes that are written at once
WAIT_SECONDS = 60.0  # between two parts of a piece
ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that began. ``offset`` is how much has come, ``size`` how much there will be, in bytes."""

    id: str
    file: str
    size: int
    name: str
    stem: str
    user: str
    checksum: str
    modified: int
    actor: str
    offset: int = 0

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self.offset == self.size


def store(folder: Path, upload: Upload) -> None:
    """Write what is to come, whole; the file for what comes is made when missing. ``EngineFailure`` when the disk refuses."""
    known = {name: value for name, value in asdict(upload).items() if name != "offset"}
    try:
        (folder / f"{upload.id}.part").open("ab").close()
        whole = folder / f"{upload.id}.json.new"
        whole.write_text(json.dumps(known), "utf-8")
        whole.rename(folder / f"{upload.id}.json")
    except OSError as error:
        drop(folder, upload.id)
        raise unwritable(upload.file, error) from error


def read(folder: Path, upload_id: str) -> Upload | None:
    """An upload as it is now, or None."""
    wanted = {item.name for item in fields(Upload)} - {"offset"}
    with suppress(OSError, ValueError):
        known = json.loads((folder / f"{upload_id}.json").read_text("utf-8"))
        if isinstance(known, dict) and set(known) == wanted:
            return Upload(**known, offset=(folder / f"{upload_id}.part").stat().st_size)
    return None


def read_all(folder: Path) -> list[Upload]:
    """All uploads of a folder, oldest first."""
    found = []
    with suppress(OSError):
        files = [file for file in folder.glob("*.json") if ID.fullmatch(file.stem)]
        found = [read(folder, file.stem) for file in sorted(files, key=lambda file: file.stat().st_mtime)]
    return [upload for upload in found if upload is not None]


def drop(folder: Path, upload_id: str) -> None:
    """Remove an upload, and what was unpacked of it."""
    part = folder / f"{upload_id}.part"
    remove(folder / f"{upload_id}.json", part, unpacked(part))


def sweep(folder: Path, before: float, busy: set[str]) -> None:
    """Remove what nobody has touched since ``before`` (seconds since 1970), but for what is ``busy``."""
    for file in folder.glob("*"):
        with suppress(OSError):
            parts = folder.glob(f"{file.name.partition('.')[0]}.*")
            newest = max(
                (other.stat().st_mtime for other in parts), default=before
            )  # none: somebody else has removed it
            if newest < before and file.name.partition(".")[0] not in busy:
                file.unlink()


async def gathered(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The body in parts of about ``WRITE`` bytes."""
    waiting = bytearray()
    parts = aiter(body)
    while True:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                waiting += await anext(parts)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise InvalidInput(_("The upload stood still for {seconds} s."), seconds=int(WAIT_SECONDS)) from error
        if len(waiting) >= WRITE:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def written(part: Path, offset: int, data: bytes) -> None:
    """Write a part at ``offset``, to the end although the caller is cancelled. ``EngineFailure`` when the disk does not."""
    work = asyncio.ensure_future(asyncio.to_thread(_write, part, offset, data))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:  # the browser went away; nobody else writes before this has ended
        await asyncio.wait([work])
        raise
    except OSError as error:
        raise unwritable(part.name, error) from error


def _write(part: Path, offset: int, data: bytes) -> None:
    """Write and wait for the disk: what the browser is told to have arrived has arrived."""
    descriptor = os.open(part, os.O_WRONLY)
    try:
        view = memoryview(data)
        while view:
            sent = os.pwrite(descriptor, view, offset)
            view, offset = view[sent:], offset + sent
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
