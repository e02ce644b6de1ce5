"""HTTP and websockets by hand: what no library would send."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2

from tests.process import PanelProcess

PIECE = 256 * 1024


@dataclass(slots=True)
class Wire:
    """A connection to the panel."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send, as far as the other side takes it."""
        self.writer.write(data)
        await self.writer.drain()

    async def status(self, seconds: float) -> int:
        """The status of an answer; 0 when the connection ends or nothing comes."""
        try:
            async with asyncio.timeout(seconds):
                line = await self.reader.readline()
        except (OSError, TimeoutError, ValueError):
            return 0
        return int(line.split()[1]) if line.startswith(b"HTTP/1.1 ") else 0

    async def ended(self, seconds: float) -> bool:
        """Whether the panel ends the connection within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(PIECE):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


@contextlib.asynccontextmanager
async def connected(panel: PanelProcess) -> AsyncIterator[Wire]:
    """A bare TCP connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", panel.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


def head(panel: PanelProcess, method: str, path: str, *lines: str, token: bool = True) -> bytes:
    """The head of a request with the token."""
    credential = [f"Authorization: Bearer {panel.token}"] if token else []
    rows = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{panel.port}", *credential, *lines]
    return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")


async def pour(wire: Wire, total: int, *, chunked: bool) -> int:
    """Send a body of ``total`` bytes as long as the other side takes it; how many went out."""
    sent, piece = 0, bytes(PIECE)
    try:
        while sent < total:
            async with asyncio.timeout(20):
                await wire.send(b"%x\r\n%b\r\n" % (PIECE, piece) if chunked else piece)
            sent += PIECE
    except (OSError, TimeoutError):
        pass
    return sent


# -- consoles --------------------------------------------------------------------------------------------------------------


class Login:
    """A browser that has logged in, without a browser."""

    def __init__(self, panel: PanelProcess) -> None:
        self.panel = panel
        self.client = httpx2.AsyncClient(base_url=panel.url, trust_env=False, timeout=30)

    async def __aenter__(self) -> Login:
        answer = await self.client.post("/login", data={"token": self.panel.token})
        assert answer.status_code == 303, answer.status_code
        page = (await self.client.get("/hosts")).text
        self.csrf = page.partition('name="csrf_token" value="')[2].partition('"')[0]
        assert self.csrf
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def ticket(self, vm: str, kind: str = "vnc") -> str:
        """A ticket for the VM's console."""
        form = {"kind": kind, "csrf_token": self.csrf}
        answer = await self.client.post(f"/console/host1/{vm}/ticket", data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["ticket"])


@contextlib.asynccontextmanager
async def console(panel: PanelProcess, vm: str, ticket: str) -> AsyncIterator[Wire]:
    """A console's websocket after its handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
        f"Origin: http://127.0.0.1:{panel.port}", f"Sec-WebSocket-Protocol: binary, ticket.{ticket}",
    )  # fmt: skip
    async with connected(panel) as wire:
        await wire.send(head(panel, "GET", f"/console/host1/{vm}/socket", *lines, token=False))
        async with asyncio.timeout(30):
            answer = await wire.reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in answer.partition(b"\r\n")[0], answer
        yield wire


def frame(payload: bytes, *, first: int = 0x82) -> bytes:
    """A frame as browsers send it, masked; ``first`` is its first byte."""
    mask = os.urandom(4)
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([first]) + length + mask + bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))


async def receive(wire: Wire) -> tuple[int, bytes]:
    """A frame of the panel: (opcode, payload)."""
    first, second = await wire.reader.readexactly(2)
    length = second & 0x7F
    if length == 126:
        length = int.from_bytes(await wire.reader.readexactly(2), "big")
    elif length == 127:
        length = int.from_bytes(await wire.reader.readexactly(8), "big")
    return first & 15, await wire.reader.readexactly(length)


async def payload(wire: Wire, size: int) -> bytes:
    """At least ``size`` bytes of the VM's."""
    got = b""
    while len(got) < size:
        opcode, data = await receive(wire)
        if opcode == 8:
            raise ConnectionError(f"closed: {data!r}")
        if opcode < 8:
            got += data
    return got


async def greet(wire: Wire) -> None:
    """Speak RFB until the screen's size and name are known."""
    async with asyncio.timeout(30):
        await payload(wire, 12)
        await wire.send(frame(b"RFB 003.008\n"))
        await payload(wire, 2)
        await wire.send(frame(b"\x01"))
        await payload(wire, 4)
        await wire.send(frame(b"\x01"))
        await payload(wire, 24)


ASK_PICTURE = struct.pack(">BBHHHH", 3, 0, 0, 0, 320, 200)
ASK_CORNER = struct.pack(">BBHHHH", 3, 0, 0, 0, 64, 64)
CORNER = 64 * 64 * 4
