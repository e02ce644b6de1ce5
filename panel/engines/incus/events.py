"""Changes as they happen: the websocket of lifecycle events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from panel.engines.incus.client import Client
from panel.engines.incus.view import Viewer
from panel.engines.types import VmEvent
from panel.errors import HostUnreachable
from panel.i18n import gettext_noop as _

QUEUE = 64
PING_SECONDS = 20.0
PONG_SECONDS = 10.0


class Events:
    """Watches one host, for as many as want to know."""

    def __init__(self, client: Client, viewer: Viewer) -> None:
        self._client, self._viewer = client, viewer
        self._sockets: set[ClientConnection] = set()
        self._closed = False

    async def close(self) -> None:
        """End all watching. Never raises."""
        self._closed = True
        for socket in list(self._sockets):
            with suppress(Exception):
                await socket.close()

    async def watch(self) -> AsyncIterator[VmEvent]:
        """See ``Engine.watch``."""
        socket = await self._client.dial("/1.0/events", {"type": "lifecycle"}, queue=QUEUE)
        self._sockets.add(socket)
        alive = asyncio.create_task(_keep_alive(socket))
        try:
            async for message in socket:
                event = self._event(message)
                if event is not None:
                    yield event
        except ConnectionClosed:
            pass
        finally:
            alive.cancel()
            self._sockets.discard(socket)
            socket.transport.abort()
        if not self._closed:
            raise HostUnreachable(_("Host {host} tells events no more. The panel tries again."), host=self._client.name)

    def _event(self, message: str | bytes) -> VmEvent | None:
        try:
            found: Any = orjson.loads(message)
            what, source = str(found["metadata"]["action"]), str(found["metadata"]["source"])
        except (ValueError, KeyError, TypeError):
            return None
        parts = urlsplit(source).path.split("/")
        if len(parts) < 4 or parts[2] not in {"instances", "containers", "virtual-machines"}:
            return None
        return VmEvent(self._viewer.ref_of(unquote(parts[3])), what)


async def _keep_alive(socket: ClientConnection) -> None:
    """End it when the host does not answer any more: it may have gone without a word."""
    with suppress(ConnectionClosed):
        while True:
            await asyncio.sleep(PING_SECONDS)
            answer = await socket.ping()
            try:
                async with asyncio.timeout(PONG_SECONDS):
                    await answer
            except TimeoutError:
                socket.transport.abort()
                return
