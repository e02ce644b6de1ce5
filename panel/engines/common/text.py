"""A text console over asyncio's streams: a socket, a pipe, a hijacked HTTP connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from panel.engines.consoletypes import TextSize

READ_BYTES = 64 * 1024
WRITE_BYTES = 64 * 1024  # that may wait for a guest that does not read
CLOSE_SECONDS = 1.0


async def fixed_size(_size: TextSize) -> None:
    """``resize`` of a console whose guest cannot be told."""


class StreamText:
    """A ``TextStream`` over ``reader`` (its limit bounds what waits to be read) and ``writer``."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        resize: Callable[[TextSize], Awaitable[None]] = fixed_size,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._resize = resize
        writer.transport.set_write_buffer_limits(high=WRITE_BYTES)

    async def read(self) -> bytes:
        """As ``TextStream``."""
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """As ``TextStream``."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def resize(self, size: TextSize) -> None:
        """As ``TextStream``."""
        await self._resize(size)

    async def close(self) -> None:
        """As ``TextStream``; what the guest does not take is dropped."""
        self._writer.close()
        with suppress(OSError):  # TimeoutError too
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        self._writer.transport.abort()
