"""Images for hosts on another machine: gathered and looked through here, then sent, whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from panel.engines.fake.behaviour import Behaviour
from panel.engines.fake.engine import FakeEngine
from panel.engines.fake.world import FakeWorld, world
from panel.engines.imagetypes import ImagePut
from panel.engines.types import EngineKind, Reporter
from panel.errors import Conflict, NotFound
from panel.models import Host, HostImage, Task
from panel.services.container import Services
from panel.services.downloads import FetchRequest
from panel.services.hosts import HostRequest
from panel.services.uploads import PIECE, UploadRequest
from panel.settings import Settings
from tests.conftest import ADMIN
from tests.services.fileserver import FileServer, file_server, iso, qcow2, raw
from tests.services.images_kit import body, ended, files
from tests.services.kit import lines, logged, until


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, images_networks="127.0.0.1/32")


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    async with file_server() as made:
        yield made


@pytest.fixture
async def far(services: Services) -> Host:
    await services.hosts.create(ADMIN, "far", HostRequest(EngineKind.FAKE, address="far"))
    return await services.hosts.get("far")


@pytest.fixture
def there(far: Host) -> FakeWorld:
    return world("far")


def gathered(settings: Settings) -> list[str]:
    """What lies in the panel's data folder for hosts."""
    return files(settings.data_folder / "images")


async def upload(services: Services, host: Host, data: bytes, name: str = "My disk", **more: str) -> str:
    """Begin one and send all of it; its id."""
    begun = await services.uploads.begin(ADMIN, host, UploadRequest("disk.img", len(data), name, modified=1, **more))
    for at in range(0, len(data), PIECE):
        await services.uploads.append(host, begun.id, at, body(data[at : at + PIECE]))
    return begun.id


async def finish(services: Services, host: Host, upload_id: str) -> tuple[str, str]:
    return await ended(services, await services.uploads.finish(ADMIN, host, upload_id))


async def test_an_upload_is_sent_listed_and_removed(
    services: Services, far: Host, there: FakeWorld, settings: Settings
) -> None:
    data = raw(PIECE + 512)
    upload_id = await upload(services, far, data, user="me", checksum=hashlib.sha256(data).hexdigest())
    assert [item.complete for item in await services.uploads.all(far)] == [True]
    assert gathered(settings) == [f"{far.id}/.incoming/{upload_id}.json", f"{far.id}/.incoming/{upload_id}.part"]
    assert there.images == {}, "nothing goes before it is asked for"
    assert await finish(services, far, upload_id) == ("succeeded", "Image My-disk.img is there")
    assert gathered(settings) == []
    await until(lambda: HostImage.exists(host_id=far.id, key="My-disk.img", name="My disk", default_user="me"))
    with pytest.raises(Conflict, match="already"):
        await services.uploads.begin(ADMIN, far, UploadRequest("disk.img", 1, "my disk"))
    with pytest.raises(Conflict, match="already"):
        await services.uploads.begin(ADMIN, far, UploadRequest("disk.img", 1, "My disk?"))
    there.drawn_on["My-disk.img"] = ["vm-9"]
    with pytest.raises(Conflict, match="vm-9"):
        await services.images.delete(ADMIN, far, "My-disk.img")
    there.drawn_on.clear()
    await services.images.delete(ADMIN, far, "My-disk.img")
    assert there.images == {}
    assert not await HostImage.exists(host_id=far.id, key="My-disk.img")
    assert (await logged(services, "image.delete"))[0] == ("info", "Removed image My-disk.img.")
    with pytest.raises(NotFound):
        await services.images.delete(ADMIN, far, "My-disk.img")


