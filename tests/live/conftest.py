"""Fixtures for tests against what really runs on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.engine_site import engine, place  # noqa: F401 - fixtures of two modules
from tests.live.libvirt_site import LibvirtSite
from tests.live.namespaces import beside
from tests.process import PanelProcess, proxy_settings

DOCUMENT_IMAGE = "Windows 10 x64"  # what the API document's example asks for
VM = "/host1/net-1"  # the end of a path: the VM of the fixture ``vm``


@pytest.fixture(scope="module")
def site(demo_image: Path) -> Iterator[LibvirtSite]:
    """A libvirt site with the demo image under the name of the document's example."""
    made = LibvirtSite(demo_image, DOCUMENT_IMAGE)
    yield made
    made.clean()


@pytest.fixture(scope="module")
def panel(site: LibvirtSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel process with the site as its host ``host1``. It serves domains, with an authority of its own."""
    process = PanelProcess(tmp_path_factory.mktemp("panel"), **proxy_settings())
    process.start()
    process.ok("POST", "/api/server/create", {"server_name": "host1"} | site.host)
    process.until("/api/server/detail/host1", lambda host: host["health"] == "online")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def outside() -> Iterator[tuple[str, str]]:
    """A namespace beside this machine: its name, and this machine's address as it is seen from there."""
    with beside() as made:
        yield made.name, made.ours


@pytest.fixture(scope="module")
def vm(panel: PanelProcess) -> Iterator[dict[str, Any]]:
    """A running VM whose address the panel chose; its detail."""
    panel.until("/api/server/status/host1", lambda status: status["seen_at"])
    body = {"vm_uuid": "net-1", "os_name": DOCUMENT_IMAGE, "cpu_num": 1, "ram_num": 192, "hdd_num": 4, "start": True}
    made = panel.ok("POST", "/api/client/create/host1?wait=200", body)
    assert made["status"] == "succeeded", made
    panel.until(f"/api/client/status{VM}", lambda status: status["agent"], 150)
    yield panel.until(
        f"/api/client/ipaddr/detail{VM}", lambda data: data["addresses"][0]["seen"] and data["seen"][0]["addresses"], 60
    )
    panel.api("DELETE", f"/api/client/delete{VM}?wait=60")
