"""The VM's screen: a connection to its VNC server, opened by libvirt itself where it is on this machine."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import libvirt

from panel.engines.consoletypes import ConsoleTarget, StreamTarget, TcpTarget
from panel.engines.libvirt.client import Client
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.observe import power_state
from panel.engines.libvirt.uri import host_of, is_local, is_ssh
from panel.engines.types import PowerState
from panel.errors import Conflict

_LOOPBACK = ("127.", "::1", "localhost")


async def target(client: Client, ref: str) -> ConsoleTarget:
    """Where the VNC console of ``ref`` is. ``Conflict`` says why there is none."""
    index, listen = await client.domain(ref, _vnc)
    if is_local(client.uri):
        return StreamTarget(lambda: _open(client, ref, index))
    if is_ssh(client.uri):
        raise Conflict(
            "Consoles of hosts that are reached through SSH are not carried yet. Run the panel on host {host} itself, or "
            "connect with qemu+tls.",
            host=client.name,
        )
    address, _, port = listen.rpartition(":")
    if not port or address.startswith(_LOOPBACK):
        raise Conflict(
            "The VM's screen listens only on host {host} itself, where this panel does not run. Run the panel there.",
            host=client.name,
        )
    wildcard = address in {"0.0.0.0", "::", ""}
    return TcpTarget(host_of(client.uri) if wildcard else address, int(port))


def _vnc(domain: Any) -> tuple[int, str]:
    """The index of the VNC server among the VM's screens, and where it listens on TCP."""
    if power_state(domain.state()[0]) not in {PowerState.RUNNING, PowerState.SUSPENDED}:
        raise Conflict("The VM is off, so it has no screen. Start it first.")
    graphics = read_domain(domain.XMLDesc(0)).graphics
    for index, (kind, listen) in enumerate(graphics):
        if kind == "vnc":
            return index, listen
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
