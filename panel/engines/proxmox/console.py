"""Consoles: the node opens them (``vncproxy``, ``termproxy``) and we dial its websocket; the browser never sees the node."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from panel.engines.common.rfb import Streams, open_screen
from panel.engines.proxmox.client import API, Client
from panel.engines.proxmox.view import Found
from panel.errors import EngineFailure, HostUnreachable
from panel.i18n import gettext_noop as _

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
PIECE = 64 * 1024
LARGEST = 4 * 1024 * 1024  # message of the node's
QUEUE = 4  # messages of the node's that may wait for the viewer

QUIET = logging.getLogger("panel.engines.proxmox.websocket")
QUIET.propagate = False  # the library logs addresses and headers, and our tickets are in both
QUIET.addHandler(logging.NullHandler())


class Screens:
    """Opens screens, and keeps the tasks that carry them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._carrying: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End them all. Never raises."""
        for task in self._carrying:
            task.cancel()
        if self._carrying:
            await asyncio.wait(self._carrying)

    async def open(self, one: Found) -> Streams:
        """A screen of the running VM, its password given."""
        proxy = await self._client.post(one.path("/vncproxy"), {"websocket": "1"})
        port, ticket = int(proxy["port"]), str(proxy["ticket"])
        return await open_screen(self._client.host, port, ticket, lambda: self._dial(one, port, ticket))

    async def _dial(self, one: Found, port: int, ticket: str) -> Streams:
        """The websocket as streams, by way of a pair of sockets whose buffers bound what waits."""
        upstream = await dial(self._client, one, port, ticket, largest=LARGEST, waiting=QUEUE)
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        near = await asyncio.open_connection(sock=theirs)
        task = asyncio.create_task(_carry(upstream, *near))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        return reader, writer


async def dial(client: Client, one: Found, port: int, ticket: str, *, largest: int, waiting: int) -> ClientConnection:
    """The node's websocket to what listens on ``port`` there. ``largest``: bytes of a message; ``waiting``: messages that may
    wait to be read.

    Raises:
        EngineFailure: the node refuses. HostUnreachable: it does not answer.
    """
    uri = f"{client.base.replace('http', 'ws', 1)}{API}{one.path('/vncwebsocket')}"
    try:
        return await connect(
            f"{uri}?port={port}&vncticket={quote(ticket, safe='')}",
            additional_headers=await client.headers(),
            ssl=client.context,
            subprotocols=[Subprotocol("binary")],
            compression=None,
            open_timeout=OPEN_SECONDS,
            ping_interval=None,
            close_timeout=CLOSE_SECONDS,
            max_size=largest,
            max_queue=waiting,
            logger=QUIET,
            proxy=None,
        )
    except WebSocketException as error:
        raise EngineFailure(
            _("The node refuses to show the VM's screen ({reason}). Its login needs the right VM.Console."),
            reason=type(error).__name__,
        ) from None
    except (OSError, TimeoutError):
        raise HostUnreachable(
            _("The VM's screen on host {host} cannot be reached. Try again."), host=client.host
        ) from None


async def _carry(upstream: ClientConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways, until either side ends."""

    async def to_viewer() -> None:
        with suppress(ConnectionClosed, OSError):
            async for data in upstream:
                writer.write(data.encode() if isinstance(data, str) else data)
                await writer.drain()

    async def to_node() -> None:
        with suppress(ConnectionClosed, OSError):
            while data := await reader.read(PIECE):
                await upstream.send(data)

    ways = {asyncio.create_task(to_viewer()), asyncio.create_task(to_node())}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        writer.close()
        with suppress(Exception):
            await upstream.close()
        writer.transport.abort()
