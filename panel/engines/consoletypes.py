"""What engines say of consoles: where a screen is, and how a terminal is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Greeting:
    """The words that a viewer and the panel change before the VM hears of the viewer. ``left``: how many bytes the viewer says,
    and what it is answered then, in turn."""

    def __init__(self, steps: Iterable[tuple[int, bytes]]) -> None:
        self.left = list(steps)

    def hear(self, data: bytes) -> tuple[bytes, bytes]:
        """What of the viewer's words is the VM's, and the answer that is due."""
        answer = b""
        while self.left and data:
            count, then = self.left[0]
            taken = min(count, len(data))
            data = data[taken:]
            self.left[0] = (count - taken, then)
            if taken == count:
                answer += then
                del self.left[0]
        return data, answer


@dataclass(frozen=True, slots=True)
class TcpTarget:
    """A console behind a TCP port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class UnixTarget:
    """A console behind a unix socket on this machine."""

    path: str


@dataclass(frozen=True, slots=True)
class StreamTarget:
    """A console that the engine itself opens (file descriptor passed by libvirt, SSH tunnel, upstream websocket)."""

    open: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = field(repr=False)


ConsoleTarget = TcpTarget | UnixTarget | StreamTarget


class ConsoleKind(StrEnum):
    """What a console speaks: ``Engine.console`` is VNC, ``Engine.spice_console`` SPICE, ``Engine.text_console`` text."""

    VNC = "vnc"
    SPICE = "spice"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class TextSize:
    """Of a terminal, in characters; 1..1000 each."""

    columns: int = 80
    rows: int = 24


class TextStream(Protocol):
    """An open text console: a terminal's bytes, as they are (UTF-8 characters and escape sequences may be cut anywhere).
    At most one task reads and one writes. It holds at most 256 KiB each way, whatever the peers do."""

    async def read(self) -> bytes:
        """What the guest shows: waits for some, at most 64 KiB. ``b""`` once it has ended; ``OSError`` when it broke."""

    async def write(self, data: bytes) -> None:
        """What is typed: returns when there is room for more, so that a guest that does not read holds up its writer.
        ``OSError`` when it has ended."""

    async def resize(self, size: TextSize) -> None:
        """Tell the guest how large its terminal is. Without effect where ``TextTarget.resizes`` is false."""

    async def close(self) -> None:
        """End it, within 2 s, so that the next may open it; a ``read`` or ``write`` that waits ends too. Never raises; may be
        called twice."""


@dataclass(frozen=True, slots=True)
class TextTarget:
    """A text console: a shell in a container, or a VM's serial port.

    Attributes:
        open: ``open(size, take_over)``, within 10 s. Where only one can look at a time, ``Taken`` while somebody else
            does; ``take_over`` ends his instead.
        resizes: whether the guest can be told a size (a serial port knows none).
    """

    open: Callable[[TextSize, bool], Awaitable[TextStream]] = field(repr=False)
    resizes: bool = True


class SpiceChannel(Protocol):
    """One connection of a SPICE screen: its bytes, as they are. At most one task reads and one writes. It holds at most 2 MiB
    each way, whatever the peers do."""

    async def read(self) -> bytes:
        """What the VM says: waits for some, at most 64 KiB. ``b""`` once it has ended, ``OSError`` when it broke."""

    async def write(self, data: bytes) -> None:
        """What the viewer says: returns when there is room for more. ``OSError`` when it has ended."""

    async def close(self) -> None:
        """Hang up; a ``read`` or ``write`` that waits ends too. Never raises; may be called twice."""


class SpiceSession(Protocol):
    """An open SPICE screen: as many connections (channels) as its viewer asks for. All end when the host ends it."""

    async def channel(self) -> SpiceChannel:
        """One more, within 10 s. ``PanelError`` when the host gives none."""

    async def close(self) -> None:
        """End it with all its channels, within 2 s. Never raises; may be called twice."""


@dataclass(frozen=True, slots=True)
class SpiceTarget:
    """A SPICE screen. ``open(take_over)``, within 10 s: ``Taken`` while somebody else looks, where only one can at a time;
    ``take_over`` ends his view instead."""

    open: Callable[[bool], Awaitable[SpiceSession]] = field(repr=False)
