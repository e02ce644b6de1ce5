"""Fixtures for tests against what really runs on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess

DOCUMENT_IMAGE = "Windows 10 x64"  # what the API document's example asks for


@pytest.fixture(scope="module")
def site(demo_image: Path) -> Iterator[LibvirtSite]:
    """A libvirt site with the demo image under the name of the document's example."""
    made = LibvirtSite(demo_image, DOCUMENT_IMAGE)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def panel(site: LibvirtSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel process with the site as its host ``host1``."""
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    process.start()
    process.ok("POST", "/api/server/create", {"server_name": "host1"} | site.host)
    process.until("/api/server/detail/host1", lambda host: host["health"] == "online")
    yield process
    process.stop()
