"""Images that a host downloads by itself: checked, listed, made VMs of, removed; nothing is left of one that fails."""

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
from panel.engines.imagetypes import ImageFetch
from panel.errors import Conflict, InvalidInput, NotFound, PanelError

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
