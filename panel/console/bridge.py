"""The pumps between a browser's websocket and a VM's screen: bounded both ways, until either side ends.

Nothing here queues: each pump holds one piece, and reads the next when the other side took it. asyncio and the server
hold a little more on their transports (64 to 256 KiB each), whatever the peers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

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


async def bridge(
    browser: Browser,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    ended: asyncio.Future[PanelError],
    traffic: Traffic,
    *,
    browser_stall: float = BROWSER_STALL_SECONDS,
    vm_stall: float = VM_STALL_SECONDS,
) -> Closing:
    """Pump until either side ends, stalls, or ``ended`` is resolved. Closing both sides is
    the caller's: the VM's with ``hang_up``, the browser's with the returned ``Closing``."""
    pumps = [
        _start(_to_browser(reader, browser, traffic, browser_stall)),
        _start(_to_vm(browser, writer, traffic, vm_stall)),
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


def vm_ended() -> Closing:
    """The VM hung up."""
    return Closing(VM_ENDED, Text(_("The VM closed its screen.")))


def vm_stalled() -> Closing:
    """The VM takes nothing."""
    return Closing(VM_STALLED, Text(_("The VM's screen takes no input.")))


def text_refused() -> Closing:
    """A text message to a screen."""
    return Closing(UNSUPPORTED_DATA, Text(_("A screen takes binary messages only.")))


def hang_up(end: asyncio.StreamWriter | asyncio.WriteTransport) -> None:
    """Close the VM's side; what it does not take within ``FLUSH_SECONDS`` is dropped, so that nothing lingers."""
    with suppress(OSError, RuntimeError):
        end.close()
    abort = getattr(getattr(end, "transport", end), "abort", None)
    if abort is not None:
        asyncio.get_running_loop().call_later(FLUSH_SECONDS, abort)


async def _to_browser(reader: asyncio.StreamReader, browser: Browser, traffic: Traffic, stall: float) -> Closing:
    while True:
        try:
            data = await reader.read(FRAME_BYTES)
        except OSError:
            data = b""
        if not data:
            return vm_ended()
        try:
            async with asyncio.timeout(stall):
                await browser.send(data)
        except OSError:  # also TimeoutError
            return Closing.browser_gone()
        traffic.down += len(data)


async def _to_vm(browser: Browser, writer: asyncio.StreamWriter, traffic: Traffic, stall: float) -> Closing:
    while True:
        try:
            data = await browser.receive()
        except OSError:
            return Closing.browser_gone()
        if isinstance(data, str):
            return text_refused()
        try:
            writer.write(data)
            async with asyncio.timeout(stall):
                await writer.drain()
        except TimeoutError:
            return vm_stalled()
        except (OSError, RuntimeError):  # uvloop: writing to a closed transport
            return vm_ended()
        traffic.up += len(data)


def _start(work: Coroutine[Any, Any, Closing]) -> asyncio.Task[Closing]:
    return asyncio.get_running_loop().create_task(work)
