"""The text console: ``termproxy`` opens a terminal on the node, and we speak to it over its websocket.

To the node goes first ``USER:TICKET`` and a newline, which it answers with ``OK``; then ``0:BYTES:DATA`` for what is typed,
``1:COLUMNS:ROWS:`` for a size, and ``2`` now and then, so that nothing takes the line for dead. From the node comes what the
guest shows, as it is. Source: the vendor's ``pve-xtermjs``, README.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from panel.engines.consoletypes import TextSize, TextStream, TextTarget
from panel.engines.proxmox.client import Client
from panel.engines.proxmox.config import serial_of
from panel.engines.proxmox.console import OPEN_SECONDS, dial
from panel.engines.proxmox.view import Found
from panel.errors import Conflict, EngineFailure, HostUnreachable, Taken
from panel.i18n import gettext_noop as _

READ_BYTES = 64 * 1024
TYPED_BYTES = 4096  # in one message
LARGEST = 128 * 1024  # message that the node's proxy makes
PING_SECONDS = 30.0
CLOSE_SECONDS = 1.5


class Terminals:
    """Opens terminals, and knows those that are open: a serial port has one reader, a second would see nothing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: dict[int, TermText] = {}
        self._shared: set[TermText] = set()
        self._opening: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def close(self) -> None:
        """End them all. Never raises."""
        await asyncio.gather(*(text.close() for text in [*self._open.values(), *self._shared]))

    def target(self, one: Found) -> TextTarget:
        """The terminal of a running VM or container. ``Conflict`` when a VM has no serial port."""
        if one.container:
            return TextTarget(lambda size, _take_over: self._container(one, size))
        serial = serial_of(one.config)
        if not serial:
            raise Conflict(
                _(
                    "The VM has no serial port for a text console. Add one (Hardware, Add, Serial Port) and start it anew."
                )
            )

        async def open_(_size: TextSize, take_over: bool) -> TextStream:
            async with self._opening[one.vmid]:
                before = self._open.get(one.vmid)
                if before is not None:
                    if not take_over:
                        raise Taken(_("Somebody else has the text console of this VM open."))
                    await before.close()
                text = self._open[one.vmid] = await self._dial(one, {"serial": serial})
            return text

        return TextTarget(open_, resizes=False)

    async def _container(self, one: Found, size: TextSize) -> TextStream:
        """Its console, which many may look at."""
        text = await self._dial(one, {})
        self._shared.add(text)
        await text.resize(size)
        return text

    async def _dial(self, one: Found, form: dict[str, str]) -> TermText:
        proxy = await self._client.post(one.path("/termproxy"), form)
        port, ticket = int(proxy["port"]), str(proxy["ticket"])
        upstream = await dial(self._client, one, port, ticket, largest=LARGEST, waiting=1)
        text = TermText(upstream, lambda ended: self._forget(one.vmid, ended))
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await text.begin(str(proxy["user"]), ticket)
        except TimeoutError:
            await text.close()
            raise HostUnreachable(
                _("The VM's terminal on host {host} does not answer. Try again."), host=self._client.host
            ) from None
        except OSError:
            await text.close()
            raise EngineFailure(
                _(
                    "The node refuses to open the VM's terminal. Its login needs the right VM.Console, and the VM must run."
                )
            ) from None
        except BaseException:
            await text.close()
            raise
        return text

    def _forget(self, vmid: int, ended: TermText) -> None:
        self._shared.discard(ended)
        if self._open.get(vmid) is ended:
            del self._open[vmid]


class TermText:
    """A ``TextStream`` over the node's websocket, whose messages wait there while nobody reads."""

    def __init__(self, upstream: ClientConnection, ended: Callable[[TermText], None]) -> None:
        self._upstream, self._ended = upstream, ended
        self._held = b""
        self._pinging: asyncio.Task[None] | None = None

    async def begin(self, user: str, ticket: str) -> None:
        """Log in. ``OSError`` when that is refused, which the node does by hanging up."""
        await self._send(f"{user}:{ticket}\n".encode())
        while len(self._held) < len(b"OK") and (more := await self._receive()):
            self._held += more
        if not self._held.startswith(b"OK"):
            raise ConnectionResetError
        self._held = self._held.removeprefix(b"OK")
        self._pinging = asyncio.create_task(self._ping())

    async def read(self) -> bytes:
        """As ``TextStream``."""
        while not self._held:
            self._held = await self._receive()
            if not self._held:
                self._ended(self)
                return b""
        data, self._held = self._held[:READ_BYTES], self._held[READ_BYTES:]
        return data

    async def write(self, data: bytes) -> None:
        """As ``TextStream``."""
        for start in range(0, len(data), TYPED_BYTES):
            piece = data[start : start + TYPED_BYTES]
            await self._send(b"0:%d:%b" % (len(piece), piece))

    async def resize(self, size: TextSize) -> None:
        """As ``TextStream``."""
        await self._send(b"1:%d:%d:" % (size.columns, size.rows))

    async def close(self) -> None:
        """As ``TextStream``."""
        if self._pinging is not None:
            self._pinging.cancel()
        with suppress(Exception):  # TimeoutError too
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._upstream.close()
        self._upstream.transport.abort()
        self._ended(self)

    async def _ping(self) -> None:
        with suppress(OSError):
            while True:
                await asyncio.sleep(PING_SECONDS)
                await self._send(b"2")

    async def _send(self, data: bytes) -> None:
        try:
            await self._upstream.send(data)
        except ConnectionClosed:
            raise ConnectionResetError from None

    async def _receive(self) -> bytes:
        """The next message; empty once it has ended. An empty message is none."""
        try:
            while True:
                message = await self._upstream.recv()
                if message:
                    return message.encode() if isinstance(message, str) else message
        except ConnectionClosed:
            return b""
