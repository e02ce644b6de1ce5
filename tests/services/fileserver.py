"""A web server that behaves as badly as it is told, and images to serve."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class FileServer:
    """Answers ``paths``; ``asked`` is what was asked for: (path, Host header)."""

    port: int = 0
    paths: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def file(self, path: str, data: bytes, *, length: int | None = None, headers: str = "") -> None:
        """Serve ``data``; ``length`` is what is announced, as it is when None, nothing when negative."""
        announced = len(data) if length is None else length

        async def answer(writer: asyncio.StreamWriter) -> None:
            told = f"Content-Length: {announced}\r\n" if announced >= 0 else ""
            writer.write(f"HTTP/1.1 200 OK\r\n{told}{headers}Connection: close\r\n\r\n".encode() + data)

        self.paths[path] = answer

    def redirect(self, path: str, location: str) -> None:
        async def answer(writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            writer.write(head.encode())

        self.paths[path] = answer

    def slow(self, path: str, data: bytes, go_on: asyncio.Event) -> None:
        """Half of ``data``, and the rest after ``go_on``."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
            await writer.drain()
            await go_on.wait()
            writer.write(data[len(data) // 2 :])

        self.paths[path] = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split()[1]
            hosts = [line[6:] for line in head if line.lower().startswith("host: ")]
            self.asked.append((path, ",".join(hosts)))
            if path in self.paths:
                await self.paths[path](writer)
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def file_server() -> AsyncIterator[FileServer]:
    """The server, on a loopback port."""
    made = FileServer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def qcow2(folder: Path, name: str = "disk.qcow2", *options: str, size: str = "64M") -> Path:
    """A real qcow2 file; ``options`` of ``qemu-img create``."""
    path = folder / name
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, size], check=True, timeout=30)
    return path


def iso(size: int = 64 * 1024) -> bytes:
    """What begins like a CD image."""
    data = bytearray(size)
    data[0x8001:0x8006] = b"CD001"
    return bytes(data)


def raw(size: int = 1024 * 1024) -> bytes:
    """A raw disk with a boot sector."""
    data = bytearray(size)
    data[510:512] = b"\x55\xaa"
    return bytes(data)
