"""Images that a host downloads by itself, or that the panel sends: listed, made VMs of, removed; nothing stays of what fails."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from panel.engines.base import Engine
from panel.engines.imagetypes import ImageFetch, ImagePut
from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound, PanelError

from .kit import Canceller, Recorder, contract
from .providers import Rig

DISK = bytes(510) + b"\x55\xaa" + bytes(65536)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of a small disk."""
    (tmp_path / "disk.img").write_bytes(DISK)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/disk.img"
    server.shutdown()
    server.server_close()


def wanted(url: str, **more: str) -> ImageFetch:
    values = {"name": "ct-fetched", "ending": ".raw", "algorithm": "sha256", "digest": hashlib.sha256(DISK).hexdigest()}
    return ImageFetch(url=url, **(values | more))


async def names(engine: Engine) -> set[str]:
    return {image.name for image in await engine.list_images()}


@contract("image_urls")
async def test_an_image_comes_and_goes(engine: Engine, rig: Rig, served: str) -> None:
    report = Recorder()
    key = await engine.fetch_image(wanted(served), report)
    assert key == rig.lists_images_as("ct-fetched")
    assert report.percents == sorted(report.percents)
    assert {image.key: image.name for image in await engine.list_images()}[key] == "ct-fetched"
    with pytest.raises(Conflict, match="already"):
        await engine.fetch_image(wanted(served), Recorder())
    made = rig.spec(image="ct-fetched", disk_gib=4)
    await engine.create(made, Recorder())
    await engine.remove_image(key)
    assert "ct-fetched" not in await names(engine)
    assert (await engine.inspect(made.ref)).name == made.name, "what was made of it has a copy"
    await engine.delete(made.ref, made.name, Recorder())
    with pytest.raises(NotFound):
        await engine.remove_image(key)


@contract("image_urls")
async def test_what_fails_leaves_nothing(engine: Engine, rig: Rig, served: str) -> None:
    before = await names(engine)
    for fetch, error in (
        (wanted(served, digest="0" * 64), PanelError),
        (wanted(served.replace("disk", "none")), PanelError),
        (wanted(served, ending=".exe"), InvalidInput),
    ):
        with pytest.raises(error):
            await engine.fetch_image(fetch, Recorder())
        assert await names(engine) == before
    for key in ("", "..", "x:import/..", "local:import/none.raw", "local:import/../../etc/passwd"):
        with pytest.raises((NotFound, Conflict)):
            await engine.remove_image(key)


@contract("image_urls")
async def test_one_that_is_cancelled_leaves_nothing(engine: Engine, rig: Rig, served: str) -> None:
    before = await names(engine)
    for at in (1, 2, 3):
        task = asyncio.create_task(engine.fetch_image(wanted(served), Canceller(at)))
        await asyncio.wait({task})
        assert task.cancelled()
        assert await names(engine) == before


# -- sent by the panel -------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A raw disk of 3 MiB with holes at its beginning, in the middle and at its end."""
    file = tmp_path / "disk.img"
    with file.open("wb") as opened:
        opened.seek(510)
        opened.write(b"\x55\xaa")
        opened.seek(1024**2 + 4096)
        opened.write(b"in the middle" * 1000)
        opened.truncate(3 * 1024**2)
    return file


@pytest.fixture
def large(disk: Path) -> Path:
    """The same with so much in it that it takes a while to send."""
    with disk.with_name("large.img").open("wb") as opened:
        opened.write(disk.read_bytes())
        for at in range(1, 64):
            opened.seek(at * 16 * 1024**2)
            opened.write(bytes([at]) * 8 * 1024**2)
    return disk.with_name("large.img")


def sent(file: Path, token: str = "a1", key: str = "ct-sent.img") -> ImagePut:
    return ImagePut(file, key, {"os_name": "ct sent", "title": "Sent \u955c\u50cf", "task": token}, token)


@contract("image_files")
async def test_a_file_becomes_an_image_and_goes(engine: Engine, rig: Rig, disk: Path) -> None:
    report = Recorder()
    await engine.put_image(sent(disk), report)
    assert report.percents == sorted(report.percents)
    image = {image.key: image for image in await engine.list_images()}["ct-sent.img"]
    assert (image.name, image.title, image.format) == ("ct sent", "Sent \u955c\u50cf", "raw")
    for key in ("ct-sent.img", "ct-sent.qcow2"):  # their sidecars would be one
        with pytest.raises(Conflict, match="already"):
            await engine.put_image(sent(disk, "b2", key), Recorder())
    with pytest.raises(EngineFailure, match="cannot be read"):
        await engine.put_image(sent(disk.with_name("none.img"), "b3", "ct-none.img"), Recorder())
    assert await engine.settle_image("ct-sent.img", "a1"), "it is whole"
    made = rig.spec(image="ct sent", disk_gib=1)
    await engine.create(made, Recorder())
    await engine.remove_image("ct-sent.img")
    assert "ct sent" not in await names(engine)
    assert not await engine.settle_image("ct-sent.img", "a1")
    assert (await engine.inspect(made.ref)).name == made.name, "what was made of it has a copy"
    await engine.delete(made.ref, made.name, Recorder())
    for key in ("ct-sent.img", "", "..", "../x.img", ".hidden"):
        with pytest.raises(NotFound):
            await engine.remove_image(key)


@contract("image_files")
async def test_one_that_is_cancelled_on_its_way_leaves_nothing(engine: Engine, disk: Path, large: Path) -> None:
    before = await names(engine)
    for token, after in (("a1", None), ("a2", 0.05), ("a3", 0.3)):
        task = asyncio.create_task(engine.put_image(sent(large, token), Canceller(1, after)))
        await asyncio.wait({task})
        assert task.cancelled()
        assert await names(engine) == before
        assert not await engine.settle_image("ct-sent.img", token)
    await engine.put_image(sent(disk, "c3"), Recorder())
    await engine.remove_image("ct-sent.img")