async def test_a_download_is_unpacked_looked_through_and_sent(
    services: Services, far: Host, there: FakeWorld, server: FileServer, settings: Settings, tmp_path: Path
) -> None:
    server.file("/disk.img.gz", gzip.compress(raw()))
    task = await services.downloads.begin(ADMIN, far, FetchRequest(server.url("/disk.img.gz"), name="New"))
    assert await ended(services, task) == ("succeeded", "Image New.img is there")
    server.file("/cd", iso())
    task = await services.downloads.begin(ADMIN, far, FetchRequest(server.url("/cd"), name="Tools"))
    assert await ended(services, task) == ("succeeded", "Image Tools.iso is there")
    await until(lambda: HostImage.exists(host_id=far.id, key="Tools.iso", format="iso"))
    base = qcow2(tmp_path, "base.qcow2")
    server.file("/backed", qcow2(tmp_path, "backed.qcow2", "-F", "qcow2", "-b", str(base)).read_bytes())
    task = await services.downloads.begin(ADMIN, far, FetchRequest(server.url("/backed"), name="Bad"))
    assert (await ended(services, task))[0] == "failed"
    assert sorted(there.images) == ["New.img", "Tools.iso"]
    assert gathered(settings) == []


async def test_what_has_come_waits_for_a_host_that_is_away(
    services: Services, far: Host, there: FakeWorld, settings: Settings
) -> None:
    upload_id = await upload(services, far, raw())
    there.behaviour = Behaviour.from_options({"behaviour": "refusing"})
    assert (await finish(services, far, upload_id))[0] == "failed"
    assert len(gathered(settings)) == 2
    there.behaviour = None
    assert (await finish(services, far, upload_id))[0] == "succeeded"
    assert gathered(settings) == []


async def test_cancelled_while_it_is_sent(
    services: Services, far: Host, there: FakeWorld, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(_engine: FakeEngine, image: ImagePut, report: Reporter) -> None:
        await report.step("Sending {name}: {done} of {size} MiB", percent=50, name=image.key, done=1, size=2)
        reached.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(FakeEngine, "put_image", hang)
    task = await services.uploads.finish(ADMIN, far, await upload(services, far, raw()))
    async with asyncio.timeout(20):
        await reached.wait()
    await task.refresh_from_db()
    assert task.percent == 74
    await services.tasks.cancel(ADMIN, task.id)
    assert (await ended(services, task))[0] == "cancelled"
    assert gathered(settings) == []
    assert there.images == {}
    assert not [line for line in await lines(task) if "Sending" in str(line)], "the log stays short"


async def test_a_file_of_this_machine(services: Services, far: Host, there: FakeWorld, tmp_path: Path) -> None:
    added = await services.images.add(ADMIN, far, qcow2(tmp_path), "Mine", "")
    assert (added.key, list(there.images)) == ("Mine.qcow2", ["Mine.qcow2"])


async def test_after_a_crash_the_host_tells_whether_it_came(
    services: Services, far: Host, there: FakeWorld, settings: Settings, server: FileServer
) -> None:
    server.file("/good.img", raw())
    done = await services.downloads.begin(ADMIN, far, FetchRequest(server.url("/good.img")))
    assert (await ended(services, done))[0] == "succeeded"
    upload_id = await upload(services, far, raw(), "Half")
    common: dict[str, Any] = {"host_id": far.id, "host_name": far.name, "source": "page", "status": "running"}
    params = services.box.seal(json.dumps({"stem": "Half", "upload": upload_id}))
    dead = await Task.create(id="d" * 32, kind="image.upload", params=params, **common)
    stem = services.box.seal(json.dumps({"stem": "good"}))
    await Task.filter(id=done.id).update(status="running", params=stem, ended_at=None)
    await services.tasks.recover()
    assert await ended(services, done) == ("succeeded", "Image good.img is there")
    status, message = await ended(services, dead)
    assert (status, "finish it again" in message) == ("failed", True)
    assert len(gathered(settings)) == 2, "what was uploaded waits"
    assert await finish(services, far, upload_id) == ("succeeded", "Image Half.img is there")


async def test_what_gathered_for_a_removed_host_goes(services: Services, far: Host, settings: Settings) -> None:
    begun = await services.uploads.begin(ADMIN, far, UploadRequest("disk.img", 10, "Mine"))
    await services.uploads.sweep()
    assert (await services.uploads.get(far, begun.id)).offset == 0
    await services.hosts.delete(ADMIN, "far")
    await services.uploads.sweep()
    assert not list((settings.data_folder / "images").iterdir())
