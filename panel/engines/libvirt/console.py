"""The VM's screen: a connection to its VNC server, opened by libvirt itself where it is on this machine, else through SSH."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field
from typing import Any

import libvirt

from panel.engines.common.rfb import Streams, open_screen
from panel.engines.common.ssh import SshConnection
from panel.engines.common.tunnel import Tunnels
from panel.engines.consoletypes import ConsoleTarget, StreamTarget, TcpTarget
from panel.engines.libvirt.client import Client
from panel.engines.libvirt.domain import graphics_password, read_domain
from panel.engines.libvirt.observe import power_state
from panel.engines.libvirt.uri import host_of, is_local
from panel.engines.types import PowerState, SshEndpoint
from panel.errors import Conflict, HostUnreachable

_LOOPBACK = ("127.", "::1", "localhost")
_ANY = frozenset({"0.0.0.0", "::", ""})
HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Vnc:
    """A VNC server: its index among the VM's screens, where it listens (``host:port``, or a socket's path), its password."""

    index: int
    listen: str
    password: str = field(default="", repr=False)

    @property
    def place(self) -> tuple[str, int]:
        """Host and port; of a socket its path and 0, and the same of nothing at all with an empty path."""
        if self.listen.startswith("/") or not self.listen:
            return self.listen, 0
        address, _, port = self.listen.rpartition(":")
        return address.strip("[]"), int(port)


class Screens:
    """The screens of one host. ``endpoint``: its SSH, None where it is reached in another way."""

    def __init__(self, client: Client, endpoint: SshEndpoint | None) -> None:
        self._client = client
        self._ssh = SshConnection(endpoint) if endpoint else None
        self._tunnels = Tunnels(self._ssh) if self._ssh else None

    async def close(self) -> None:
        """End all that go through SSH. Never raises."""
        if self._ssh is not None and self._tunnels is not None:
            await self._tunnels.close()
            await self._ssh.close()

    async def target(self, ref: str) -> ConsoleTarget:
        """Where the VNC console of ``ref`` is. ``Conflict`` says why there is none."""
        client = self._client
        local = is_local(client.uri)
        vnc = await client.domain(ref, lambda domain: _vnc(domain, with_password=not local))
        if local:
            return StreamTarget(lambda: _open(client, ref, vnc.index))
        host, port = vnc.place
        if (tunnels := self._tunnels) is not None:
            if not host and not port:
                raise Conflict("The screen of the VM listens nowhere. Give it a port in libvirt (autoport).")
            if port and host in _ANY:
                host = HERE
            return StreamTarget(lambda: self._through(tunnels, host, port, vnc.password))
        # what is said of a console is cut to 123 bytes, the rest is in docs/engines/libvirt.md
        if not port or host.startswith(_LOOPBACK):
            raise Conflict(
                "The screen listens on host {host} only. Take the text console, or run the panel there.",
                host=client.name,
            )
        address = host_of(client.uri) if host in _ANY else host
        if vnc.password:
            return StreamTarget(lambda: open_screen(address, port, vnc.password))
        return TcpTarget(address, port)

    async def _through(self, tunnels: Tunnels, host: str, port: int, password: str) -> Streams:
        async def dial() -> Streams:
            try:
                return await tunnels.dial(host, port)
            except ConnectionRefusedError as error:
                raise HostUnreachable(
                    "Host {host}: the VM's screen ({place}) does not let us in. Is the VM still running?",
                    host=self._client.name, place=f"{host}:{port}" if port else host,
                ) from error  # fmt: skip

        return await open_screen(self._client.name, port, password, dial)


def _vnc(domain: Any, *, with_password: bool) -> Vnc:
    if power_state(domain.state()[0]) not in {PowerState.RUNNING, PowerState.SUSPENDED}:
        raise Conflict("The VM is off, so it has no screen. Start it first.")
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE if with_password else 0)
    graphics = read_domain(xml).graphics
    for index, (kind, listen) in enumerate(graphics):
        if kind == "vnc":
            return Vnc(index, listen, graphics_password(xml, index))
    if graphics:
        raise Conflict(
            "The VM has a screen of type {kind}, and the console needs VNC. Change it in libvirt.", kind=graphics[0][0]
        )
    raise Conflict("The VM was defined without a screen. Add a VNC one in libvirt.")


async def _open(client: Client, ref: str, index: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A fresh connection: libvirt passes one end of a socket pair whose other end is QEMU's VNC server.

    Source: virDomainOpenGraphicsFD; with SKIPAUTH the server asks for no password.
    """
    opened = _Descriptor()

    def work(domain: Any) -> None:
        opened.put(domain.openGraphicsFD(index, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))

    try:
        await client.domain(ref, work, settle=True)
        stream = socket.socket(fileno=opened.take())
    finally:
        opened.drop()
    stream.setblocking(False)
    try:
        return await asyncio.open_connection(sock=stream)
    except BaseException:
        stream.close()
        raise


class _Descriptor:
    """A file descriptor on its way out of a thread: closed if nobody came for it."""

    def __init__(self) -> None:
        self._fd = -1
        self._dropped = False

    def put(self, fd: int) -> None:
        if self._dropped:
            os.close(fd)
        else:
            self._fd = fd

    def take(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def drop(self) -> None:
        self._dropped = True
        if self._fd >= 0:
            os.close(self.take())
