"""Packed images: unpacked as a stream, with a limit on what is written and what is in memory, and nothing left of what fails."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import json
import lzma
import random
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from panel.errors import Conflict, InvalidInput, PanelError, TooLarge
from panel.models import Host, Task
from panel.services import imagefiles, unpacking
from panel.services.container import Services
from panel.services.downloads import FetchRequest
from panel.services.unpacking import packed_as, unpack, unpacked_name
from panel.services.uploads import UploadRequest
from panel.settings import Settings
from tests.cluster.browser import Browser
from tests.conftest import ADMIN
from tests.process import PanelProcess
from tests.services.fileserver import FileServer, file_server, qcow2, raw
from tests.services.images_kit import body, ended, files, local_host

MIB = 1024**2
PACKERS: dict[str, Callable[[bytes], bytes]] = {"xz": lzma.compress, "gz": gzip.compress, "bz2": bz2.compress}
EACH = pytest.mark.parametrize("kind", PACKERS)
NOISE = random.Random(1).randbytes(3 * MIB)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, images_networks="127.0.0.1/32", images_largest_gib=1)


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with file_server() as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
async def here(services: Services, folder: Path) -> Host:
    return await local_host(services, folder)


async def nobody(_read: int, _done: int) -> None: ...


async def out(folder: Path, data: bytes, most: int = 64 * MIB) -> bytes:
    """What comes of a packed file."""
    packed, target = folder / "packed", folder / "whole"
    packed.write_bytes(data)
    kind = await packed_as(packed, "disk.img.x")
    assert kind
    try:
        await unpack(packed, target, kind, "disk.img.x", "url", most, nobody)
    except PanelError:
        assert not target.exists()
        raise
    return target.read_bytes()


@EACH
async def test_what_was_packed_comes_out(tmp_path: Path, kind: str) -> None:
    """Also when it is several streams, and ends with zeros."""
    pack = PACKERS[kind]
    data = NOISE + bytes(2 * MIB + 17) + NOISE[:999] + bytes(5)
    assert await out(tmp_path, pack(data)) == data
    assert await out(tmp_path, pack(data[:MIB]) + pack(data[MIB:]) + bytes(1024)) == data


async def test_zeros_are_holes(tmp_path: Path) -> None:
    size = 50 * MIB
    assert await out(tmp_path, lzma.compress(raw(size))) == raw(size)
    assert (tmp_path / "whole").stat().st_blocks * 512 < MIB


@EACH
async def test_a_bomb_is_stopped_at_the_limit(tmp_path: Path, kind: str) -> None:
    """300 MiB in some kilobytes: no more is written than was allowed, and a piece, and no more is in memory."""
    zeros = PACKERS[kind](bytes(300 * MIB))
    assert len(zeros) < MIB
    tracemalloc.start()
    with pytest.raises(TooLarge, match="images_largest_gib"):
        await out(tmp_path, zeros, 100 * MIB)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


@EACH
async def test_what_is_damaged_or_cut_off(tmp_path: Path, kind: str) -> None:
    good = PACKERS[kind](NOISE)
    damaged = bytearray(good)
    damaged[len(good) // 2 : len(good) // 2 + 64] = bytes(64)
    for data in (good[:-9], good[: len(good) // 2], good[:10], bytes(damaged), good + b"something else"):
        with pytest.raises(InvalidInput, match=f"no whole {kind} file") as caught:
            await out(tmp_path, data)
        assert caught.value.field == "url"


async def test_xz_that_wants_much_memory(tmp_path: Path) -> None:
    """A dictionary of 256 MiB is named in a head of some bytes."""
    huge = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 * MIB}]
    with pytest.raises(InvalidInput, match="192 MiB of memory"):
        await out(tmp_path, lzma.compress(b"x", filters=huge))


async def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at again while it fills."""
    looks = iter([False, True])

    def room(_folder: Path, _needed: int) -> None:
        if next(looks):
            raise Conflict("There is no room.")

    monkeypatch.setattr(unpacking, "check_room", room)
    monkeypatch.setattr(unpacking, "ROOM_EVERY", MIB)
    with pytest.raises(Conflict):
        await out(tmp_path, gzip.compress(NOISE))


def test_names() -> None:
    for name, plain in (
        ("a.img.xz", "a.img"),
        ("a.QCOW2.GZ", "a.QCOW2"),
        ("a.qcow2", "a.qcow2"),
        (".xz", ".xz"),
        ("xz", "xz"),
    ):
        assert unpacked_name(name) == plain


@EACH
async def test_a_packed_download(services: Services, here: Host, folder: Path, server: FileServer, kind: str) -> None:
    """By contents, not by name; the checksum is that of what came."""
    data = qcow2(folder.parent).read_bytes()
    packed = PACKERS[kind](data)
    server.file("/noble.qcow2", packed)
    server.file(f"/other.img.{kind}", packed)
    digest = hashlib.sha256(packed).hexdigest()
    for url, name in (("/noble.qcow2", "noble"), (f"/other.img.{kind}", "other")):
        task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url(url), checksum=digest))
        assert await ended(services, task) == ("succeeded", f"Image {name}.qcow2 is there")
        assert (folder / f"{name}.qcow2").read_bytes() == data
    wrong = FetchRequest(server.url("/noble.qcow2"), name="wrong", checksum=hashlib.sha256(data).hexdigest())
    status, message = await ended(services, await services.downloads.begin(ADMIN, here, wrong))
    assert (status, "The checksum is wrong" in message) == ("failed", True)
    assert files(folder) == ["noble.json", "noble.qcow2", "other.json", "other.qcow2"]


