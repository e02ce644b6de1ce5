"""The pumps between a browser's websocket and a VM's console: bounded both ways, until either side ends.

Nothing here queues: each pump holds one piece, and reads the next when the other side took it. asyncio and the server
hold a little more on their transports (64 to 256 KiB each), whatever the peers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from panel.errors import PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _

FRAME_BYTES = 64 * 1024  # the largest frame to the browser: a slow line still draws progressively
# A side that takes nothing for so long is dead. The server's pings cannot see that behind a full line; and while the VM
# takes nothing, nobody reads from the browser, so that its leaving is not seen either.
BROWSER_STALL_SECONDS = 60.0
VM_STALL_SECONDS = 15.0
FLUSH_SECONDS = 2.0  # for the last bytes to a VM that still reads

# RFC 6455, 7.4: 1000 to 2999 are the protocol's; 4000 to 4999 are ours: 4000 + the HTTP status that it would have been.
UNSUPPORTED_DATA = 1003
GOING_AWAY = 1001
VM_ENDED = 4410
VM_STALLED = 4504
REASON_BYTES = 123


def heard(message: str) -> Any:
    """What a text message of the browser's says; None when it is no JSON."""
    try:
        return orjson.loads(message)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a console ends, as the browser is told."""

    code: int
    text: Text

    @classmethod
    def of(cls, error: PanelError) -> Closing:
        """The close code of an error."""
        return cls(4000 + error.status, error.text)

    @classmethod
    def browser_gone(cls) -> Closing:
        """Nobody is there to be told."""
        return cls(GOING_AWAY, Text(_("The browser does not answer.")))

    @property
    def reason(self) -> str:
        """The text in the reader's language, cut to what a close frame carries."""
        return self.text.translate().encode()[:REASON_BYTES].decode(errors="ignore")


@dataclass(slots=True)
class Traffic:
    """Bytes that went through."""

    down: int = 0  # to the browser
    up: int = 0  # to the VM


class Browser(Protocol):
    """The browser's side; Quart's ``websocket``."""

    async def receive(self) -> str | bytes: ...
    async def send(self, data: bytes) -> None: ...


class Guest(Protocol):
    """The VM's side.

    Attributes:
        piece: how much to write at once; each may take ``VM_STALL_SECONDS``.
        ended, stalled: what to say when it closes, or takes nothing.
    """

    @property
    def piece(self) -> int: ...
    @property
    def ended(self) -> Text: ...
    @property
    def stalled(self) -> Text: ...

    async def read(self) -> bytes:
        """At most ``FRAME_BYTES``; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more."""

    async def control(self, message: str) -> bool:
        """Hear a text message; false when it has no business here."""

    async def close(self) -> None:
        """Hang up. Never raises."""


class Screen:
    """A ``Guest`` that speaks VNC: bytes, and nothing to say beside them."""

    piece = 1024 * 1024  # whole messages
    ended = Text(_("The VM closed its screen."))
    stalled = Text(_("The VM's screen takes no input."))

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> bytes:
        """As ``Guest``."""
        return await self.reader.read(FRAME_BYTES)

    async def write(self, data: bytes) -> None:
        """As ``Guest``."""
        self.writer.write(data)
        await self.writer.drain()

    async def control(self, message: str) -> bool:
        """As ``Guest``."""
        return False

    async def close(self) -> None:
        """As ``Guest``."""
        hang_up(self.writer)


async def bridge(
    browser: Browser,
    guest: Guest,
    ended: asyncio.Future[PanelError],
    traffic: Traffic,
    *,
    browser_stall: float = BROWSER_STALL_SECONDS,
    vm_stall: float = VM_STALL_SECONDS,
) -> Closing:
    """Pump until either side ends, stalls, or ``ended`` is resolved. Closing both sides is
    the caller's: the VM's with ``Guest.close``, the browser's with the returned ``Closing``."""
    pumps = [
        _start(_to_browser(guest, browser, traffic, browser_stall)),
        _start(_to_vm(browser, guest, traffic, vm_stall)),
    ]
    try:
        watched: list[asyncio.Future[Any]] = [*pumps, ended]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return Closing.of(ended.result())
        return next(pump.result() for pump in pumps if pump.done())
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def no_such_message() -> Closing:
    """A message that this console does not take."""
    return Closing(UNSUPPORTED_DATA, Text(_("A console takes no such message.")))


def hang_up(end: asyncio.StreamWriter | asyncio.WriteTransport) -> None:
    """Close the VM's side; what it does not take within ``FLUSH_SECONDS`` is dropped, so that nothing lingers."""
    with suppress(OSError, RuntimeError):
        end.close()
    abort = getattr(getattr(end, "transport", end), "abort", None)
    if abort is not None:
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, abort)


async def _to_browser(guest: Guest, browser: Browser, traffic: Traffic, stall: float) -> Closing:
    while True:
        try:
            data = await guest.read()
        except OSError:
            data = b""
        if not data:
            return Closing(VM_ENDED, guest.ended)
        try:
            async with asyncio.timeout(stall):
                await browser.send(data)
        except OSError:  # also TimeoutError
            return Closing.browser_gone()
        traffic.down += len(data)


async def _to_vm(browser: Browser, guest: Guest, traffic: Traffic, stall: float) -> Closing:
    while True:
        try:
            data = await browser.receive()
        except OSError:
            return Closing.browser_gone()
        try:
            if isinstance(data, str):
                async with asyncio.timeout(stall):
                    if not await guest.control(data):
                        return no_such_message()
                continue
            for start in range(0, len(data), guest.piece):
                async with asyncio.timeout(stall):
                    await guest.write(data[start : start + guest.piece])
        except TimeoutError:
            return Closing(VM_STALLED, guest.stalled)
        except (OSError, RuntimeError):  # uvloop: writing to a closed transport
            return Closing(VM_ENDED, guest.ended)
        traffic.up += len(data)


def _start(work: Coroutine[Any, Any, Closing]) -> asyncio.Task[Closing]:
    return asyncio.get_running_loop().create_task(work)
