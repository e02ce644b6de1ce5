"""A picture of a VM's screen: libvirt asks QEMU, and sends it through a stream."""

from __future__ import annotations

import contextlib
from typing import Any

import libvirt

from panel.engines.common.pictures import thumbnail
from panel.engines.libvirt.client import Client, Lane
from panel.engines.libvirt.observe import power_state
from panel.engines.libvirt.xmltree import parse
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineFailure

# libvirt waits up to 30 s for another job of the VM to end: less here would cost the connection
SCREEN_SECONDS = 45.0
MOST_BYTES = 64 * 1024 * 1024
_ON = {PowerState.RUNNING, PowerState.SUSPENDED}


async def picture(client: Client, ref: str, width: int) -> bytes:
    """The screen of ``ref`` as a PNG of at most ``width`` pixels across."""
    return await client.domain(ref, lambda domain: _take(domain, width), seconds=SCREEN_SECONDS, lane=Lane.SCREEN)


def _take(domain: Any, width: int) -> bytes:
    if power_state(domain.state()[0]) not in _ON:
        raise Conflict("The VM is off, so it has no screen. Start it first.")
    if parse(domain.XMLDesc(0)).find("devices/video") is None:
        raise Conflict("The VM was defined without a screen. Add a VNC one in libvirt.")
    return thumbnail(_read(domain), width)


def _read(domain: Any) -> bytes:
    """PPM or PNG, by libvirt's age."""
    stream = domain.connect().newStream(0)
    data = bytearray()
    domain.screenshot(stream, 0, 0)
    while len(data) <= MOST_BYTES and isinstance(part := stream.recv(256 * 1024), bytes):
        if not part:
            stream.finish()
            return bytes(data)
        data += part
    with contextlib.suppress(libvirt.libvirtError):
        stream.abort()
    raise EngineFailure("The picture of the screen is too large, or ended too early.")
