"""A TCP connection through SSH as a pair of asyncio's streams, as those who know nothing of SSH take it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import asyncssh

from panel.engines.common.rfb import Streams
from panel.engines.common.ssh import SshConnection

CHUNK_BYTES = 64 * 1024


class Tunnels:
    """The open connections through one SSH connection. What waits on the way is bounded by SSH's window and the socket's."""

    def __init__(self, connection: SshConnection) -> None:
        self._connection = connection
        self._open: set[asyncio.Task[None]] = set()

    async def dial(self, host: str, port: int) -> Streams:
        """Connect from the far side, to a port or (``host`` is its path) a unix socket. Raises as ``SshConnection.channel``.
        Closing the writer, or ``close``, ends it."""
        ready: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(self._carry(host, port, ready), name=f"tunnel {port}")
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            return await ready
        except BaseException:
            task.cancel()
            raise

    async def close(self) -> None:
        """End all. Never raises."""
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _carry(self, host: str, port: int, ready: asyncio.Future[Streams]) -> None:
        try:
            async with self._connection.channel(host, port) as (far_reader, far_writer):
                ours, theirs = socket.socketpair()
                near_reader, near_writer = await asyncio.open_connection(sock=ours)
                try:
                    ready.set_result(await asyncio.open_connection(sock=theirs))
                    await _pump(near_reader, near_writer, far_reader, far_writer)
                finally:
                    near_writer.transport.abort()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)


async def _pump(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncssh.SSHReader[bytes],
    far_writer: asyncssh.SSHWriter[bytes],
) -> None:
    """Both ways, until either side ends."""

    async def outward() -> None:
        while data := await near_reader.read(CHUNK_BYTES):
            far_writer.write(data)
            await far_writer.drain()

    async def inward() -> None:
        while data := await far_reader.read(CHUNK_BYTES):
            near_writer.write(data)
            await near_writer.drain()

    ways = [asyncio.ensure_future(outward()), asyncio.ensure_future(inward())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(1):  # what was said last arrives
                await near_writer.drain()
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
