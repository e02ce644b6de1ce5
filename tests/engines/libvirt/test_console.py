"""Where libvirt's VNC servers listen, read off a domain, and what is asked of each way to a host."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from panel.engines.consoletypes import StreamTarget, TcpTarget
from panel.engines.libvirt.client import Client
from panel.engines.libvirt.console import Screens, Vnc
from panel.engines.libvirt.uri import ssh_endpoint
from panel.errors import Conflict

SSH, TLS, HERE = "qemu+ssh://root@far/system", "qemu+tls://far/system", "qemu:///system"
DOMAIN = """<domain type='qemu'><name>a</name><uuid>5fd5dfd4-5d1f-4bd1-9d5a-8b5b2f0a3a10</uuid>
<memory>65536</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices><graphics type='spice' port='5930'/>{vnc}</devices></domain>"""
TCP = "<graphics type='vnc' port='5901'{more}><listen type='address' address='{address}'/></graphics>"
SOCKET = "<graphics type='vnc'><listen type='socket' socket='/run/vnc.sock'/></graphics>"
NOWHERE = "<graphics type='vnc' port='-1'><listen type='none'/></graphics>"


class FakeDomain:
    """A running domain with one XML."""

    def __init__(self, vnc: str) -> None:
        self._xml = DOMAIN.format(vnc=vnc)
        self.flags: list[int] = []

    def state(self) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_RUNNING, 0

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 - libvirt's name
        self.flags.append(flags)
        return self._xml


async def target(monkeypatch: pytest.MonkeyPatch, uri: str, vnc: str) -> tuple[Any, FakeDomain]:
    domain = FakeDomain(vnc)

    async def on_domain(_self: Client, _ref: str, function: Any, **_more: Any) -> Any:
        return function(domain)

    monkeypatch.setattr(Client, "domain", on_domain)
    screens = Screens(Client(uri, "far"), ssh_endpoint(uri))
    try:
        return await screens.target("a"), domain
    finally:
        await screens.close()


@pytest.mark.parametrize(
    ("listen", "place"),
    [
        ("127.0.0.1:5901", ("127.0.0.1", 5901)),
        ("::1:5901", ("::1", 5901)),
        (":5901", ("", 5901)),
        ("/run/vnc.sock", ("/run/vnc.sock", 0)),
        ("", ("", 0)),
    ],
)
def test_places(listen: str, place: tuple[str, int]) -> None:
    assert Vnc(0, listen).place == place


@pytest.mark.parametrize(
    "vnc", [TCP.format(address="127.0.0.1", more=""), TCP.format(address="0.0.0.0", more=""), SOCKET]
)
async def test_through_ssh_all_is_reached(monkeypatch: pytest.MonkeyPatch, vnc: str) -> None:
    found, domain = await target(monkeypatch, SSH, vnc)
    assert isinstance(found, StreamTarget)
    assert domain.flags == [libvirt.VIR_DOMAIN_XML_SECURE]


async def test_a_screen_that_listens_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Conflict, match="listens nowhere"):
        await target(monkeypatch, SSH, NOWHERE)


async def test_without_ssh_only_what_listens_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for vnc in (TCP.format(address="127.0.0.1", more=""), SOCKET, NOWHERE):
        with pytest.raises(Conflict, match="listens on host far only"):
            await target(monkeypatch, TLS, vnc)
    assert (await target(monkeypatch, TLS, TCP.format(address="0.0.0.0", more="")))[0] == TcpTarget("far", 5901)
    assert (await target(monkeypatch, TLS, TCP.format(address="192.0.2.7", more="")))[0] == TcpTarget("192.0.2.7", 5901)


async def test_a_password_is_given_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    vnc = TCP.format(address="0.0.0.0", more=" passwd='s3cret'")
    for uri in (SSH, TLS):
        found, _domain = await target(monkeypatch, uri, vnc)
        assert isinstance(found, StreamTarget)
    assert "s3cret" not in repr(Vnc(0, ":5901", "s3cret"))
    _found, domain = await target(monkeypatch, HERE, vnc)
    assert domain.flags == [0], "libvirt opens it itself, and no password is asked for"
