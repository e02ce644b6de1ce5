"""WebSocket frames (RFC 6455, 5.2) of a console, read and written as they come: a frame's payload is not waited for.

``websockets`` has a parser of its own, which holds whole messages and costs three times as much; it is the measure of this one
in ``tests/console/test_frames.py``. What is not on the way of every picture is its work here too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from websockets.frames import Close, Frame, Opcode, apply_mask  # type: ignore[attr-defined]

FRAME_BYTES = 65535  # the largest frame to the browser: a slow line still draws progressively
SHORTEST = 6  # a browser's frame: two bytes, and its mask
CONTROL_LIMIT = 125
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
TWO_BYTES, EIGHT_BYTES = 126, 127  # lengths that say how long the length is

_LONG_HEAD = struct.Struct("!BBH").pack


class FrameError(Exception):
    """The browser broke the protocol; ``code`` is the close code that says how."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class FrameReader:
    """Takes a browser's bytes as they arrive. At most the head of a frame and a control frame wait here (139 bytes).

    Args:
        payload: called with each piece of binary payload, unmasked.
        control: called with each ping, pong and close; when it says True, what follows is not read.
    """

    __slots__ = ("_control", "_left", "_mask", "_payload", "_rest", "_within")

    def __init__(self, payload: Callable[[bytes], None], control: Callable[[Opcode, bytes], bool]) -> None:
        self._payload, self._control = payload, control
        self._rest = b""  # of a head, or of a control frame
        self._left = 0  # bytes of payload to come
        self._mask = b""  # turned to where the payload goes on
        self._within = False  # a message whose last frame has not come

    def feed(self, data: bytes) -> None:
        """Read on. ``FrameError`` when these are no frames of a console; nothing after that makes sense."""
        if self._left:
            taken = self._pay(data, 0, self._left, self._mask)
            if taken == len(data):
                return
            data = data[taken:]
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, size = 0, len(data)
        while size - at >= SHORTEST:
            first, mask_at, length = _head(data, at)
            start = mask_at + 4
            if start > size:
                break
            mask = data[mask_at:start]
            if first & 8:
                end = start + _control_length(first, length)
                if end > size:
                    break
                if self._control(Opcode(first & 15), apply_mask(data[start:end], mask)):
                    return
            else:
                self._follow(first)
                end = start + self._pay(data, start, length, mask)
            at = end
        if at < size:
            self._rest = data[at:]

    def _pay(self, data: bytes, start: int, length: int, mask: bytes) -> int:
        """Pass on what is there of a payload; returns how much that was."""
        piece = data[start : start + length]
        taken = len(piece)
        if taken:
            self._payload(apply_mask(piece, mask))
        self._left = length - taken
        if self._left:
            turn = taken & 3
            self._mask = mask[turn:] + mask[:turn]
        return taken

    def _follow(self, first: int) -> None:
        """Hold the rules of messages: binary ones, in one or more frames."""
        opcode = first & 15
        if opcode == Opcode.TEXT:
            raise FrameError(UNSUPPORTED_DATA)
        if opcode != (Opcode.CONT if self._within else Opcode.BINARY):
            raise FrameError(PROTOCOL_ERROR)
        self._within = not first & 0x80


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """A frame's first byte, where its mask is, and its length, which counts only when the mask is there."""
    first, second = data[at], data[at + 1]
    if first & 0x70 or not second & 0x80:  # extensions, which were not agreed on; browsers mask
        raise FrameError(PROTOCOL_ERROR)
    length = second & 0x7F
    if length == TWO_BYTES:
        return first, at + 4, data[at + 2] << 8 | data[at + 3]
    if length == EIGHT_BYTES:
        length = int.from_bytes(data[at + 2 : at + 10], "big")
        if length >> 63:
            raise FrameError(PROTOCOL_ERROR)
        return first, at + 10, length
    return first, at + 2, length


def _control_length(first: int, length: int) -> int:
    if length > CONTROL_LIMIT or not first & 0x80 or (first & 15) > Opcode.PONG:
        raise FrameError(PROTOCOL_ERROR)
    return length


def frames_of(data: bytes) -> list[bytes | memoryview]:
    """What a VM sent as one binary message after the other, each of at most ``FRAME_BYTES``: heads and payloads in turn."""
    size = len(data)
    if size <= CONTROL_LIMIT:
        return [bytes((0x82, size)), data]
    if size <= FRAME_BYTES:
        return [_LONG_HEAD(0x82, TWO_BYTES, size), data]
    out: list[bytes | memoryview] = []
    view = memoryview(data)
    for at in range(0, size, FRAME_BYTES):
        piece = view[at : at + FRAME_BYTES]
        out.append(_LONG_HEAD(0x82, TWO_BYTES, len(piece)) if len(piece) > CONTROL_LIMIT else bytes((0x82, len(piece))))
        out.append(piece)
    return out


def ping() -> bytes:
    """A ping's bytes."""
    return Frame(Opcode.PING, b"").serialize(mask=False)


def pong(payload: bytes) -> bytes:
    """The answer to a ping."""
    return Frame(Opcode.PONG, payload).serialize(mask=False)


def close(code: int, reason: str) -> bytes:
    """A goodbye. ``reason`` has at most 123 bytes."""
    return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False)