async def test_nothing_is_left_of_what_fails(services: Services, here: Host, folder: Path, server: FileServer) -> None:
    """A packed file in a packed file is not unpacked again."""
    files_of = {
        "/cut.img.gz": (gzip.compress(NOISE)[:-9], "url: cut.img.gz cannot be unpacked"),
        "/text.xz": (lzma.compress(b"Hello"), "is no disk image"),
        "/twice.gz": (gzip.compress(lzma.compress(raw())), "is compressed (xz)"),
        "/bomb.xz": (lzma.compress(bytes(1025 * MIB), preset=0), "images_largest_gib allows 1 GiB"),
    }
    for path, (data, words) in files_of.items():
        server.file(path, data)
        task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url(path)))
        status, message = await ended(services, task)
        assert (status, words in message) == ("failed", True), message
    assert files(folder) == []


async def test_a_packed_upload(services: Services, here: Host, folder: Path) -> None:
    data = lzma.compress(raw())
    upload = await services.uploads.begin(ADMIN, here, UploadRequest("disk.img.xz", len(data)))
    await services.uploads.append(here, upload.id, 0, body(data))
    task = await services.uploads.finish(ADMIN, here, upload.id)
    assert await ended(services, task) == ("succeeded", "Image disk.img is there")
    assert (files(folder), (folder / "disk.img").read_bytes()) == (["disk.img", "disk.json"], raw())


async def test_cancelled_while_it_is_unpacked(
    services: Services, here: Host, folder: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "PIECE", 1024)
    server.file("/slow.img.xz", lzma.compress(raw(64 * MIB)))
    task = await services.downloads.begin(ADMIN, here, FetchRequest(server.url("/slow.img.xz")))
    while not list((folder / ".incoming").glob("*.unpacked")):
        await asyncio.sleep(0.01)
    await services.tasks.cancel(ADMIN, task.id)
    assert (await ended(services, task))[0] == "cancelled"
    assert files(folder) == []


async def test_after_a_crash(services: Services, here: Host, folder: Path) -> None:
    """What was half unpacked goes; an upload's file stays, to be finished again."""
    data = gzip.compress(raw())
    upload = await services.uploads.begin(ADMIN, here, UploadRequest("b.img.gz", len(data)))
    await services.uploads.append(here, upload.id, 0, body(data))
    common = {"host_id": here.id, "host_name": here.name, "source": "page", "status": "running"}
    ids = {"image.fetch": "d" * 32, "image.upload": "e" * 32}
    for kind, task_id in ids.items():
        params = {
            "url": "http://127.0.0.1/a.xz",
            "name": "a",
            "stem": "a",
            "user": "",
            "checksum": "",
            "checksum_url": "",
        }
        sealed = services.box.seal(json.dumps(params if kind == "image.fetch" else {"upload": upload.id, "stem": "b"}))
        await Task.create(id=task_id, kind=kind, params=sealed, **common)
    for name in (f"{'d' * 32}.part", f"{'d' * 32}.unpacked", f"{upload.id}.unpacked"):
        (folder / imagefiles.INCOMING / name).write_bytes(b"half")
    await services.tasks.recover()
    for task_id in ids.values():
        assert (await ended(services, await services.tasks.get(task_id)))[0] == "failed"
    assert files(folder) == [f".incoming/{upload.id}.json", f".incoming/{upload.id}.part"]
    assert (await ended(services, await services.uploads.finish(ADMIN, here, upload.id)))[0] == "succeeded"
    assert files(folder) == ["b.img", "b.json"]


def test_killed_while_it_is_unpacked(tmp_path: Path) -> None:
    """``kill -9`` of the panel: nothing half done is left, and the same can be asked for again."""
    images, served = tmp_path / "images", tmp_path / "served"
    images.mkdir()
    served.mkdir()
    (served / "slow.img.bz2").write_bytes(bz2.compress(raw(MIB) + NOISE * 20))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    panel = PanelProcess(tmp_path / "panel", fake_engine="1", images_networks="127.0.0.1/32", log_level="error")
    panel.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            host = {"server_name": "here", "engine_type": "FakeEngine", "server_addr": "x", "images_path": str(images)}
            panel.ok("POST", "/api/server/create", host)
            browser = Browser([panel])
            browser.login(panel.token)
            url = f"http://127.0.0.1:{server.server_port}/slow.img.bz2"
            answer = browser.post("/hosts/here/images/fetch", csrf_token=browser.csrf(), url=url)
            assert answer.status_code == 303, answer.text
            while not list(images.glob(".incoming/*.unpacked")):
                time.sleep(0.01)
            panel.kill()
            assert files(images)
            panel.start()
            tasks = "/api/system/tasker"
            dead = panel.until(tasks, lambda found: found["tasks"][0]["ended_at"])["tasks"][0]
            assert "What had come was removed" in dead["message"]
            assert files(images) == []
            browser.post(f"/tasks/{dead['id']}/again", csrf_token=browser.csrf())
            again = panel.until(tasks, lambda found: found["tasks"][0]["ended_at"])["tasks"][0]
            assert again["message"] == "Image slow.img is there"
            assert (images / "slow.img").stat().st_size == MIB + 20 * len(NOISE)
            browser.close()
        finally:
            panel.kill()
            server.shutdown()
