"""Uploads in pieces: bounded, resumable, honest about how far they are, and gone when nobody comes back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from panel.errors import Conflict, InvalidInput, NotFound, TooLarge
from panel.models import Host, HostImage
from panel.services import imagefiles, uploads
from panel.services.container import Services
from panel.services.uploadfiles import WRITE, Upload
from panel.services.uploads import PIECE, UploadRequest
from tests.conftest import ADMIN
from tests.services.fileserver import qcow2, raw
from tests.services.images_kit import body, ended, files, local_host
from tests.services.kit import logged, until

GIB = 1024**3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
async def here(services: Services, folder: Path) -> Host:
    return await local_host(services, folder)


async def begin(services: Services, host: Host, data: bytes, **more: str) -> Upload:
    return await services.uploads.begin(ADMIN, host, UploadRequest("disk.img", len(data), modified=1, **more))


async def send(services: Services, host: Host, upload: Upload, data: bytes) -> Upload:
    while not upload.complete:
        piece = data[upload.offset : upload.offset + PIECE]
        upload = await services.uploads.append(host, upload.id, upload.offset, body(piece))
    return upload


async def test_pieces_become_an_image(services: Services, here: Host, folder: Path) -> None:
    data = raw(2 * PIECE + 512)
    upload = await begin(services, here, data, name="My disk", user="me", checksum=hashlib.sha256(data).hexdigest())
    upload = await send(services, here, upload, data)
    task = await services.uploads.finish(ADMIN, here, upload.id)
    assert await ended(services, task) == ("succeeded", "Image My-disk.img is there")
    assert files(folder) == ["My-disk.img", "My-disk.json"]
    assert (folder / "My-disk.img").read_bytes() == data
    await until(lambda: HostImage.exists(host_id=here.id, name="My disk", default_user="me"))
    assert (await logged(services, "image.upload.begin"))[0] == ("info", "Began to upload disk.img.")


async def test_it_goes_on_where_it_stopped(services: Services, here: Host) -> None:
    """A piece that broke off counts as far as it came; a new panel knows it by the two files alone."""
    data = raw(4 * 1024**2)

    async def broken() -> AsyncIterator[bytes]:
        yield data[: 2 * 1024**2]
        raise ConnectionResetError

    upload = await begin(services, here, data)
    with pytest.raises(ConnectionResetError):
        await services.uploads.append(here, upload.id, 0, broken())
    restarted = uploads.UploadService(services.tasks, services.images, services.audit)
    assert [(item.offset, item.file, item.modified) for item in await restarted.all(here)] == [
        (2 * 1024**2, "disk.img", 1)
    ]
    for wrong in (0, 1, 2 * 1024**2 + 1):
        with pytest.raises(Conflict, match="goes on at byte 2097152"):
            await restarted.append(here, upload.id, wrong, body(b"x"))
    with pytest.raises(Conflict, match="goes on at byte 2097152"):
        await restarted.finish(ADMIN, here, upload.id)
    upload = await send(services, here, await restarted.get(here, upload.id), data)
    assert (await ended(services, await restarted.finish(ADMIN, here, upload.id)))[0] == "succeeded"


async def test_a_browser_that_goes_away_leaves_the_upload_free(services: Services, here: Host) -> None:
    upload = await begin(services, here, raw())
    came = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield b"x" * WRITE
        came.set()
        await asyncio.sleep(600)

    upload = replace(upload, size=upload.size)
    request = asyncio.create_task(services.uploads.append(here, upload.id, 0, hanging()))
    await came.wait()
    with pytest.raises(Conflict, match="Another part"):
        await services.uploads.append(here, upload.id, 0, body(b"x"))
    with pytest.raises(Conflict, match="Another part"):
        await services.uploads.discard(ADMIN, here, upload.id)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await services.uploads.get(here, upload.id)).offset == WRITE
    await services.uploads.discard(ADMIN, here, upload.id)


async def test_beyond_four_gigabytes(services: Services, here: Host, folder: Path) -> None:
    """Twenty gigabytes of holes, and real pieces at the end: offsets are not cut to 32 bits."""
    size = 20 * GIB
    upload = await services.uploads.begin(ADMIN, here, UploadRequest("large.img", size))
    part = folder / ".incoming" / f"{upload.id}.part"
    os.truncate(part, size - 1024)
    part_bytes = b"end" * 341 + b"."
    upload = await services.uploads.append(here, upload.id, size - 1024, body(part_bytes))
    assert (upload.complete, part.stat().st_size, part.stat().st_blocks * 512 < GIB) == (True, size, True)
    with part.open("rb") as opened:
        opened.seek(size - 1024)
        assert opened.read() == part_bytes
        opened.close()
    with part.open("r+b") as opened:
        opened.write(raw(512))
    assert (await ended(services, await services.uploads.finish(ADMIN, here, upload.id)))[0] == "succeeded"


async def test_what_is_not_taken(services: Services, here: Host, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = services.uploads.begin
    with pytest.raises(InvalidInput, match="empty"):
        await start(ADMIN, here, UploadRequest("x", 0))
    with pytest.raises(TooLarge):
        await start(ADMIN, here, UploadRequest("x", 101 * GIB))
    with pytest.raises(InvalidInput, match="64 or 128"):
        await start(ADMIN, here, UploadRequest("x", 1, checksum="abc"))
    with pytest.raises(InvalidInput):
        await start(ADMIN, here, UploadRequest("../../..", 1))
    upload = await start(ADMIN, here, UploadRequest("../../etc/x.img", 10))
    assert (upload.file, upload.stem) == ("x.img", "x")
    with pytest.raises(Conflict, match="under way"):
        await start(ADMIN, here, UploadRequest("x.img", 10))
    with pytest.raises(InvalidInput, match="longer than was announced"):
        await services.uploads.append(here, upload.id, 0, body(b"x" * 11))
    assert (await services.uploads.get(here, upload.id)).offset == 0
    for wrong in ("../../../etc/passwd", "0" * 32, "", "X" * 32):
        with pytest.raises(NotFound):
            await services.uploads.append(here, wrong, 0, body(b"x"))
    monkeypatch.setattr(uploads, "MOST_OPEN", 1)
    with pytest.raises(Conflict, match="unfinished uploads"):
        await start(ADMIN, here, UploadRequest("y", 1))
    await services.uploads.discard(ADMIN, here, upload.id)
    monkeypatch.setattr(imagefiles, "SPARE", 2**62)
    with pytest.raises(Conflict, match="There is no room"):
        await start(ADMIN, here, UploadRequest("y", 1))
    assert files(folder) == []


async def test_a_piece_has_its_size(services: Services, here: Host) -> None:
    upload = await services.uploads.begin(ADMIN, here, UploadRequest("x", 3 * PIECE))
    with pytest.raises(InvalidInput):
        await services.uploads.append(here, upload.id, 0, body(b"x" * (PIECE + 1)))


async def test_what_is_wrong_is_removed(services: Services, here: Host, folder: Path) -> None:
    backed = qcow2(folder.parent, "b.qcow2", "-F", "raw", "-b", "/etc/passwd").read_bytes()
    for data, checksum, words in ((raw(), "0" * 64, "checksum is wrong"), (backed, "", "backing file")):
        upload = await send(services, here, await begin(services, here, data, checksum=checksum), data)
        status, message = await ended(services, await services.uploads.finish(ADMIN, here, upload.id))
        assert (status, words in message, files(folder)) == ("failed", True, [])


async def test_what_is_only_in_the_way_keeps_what_came(services: Services, here: Host, folder: Path) -> None:
    upload = await send(services, here, await begin(services, here, raw()), raw())
    (folder / "disk.qcow2").write_bytes(b"")
    status, _message = await ended(services, await services.uploads.finish(ADMIN, here, upload.id))
    assert status == "failed"
    (folder / "disk.qcow2").unlink()
    assert [item.complete for item in await services.uploads.all(here)] == [True]
    assert (await ended(services, await services.uploads.finish(ADMIN, here, upload.id)))[0] == "succeeded"


async def test_nobody_comes_back(services: Services, here: Host, folder: Path) -> None:
    """After a day an upload goes, and so does what a dead download left; one that moves stays."""
    old = await begin(services, here, raw())
    young = await begin(services, here, raw(), name="other")
    stray = folder / ".incoming" / f"{'e' * 32}.part"
    stray.write_bytes(b"x")
    past = time.time() - uploads.STALE_SECONDS - 60
    for file in (stray, *(folder / ".incoming" / f"{old.id}.{end}" for end in ("json", "part"))):
        os.utime(file, (past, past))
    os.utime(folder / ".incoming" / f"{young.id}.json", (past, past))
    await services.uploads.sweep()
    assert [upload.id for upload in await services.uploads.all(here)] == [young.id]
    assert not stray.exists()


async def test_in_one_go_whole_or_not_at_all(services: Services, here: Host, folder: Path) -> None:
    """What is announced is the most that may come. Of what breaks off nothing stays; its name is free again."""
    data = raw(3 * WRITE + 512)
    wanted = UploadRequest("disk.img", len(data) + 300)
    came = asyncio.Event()

    async def hanging() -> AsyncIterator[bytes]:
        yield data[:WRITE]
        came.set()
        await asyncio.sleep(600)

    request = asyncio.create_task(services.uploads.whole(ADMIN, here, wanted, hanging()))
    await came.wait()
    assert len(files(folder)) == 2
    with pytest.raises(Conflict, match="under way already"):
        await services.uploads.whole(ADMIN, here, wanted, body(data))
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert files(folder) == []
    assert (await ended(services, await services.uploads.whole(ADMIN, here, wanted, body(data))))[0] == "succeeded"
    assert (files(folder), (folder / "disk.img").read_bytes()) == (["disk.img", "disk.json"], data)
