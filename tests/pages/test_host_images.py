"""The tab of images of a host that downloads by itself: no upload, no user, and what is no file cannot be removed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from panel.engines.types import EngineKind
from panel.models import HostImage
from panel.security import PANEL
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.settings import Settings
from tests.doubles.pve import Door, pve
from tests.doubles.pve_world import Cluster
from tests.doubles.serving import served
from tests.pages.conftest import Browser, until
from tests.services.fileserver import file_server, raw

TOKEN, SECRET = "openidcs@pve!panel", "a-secret"
TAB = "/hosts/pve?tab=images"
KEY = "local:import/small.raw"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, images_networks="127.0.0.1/32")


@pytest.fixture
async def world(services: Services) -> AsyncIterator[Cluster]:
    """The cluster of host ``pve``."""
    made = Cluster()
    made.add("debian-12", gib=1, template=True)
    with served(pve(made, Door("root@pam", "x", f"{TOKEN}={SECRET}"))) as base:
        await services.hosts.create(PANEL, "pve", HostRequest(EngineKind.PROXMOX, base, TOKEN, SECRET))
        await until(lambda: HostImage.exists(name="debian-12"))
        yield made
        await services.observer.stop()


async def test_by_url_and_away_again(browser: Browser, world: Cluster) -> None:
    await browser.get(TAB)
    assert "The host downloads it itself" in browser.text
    assert "Catalogue" in browser.text
    for name in ("upload-file", 'name="user"', "remove=100"):
        assert name not in browser.html
    async with file_server() as web:
        web.file("/small.img", raw())
        fields = {"url": web.url("/small.img"), "name": "", "checksum": "", "checksum_url": ""}
        await browser.post("/hosts/pve/images/fetch", **fields)
        assert browser.status == 400
        assert "only that tells whether the right thing came" in browser.text
        await browser.post("/hosts/pve/images/fetch", **fields | {"checksum": hashlib.sha256(raw()).hexdigest()})
        assert "Downloading small" in browser.text
        await until(lambda: HostImage.exists(key=KEY))
    await browser.get(f"{TAB}&remove={KEY}")
    assert "Remove small?" in browser.text
    await browser.post(f"/hosts/pve/images/{KEY}/remove")
    assert "Removed image small" in browser.text
    assert world.files == {}
