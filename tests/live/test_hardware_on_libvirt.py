"""The VM page's hardware on real libvirt: a CD into a running guest and out again, another boot order, the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import libvirt
import pycdlib
import pytest

from tests.live.conftest import DOCUMENT_IMAGE
from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ISO, OTHER, NAME = "Rescue CD.iso", "other.iso", "hw-1"
PAGE = f"/hosts/host1/vms/{NAME}"


def make_iso(path: Path) -> None:
    """A CD with nothing on it."""
    iso = pycdlib.PyCdlib()
    iso.new()
    iso.write(str(path))
    iso.close()


class Visitor:
    """Logged in, without JavaScript."""

    def __init__(self, panel: PanelProcess) -> None:
        self.panel = panel
        self.client = httpx2.Client(base_url=panel.url, follow_redirects=True, timeout=30)
        self.open("/login")
        self.post("/login", token=panel.token)

    def open(self, path: str) -> str:
        self.html = self.client.get(path).text
        return self.html

    def post(self, path: str, **fields: str) -> None:
        found = re.search(r'name="csrf-token" content="([^"]*)"', self.html)
        answer = self.client.post(path, data=fields | {"csrf_token": found[1] if found else ""})
        assert answer.status_code == 200, answer.text
        self.html = answer.text

    def change(self, path: str, **fields: str) -> None:
        """Send a form of the page, and wait for its task, which must succeed."""
        self.open(f"{PAGE}?tab=hardware")
        self.post(f"{PAGE}/{path}", **fields)
        self.panel.until("/api/system/tasker", lambda data: data["tasks"][0]["status"] == "succeeded")


@pytest.fixture(scope="module")
def visitor(site: LibvirtSite, panel: PanelProcess) -> Iterator[Visitor]:
    """In front of a panel with a running VM and two ISO files."""
    make_iso(site.images / ISO)
    make_iso(site.images / OTHER)
    body = {"vm_uuid": NAME, "os_name": DOCUMENT_IMAGE, "cpu_num": 1, "ram_num": 192, "hdd_num": 4, "start": True}
    made = panel.ok("POST", "/api/client/create/host1?wait=200", body)
    assert made["status"] == "succeeded", made
    visitor = Visitor(panel)
    yield visitor
    visitor.client.close()
    panel.api("DELETE", f"/api/client/delete/host1/{NAME}?wait=60")


def definition(*, running: bool) -> str:
    """The VM's XML, by libvirt itself."""
    connection = libvirt.open("qemu:///system")
    try:
        flags = 0 if running else libvirt.VIR_DOMAIN_XML_INACTIVE
        return str(connection.lookupByName(NAME).XMLDesc(flags))
    finally:
        connection.close()


def test_a_cd_in_a_running_vm(visitor: Visitor, site: LibvirtSite) -> None:
    """In the guest and in the definition; exchanged; ejected; the first-boot settings stay in their own drive."""
    visitor.panel.until("/api/server/status/host1", lambda _status: ISO in visitor.open(f"{PAGE}?tab=hardware"), 90)
    for name in (ISO, OTHER):
        visitor.change("iso", iso=name)
        for running in (True, False):
            assert str(site.images / name) in definition(running=running)
        assert f'<dd id="fact-iso">{name}</dd>' in visitor.open(f"{PAGE}?tab=hardware")
    visitor.change("iso", iso="")
    for running in (True, False):
        assert str(site.images) not in definition(running=running)
        assert f"{NAME}-seed.iso" in definition(running=running)


def test_boot_order_at_the_next_start(visitor: Visitor) -> None:
    visitor.change("boot", boot_1="cdrom", boot_2="disk", boot_3="")
    page = visitor.open(f"{PAGE}?tab=hardware")
    assert "CD drive, Disk at the next start" in " ".join(re.sub(r"<[^>]*>", " ", page).split())
    visitor.change("power", action="stop")
    page = visitor.open(f"{PAGE}?tab=hardware")
    assert '<dd id="fact-boot">CD drive, Disk</dd>' in page
    assert "at the next start</span>" not in page
    visitor.change("power", action="start")


def test_the_screen(visitor: Visitor) -> None:
    """A small picture of QEMU's own."""
    found = re.search(r'<img src="([^"]+)"', visitor.open(f"{PAGE}/screen"))
    assert found is not None, visitor.html
    answer = visitor.client.get(found[1])
    assert answer.status_code == 200
    assert answer.headers["content-type"] in {"image/png", "image/jpeg"}
    assert 0 < len(answer.content) < 20_000
