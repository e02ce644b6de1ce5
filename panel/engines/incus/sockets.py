"""What the websockets of ``console`` and ``exec`` have in common: bytes in pieces, and streams that end with the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

PIECE = 64 * 1024


class Closable(Protocol):
    """What is open until it is closed."""

    async def close(self) -> None:
        """End it."""


async def close_all(opened: Iterable[Closable]) -> None:
    """End all, side by side. Never raises."""
    await asyncio.gather(*(each.close() for each in list(opened)), return_exceptions=True)


class DataSocket:
    """The bytes of one data socket of an operation."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._rest = b""

    async def read(self) -> bytes:
        """At most ``PIECE`` bytes; empty when the server has sent all, or the connection is gone."""
        while not self._rest:
            try:
                message = await self._socket.recv()
            except ConnectionClosed:
                return b""
            if isinstance(message, str):  # the server's sign that all has been sent
                return b""
            self._rest = message
        piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
        return piece

    async def write(self, data: bytes) -> None:
        """Send all. ``ConnectionResetError`` when the connection is gone."""
        try:
            await self._socket.send(data)
        except ConnectionClosed as error:
            raise ConnectionResetError from error

    async def close(self) -> None:
        """Say goodbye, and wait for the answer."""
        await self._socket.close()

    def abort(self) -> None:
        """End the connection at once."""
        self._socket.transport.abort()
