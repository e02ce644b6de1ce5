"""Small real servers on loopback for the tests of the HTTP client: each answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.certs import Made

Talk = Callable[[bytes], Awaitable[bytes | None]]
"""From a request's head to the raw answer; None breaks the connection."""


def answer(status: int, body: bytes = b"", *more: str) -> bytes:
    """A raw HTTP answer."""
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass
class Loopback:
    """A server that is there. ``heads``: of the requests so far; ``busiest``: the most at one time."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    now: int = 0
    busiest: int = 0


def server_context(folder: Path, made: Made) -> ssl.SSLContext:
    """A server's TLS with this certificate."""
    path = folder / f"{made.certificate.serial_number}.pem"
    path.write_text(made.key_pem + made.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@asynccontextmanager
async def loopback(talk: Talk, context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Loopback]:
    """Serve ``talk`` on a port of 127.0.0.1."""
    seen = Loopback()
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen.heads.append(head)
                seen.now += 1
                seen.busiest = max(seen.busiest, seen.now)
                try:
                    said = await talk(head)
                finally:
                    seen.now -= 1
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", port, ssl=context)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()
        await server.wait_closed()
