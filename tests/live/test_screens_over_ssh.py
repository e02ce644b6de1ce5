"""Screens of a libvirt host over SSH: a real sshd leads to this machine's libvirt, whose VNC servers listen on its loopback."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import libvirt
import pytest
from websockets.asyncio.client import ClientConnection

from tests.console.browser import closing as closed
from tests.gateways.sshd import Sshd
from tests.live.conftest import DOCUMENT_IMAGE
from tests.live.consoles import closed_by, console
from tests.live.libvirt_site import LibvirtSite
from tests.live.ssh_site import panel_over_ssh
from tests.process import PanelProcess, free_port

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

PASSWORD = "vnc-5ecr"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    made = Sshd(tmp_path_factory.mktemp("sshd"), "", "127.0.0.1", free_port())
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def panel(site: LibvirtSite, sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    with panel_over_ssh(site, sshd, tmp_path_factory) as made:
        made.until("/api/server/status/far", lambda status: status["seen_at"])
        yield made


def make(panel: PanelProcess, site: LibvirtSite, name: str, *, start: bool = False, **more: object) -> str:
    """A VM; the end of its path. Emulated: what libvirt has of KVM here may be an emulation in which QEMU or its kernels die."""
    body = {"vm_uuid": name, "cpu_num": 1, "ram_num": 64, "hdd_num": 1} | more
    made = panel.ok("POST", "/api/client/create/far?wait=100", body)
    assert made["status"] == "succeeded", made
    with suppress(AssertionError):  # it is already
        redefine(site, name, "<domain type='kvm'", "<domain type='qemu'")
        redefine(site, name, "mode='host-passthrough'", "mode='maximum'")
    if start:
        act(panel, f"/far/{name}", "start")
    return f"/far/{name}"


def act(panel: PanelProcess, path: str, action: str) -> None:
    done = panel.ok("POST", f"/api/client/powers{path}?wait=60", {"action": action})
    assert done["status"] == "succeeded", done


def redefine(site: LibvirtSite, name: str, old: str, new: str) -> None:
    """Change the definition of a VM as an operator does with ``virsh edit``."""
    with closing(libvirt.open("qemu:///system")) as conn:
        (domain,) = (
            each for each in conn.listAllDomains() if str(site.disks) in each.XMLDesc() and name in each.XMLDesc()
        )
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert old in xml, xml
        conn.defineXML(xml.replace(old, new))


class Viewer:
    """What noVNC says and hears (RFC 6143)."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._heard = socket, b""

    async def read(self, count: int) -> bytes:
        while len(self._heard) < count:
            part = await self._socket.recv()
            assert isinstance(part, bytes)
            self._heard += part
        taken, self._heard = self._heard[:count], self._heard[count:]
        return taken

    async def sees(self) -> tuple[int, int]:
        """Log in without a password, and get a first picture: its size."""
        version = await self.read(12)
        assert version.startswith(b"RFB 003."), version
        await self._socket.send(version)
        offered = await self.read((await self.read(1))[0])
        assert 1 in offered, "no password is asked for"
        await self._socket.send(b"\x01")
        assert await self.read(4) == bytes(4)
        await self._socket.send(b"\x01")
        width, height = struct.unpack(">HH", (await self.read(4)))
        await self.read(16)
        await self.read(struct.unpack(">I", await self.read(4))[0])
        await self._socket.send(struct.pack(">BBHi", 2, 0, 1, 0))  # SetEncodings: raw
        await self._socket.send(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        kind, _pad, rectangles = struct.unpack(">BBH", await self.read(4))
        assert (kind, rectangles >= 1) == (0, True), "a FramebufferUpdate"
        return width, height


async def sees(panel: PanelProcess, path: str) -> tuple[int, int]:
    async with asyncio.timeout(30), console(panel, path) as socket:
        return await Viewer(socket).sees()


def test_a_vm_of_the_panels(panel: PanelProcess, site: LibvirtSite) -> None:
    """Its VNC server listens on the host's loopback. The screen ends when the VM does; stopped, it says so."""
    path = make(panel, site, "vm-1", start=True)
    width, height = asyncio.run(sees(panel, path))
    assert width >= 320
    assert height >= 200

    async def ends_with_it() -> tuple[int, str]:
        async with console(panel, path) as socket:
            await Viewer(socket).sees()
            stopping = asyncio.create_task(asyncio.to_thread(act, panel, path, "stop"))
            told = await closed(socket, 30)
            await stopping
            return told

    code, _reason = asyncio.run(ends_with_it())
    assert code in {1000, 1001, 4404, 4409, 4410}, code
    assert asyncio.run(closed_by(panel, path)) == (4409, "The VM is off, so it has no screen. Start it first.")
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")


def test_a_password_is_the_panels_to_give(panel: PanelProcess, site: LibvirtSite) -> None:
    """The viewer is asked for none, and it stands nowhere."""
    path = make(panel, site, "vm-2")
    redefine(site, "vm-2", "<graphics type='vnc'", f"<graphics type='vnc' passwd='{PASSWORD}'")
    act(panel, path, "start")
    asyncio.run(sees(panel, path))
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")
    for file in [each for each in Path(panel.folder).rglob("*") if each.is_file()]:
        assert PASSWORD.encode() not in file.read_bytes(), file


def test_a_screen_on_a_socket(panel: PanelProcess, site: LibvirtSite) -> None:
    """As those are that a panel on the host itself made."""
    path = make(panel, site, "vm-3")
    redefine(site, "vm-3", "<listen type='address' address='127.0.0.1'/>", "<listen type='socket'/>")
    act(panel, path, "start")
    asyncio.run(sees(panel, path))
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")


def test_after_a_break(panel: PanelProcess, site: LibvirtSite, sshd: Sshd) -> None:
    """The sshd goes: the screen ends, and says so. It comes back: the screen opens again."""
    path = make(panel, site, "vm-4", start=True)

    async def breaks() -> tuple[int, str]:
        async with console(panel, path) as socket:
            await Viewer(socket).sees()
            await asyncio.to_thread(sshd.stop)
            return await closed(socket, 30)

    code, _reason = asyncio.run(breaks())
    assert code != 1006, "the panel says goodbye"
    sshd.start()
    panel.until("/api/server/detail/far", lambda host: host["health"] == "online", 60)
    asyncio.run(sees(panel, path))
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")


def test_an_sshd_that_forbids_tunnels(
    panel: PanelProcess, site: LibvirtSite, sshd: Sshd, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its setting is named. Power and the text console need none."""
    path = make(panel, site, "vm-5", start=True)
    config = sshd.folder / "sshd_config"
    before = config.read_text()
    sshd.stop()
    config.write_text(before + "AllowTcpForwarding no\n")
    sshd.start()
    try:
        panel.until("/api/server/detail/far", lambda host: host["health"] == "online", 60)
        code, reason = asyncio.run(closed_by(panel, path))
        assert code not in {1000, 1006}
        assert reason.startswith(
            f"The sshd of host 127.0.0.1:{sshd.port} forbids tunnels. Set AllowTcpForwarding local"
        )
        act(panel, path, "stop")
    finally:
        sshd.stop()
        config.write_text(before)
        sshd.start()
    panel.until("/api/server/detail/far", lambda host: host["health"] == "online", 60)
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")


def test_the_text_console(panel: PanelProcess, site: LibvirtSite) -> None:
    """By libvirt's own stream, through its SSH."""
    path = make(panel, site, "vm-6", start=True, os_name=DOCUMENT_IMAGE, ram_num=192, hdd_num=4)
    panel.until(f"/api/client/status{path}", lambda status: status["agent"], 150)

    async def asks_for_a_login() -> None:
        async with asyncio.timeout(60), console(panel, path, "text") as socket:
            await socket.send(b"\r")
            seen = b""
            while b"login: " not in seen:
                part = await socket.recv()
                seen += part if isinstance(part, bytes) else b""

    asyncio.run(asks_for_a_login())
    panel.ok("DELETE", f"/api/client/delete{path}?wait=60")
