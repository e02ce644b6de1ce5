"""The screen of a fake VM: a small RFB 3.8 server (RFC 6143) that draws a moving pattern and what is typed.

Security type None, raw encoding, whatever true-colour pixel format the viewer asks for.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from PIL import Image

from panel.engines.common.pictures import png

WIDTH, HEIGHT = 320, 200
FRAME_SECONDS = 0.1
CLIPBOARD_LIMIT = 1024 * 1024
TYPED_SHOWN = 20

Colour = tuple[int, int, int]


class NotRfbError(Exception):
    """The other side does not speak what we speak."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """RFC 6143, 7.4. Colour maximums and shifts of a true-colour format."""

    bits: int = 32
    depth: int = 24
    big_endian: bool = False
    maximums: tuple[int, int, int] = (255, 255, 255)
    shifts: tuple[int, int, int] = (16, 8, 0)

    LAYOUT = struct.Struct(">BBBBHHHBBB3x")

    def pack(self) -> bytes:
        """The 16 bytes of the wire."""
        return self.LAYOUT.pack(self.bits, self.depth, self.big_endian, True, *self.maximums, *self.shifts)

    @classmethod
    def unpack(cls, data: bytes) -> PixelFormat:
        """From the wire. ``NotRfbError`` for colour maps and odd sizes."""
        bits, depth, big, true_colour, *rest = cls.LAYOUT.unpack(data)
        if bits not in {8, 16, 32} or not true_colour or max(rest[3:]) >= bits:
            raise NotRfbError
        return cls(bits, depth, bool(big), (rest[0], rest[1], rest[2]), (rest[3], rest[4], rest[5]))

    def pixel(self, colour: Colour) -> bytes:
        """One pixel of ``colour`` (0..255 each)."""
        value = 0
        for part, maximum, shift in zip(colour, self.maximums, self.shifts, strict=True):
            value |= (part * maximum // 255) << shift
        mask = (1 << self.bits) - 1
        return (value & mask).to_bytes(self.bits // 8, "big" if self.big_endian else "little")


class Screen:
    """One viewer's connection to one VM's screen.

    ``seconds`` tells for how long the VM has run, which draws the movement; None, once it is off, ends the
    connection.
    """

    def __init__(self, title: str, seconds: Callable[[], float | None]) -> None:
        self.title = title
        self.seconds = seconds
        self.format = PixelFormat()
        self.typed: list[int] = []
        self.pointer = (WIDTH // 2, HEIGHT // 2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak RFB until either side ends, or the VM does."""
        talk = asyncio.create_task(self._talk(reader, writer))
        try:
            while not talk.done() and self.seconds() is not None:
                await asyncio.wait({talk}, timeout=2 * FRAME_SECONDS)
        finally:
            talk.cancel()
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
            while True:
                await self._message((await reader.readexactly(1))[0], reader, writer)
        except (NotRfbError, OSError, asyncio.IncompleteReadError):
            return

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 6143, 7.1 and 7.2: version, security None."""
        writer.write(b"RFB 003.008\n")
        if await reader.readexactly(12) != b"RFB 003.008\n":
            raise NotRfbError
        writer.write(b"\x01\x01")
        if await reader.readexactly(1) != b"\x01":
            raise NotRfbError
        writer.write(bytes(4))
        await self._begin(reader, writer)

    async def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 6143, 7.3: what both sides say of themselves once the viewer may look."""
        await reader.readexactly(1)
        name = self.title.encode()
        writer.write(struct.pack(">HH", WIDTH, HEIGHT) + self.format.pack() + struct.pack(">I", len(name)) + name)
        await writer.drain()

    async def _message(self, kind: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One message of the viewer (RFC 6143, 7.5)."""
        if kind == 0:  # SetPixelFormat
            self.format = PixelFormat.unpack((await reader.readexactly(19))[3:])
        elif kind == 2:  # SetEncodings: every viewer knows raw
            (count,) = struct.unpack(">xH", await reader.readexactly(3))
            await reader.readexactly(4 * count)
        elif kind == 3:  # FramebufferUpdateRequest
            incremental, *area = struct.unpack(">BHHHH", await reader.readexactly(9))
            await self._update(bool(incremental), (area[0], area[1], area[2], area[3]), writer)
        elif kind == 4:  # KeyEvent
            down, key = struct.unpack(">BxxI", await reader.readexactly(7))
            if down:
                self.typed = [*self.typed, key][-TYPED_SHOWN:]
        elif kind == 5:  # PointerEvent
            _buttons, x, y = struct.unpack(">BHH", await reader.readexactly(5))
            self.pointer = (min(x, WIDTH - 1), min(y, HEIGHT - 1))
        elif kind == 6:  # ClientCutText
            (length,) = struct.unpack(">xxxI", await reader.readexactly(7))
            if length > CLIPBOARD_LIMIT:
                raise NotRfbError
            await reader.readexactly(length)
        else:
            raise NotRfbError

    async def _update(self, incremental: bool, area: tuple[int, int, int, int], writer: asyncio.StreamWriter) -> None:
        """Answer a request with one raw rectangle; one that asks for changes waits a frame."""
        if incremental:
            await asyncio.sleep(FRAME_SECONDS)
        x, y = min(area[0], WIDTH), min(area[1], HEIGHT)
        width, height = min(area[2], WIDTH - x), min(area[3], HEIGHT - y)
        size = self.format.bits // 8
        writer.write(struct.pack(">BxHHHHHi", 0, 1, x, y, width, height, 0))
        writer.writelines(row[x * size : (x + width) * size] for row in self.rows()[y : y + height])
        await writer.drain()

    def rows(self) -> list[bytes]:
        """The picture, row by row: a moving bar, a block for each key that was typed, and the pointer."""
        paint = self.format.pixel
        frame = int((self.seconds() or 0.0) / FRAME_SECONDS)
        dark, light, white = paint((24, 32, 56)), paint((64, 160, 220)), paint((255, 255, 255))
        left = (frame * 4) % (WIDTH - 40)
        plain = dark * WIDTH
        bar = dark * left + light * 40 + dark * (WIDTH - left - 40)
        keys = b"".join(paint(_key_colour(key)) * 12 + dark * 4 for key in self.typed)
        keys += dark * (WIDTH - len(keys) // len(dark))
        rows = [plain] * 20 + [bar] * 60 + [plain] * 20 + [keys] * 20 + [plain] * 80
        size, (x, y) = len(dark), self.pointer
        for number in range(max(0, y - 2), min(HEIGHT, y + 3)):
            right = min(WIDTH, x + 3)
            start = max(0, x - 2)
            rows[number] = rows[number][: start * size] + white * (right - start) + rows[number][right * size :]
        return rows


def picture(title: str, seconds: float | None, width: int) -> bytes:
    """The screen as a PNG of at most ``width`` pixels across; blocking."""
    rows = Screen(title, lambda: seconds).rows()
    return png(Image.frombytes("RGB", (WIDTH, HEIGHT), b"".join(rows), "raw", "BGRX"), width)


def _key_colour(key: int) -> Colour:
    number = crc32(key.to_bytes(4, "big"))
    return 96 + number % 160, 96 + (number >> 8) % 160, 96 + (number >> 16) % 160
