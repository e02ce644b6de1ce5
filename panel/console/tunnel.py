"""The console's road: once a browser is let in, its connection and the VM's feed one another, and no byte enters ASGI.

The connection changes hands in the callback that sends the 101 (``TunnelProtocol`` in ``handover.py``). Nothing is queued
above the two transports: what one side does not take stops the other from being read. ``bridge.py`` is the plain road, for
servers and for ends of VMs that cannot do this.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from websockets.frames import Opcode

from panel.console.bridge import (
    BROWSER_STALL_SECONDS,
    UNSUPPORTED_DATA,
    VM_ENDED,
    VM_STALL_SECONDS,
    VM_STALLED,
    Closing,
    Screen,
    Traffic,
    hang_up,
    no_such_message,
)
from panel.console.frames import PROTOCOL_ERROR, FrameError, FrameReader, close, frames_of, ping, pong
from panel.console.polling import nothing
from panel.engines.consoletypes import Greeting
from panel.i18n import Text
from panel.i18n import gettext_noop as _

BROWSER_BUFFER = 256 * 1024  # bytes that wait for the browser before the VM is no longer read
VM_BUFFER = 64 * 1024  # the same the other way
GOODBYE_SECONDS = 2.0  # for a browser to take what was sent, and our goodbye
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class VmEnd:
    """The VM's side of a tunnel, as ``take_over`` leaves it: not read, and nobody's."""

    transport: asyncio.Transport
    early: bytes  # what the VM said already
    ended: bool  # that was all
    greeting: Greeting | None = None  # what the viewer is told before the VM hears of it


async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> VmEnd | None:
    """Take the transport from under a pair of streams. None when it is none of the event loop's own (an SSH channel)."""
    transport = cast(Any, getattr(writer, "transport", None))
    if not all(hasattr(transport, name) for name in ("set_protocol", "pause_reading", "writelines", "abort")):
        return None
    transport.pause_reading()
    early, ended = await _buffered(reader)
    return VmEnd(transport, early, ended or transport.is_closing(), getattr(writer, "greeting", None))


async def _buffered(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What the reader holds, and whether the other side has ended. Waits for nothing."""
    pieces: list[bytes] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            while piece := await reader.read(PIECE):
                pieces.append(piece)
            return b"".join(pieces), True
    return b"".join(pieces), False


class Tunnel:
    """A browser's connection and a VM's. ``done`` comes true with the reason why it ended."""

    def __init__(
        self,
        vm: VmEnd,
        traffic: Traffic,
        *,
        browser_stall: float = BROWSER_STALL_SECONDS,
        vm_stall: float = VM_STALL_SECONDS,
        on_message: Callable[[], None] = nothing,
    ) -> None:
        self.done: asyncio.Future[Closing] = asyncio.get_running_loop().create_future()
        self.traffic = traffic
        self.on_message = on_message
        self.stalls = (browser_stall, vm_stall)
        self._vm = vm
        self._vm_side: _VmSide | None = None
        self._browser: _BrowserSide | None = None

    @property
    def attached(self) -> bool:
        """Whether the browser's connection is ours."""
        return self._browser is not None

    def attach(
        self, transport: asyncio.Transport, lost: Callable[[Exception | None], None], ping_seconds: float | None
    ) -> None:
        """Take the browser's connection, right after the 101 was written to it. ``lost`` is told when it is gone."""
        browser = self._browser = _BrowserSide(self, transport, lost)
        vm = self._vm_side = _VmSide(self, self._vm.transport, transport)
        browser.begin(vm, ping_seconds, self._vm.greeting)
        vm.begin(browser)
        if self._vm.early:
            vm.data_received(self._vm.early)
        if self._vm.ended:
            self.end(Closing(VM_ENDED, Screen.ended))
        else:
            self._vm.transport.resume_reading()

    def end(self, closing: Closing) -> None:
        """Say goodbye to the browser after what is on its way to it, and hang up on the VM. The first reason counts."""
        if self.done.done():
            return
        self.done.set_result(closing)
        if self._vm_side is not None:
            self._vm_side.leave()
        if self._browser is not None:
            self._browser.leave(closing)


class _Side(asyncio.Protocol, ABC):
    """One of the two: what it does not take within ``stall`` seconds ends the tunnel."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, stall: float) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self._stall = stall
        self._other: _Side | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._size = 0

    def meet(self, other: _Side, buffer_bytes: int) -> None:
        """Take the transport, and be the one that ``other`` waits for."""
        self._other = other
        self.transport.set_write_buffer_limits(high=buffer_bytes)
        self.transport.set_protocol(self)

    def pause_writing(self) -> None:
        """Too much waits for this side: the other one is not read until it has gone."""
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.pause_reading()
        self._watch()

    def resume_writing(self) -> None:
        """It has gone."""
        self.calm()
        if self._other is not None and not self._other.transport.is_closing() and not self.tunnel.done.done():
            self._other.transport.resume_reading()

    def calm(self) -> None:
        """No longer wait for it to take something."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _watch(self) -> None:
        self._size = self.transport.get_write_buffer_size()
        self._waiting = asyncio.get_running_loop().call_later(self._stall, self._look)

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() < self._size:  # slow, and alive
            self._watch()
        else:
            self.stalled()

    @abstractmethod
    def stalled(self) -> None:
        """It took nothing for so long that it is given up."""


class _VmSide(_Side):
    """The VM's connection: its bytes become frames on the browser's transport."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, browser: asyncio.Transport) -> None:
        super().__init__(tunnel, transport, tunnel.stalls[1])
        self._show = browser.writelines
        self._traffic = tunnel.traffic
        self._on_message = tunnel.on_message

    def begin(self, browser: _BrowserSide) -> None:
        """From now on the VM's words come here."""
        self.meet(browser, VM_BUFFER)

    def data_received(self, data: bytes) -> None:
        self._traffic.down += len(data)
        self._show(frames_of(data))
        self._on_message()

    def eof_received(self) -> bool:
        self.tunnel.end(Closing(VM_ENDED, Screen.ended))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.calm()
        self.tunnel.end(Closing(VM_ENDED, Screen.ended))

    def stalled(self) -> None:
        self.transport.abort()
        self.tunnel.end(Closing(VM_STALLED, Screen.stalled))

    def leave(self) -> None:
        """Hang up; what the VM does not take soon is dropped."""
        self.calm()
        hang_up(self.transport)


class _BrowserSide(_Side):
    """The browser's connection, which was uvicorn's: its frames become bytes on the VM's transport."""

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport, lost: Callable[[Exception | None], None]) -> None:
        super().__init__(tunnel, transport, tunnel.stalls[0])
        self._lost = lost
        self._frames = FrameReader(self._type, self._control)
        self._traffic = tunnel.traffic
        self._on_message = tunnel.on_message
        self._write_to_vm: Callable[[bytes], None] = lambda data: None
        self._heard = True
        self._greeting: Greeting | None = None
        self._ping_seconds = 0.0
        self._pinging: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    def begin(self, vm: _VmSide, ping_seconds: float | None, greeting: Greeting | None) -> None:
        """From now on the browser's frames come here."""
        self._write_to_vm = vm.transport.write
        self._greeting = greeting
        self.meet(vm, BROWSER_BUFFER)
        self.transport.resume_reading()
        if ping_seconds:
            self._ping_seconds = ping_seconds
            self._schedule_ping()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._on_message()
        try:
            self._frames.feed(data)
        except FrameError as error:
            self.tunnel.end(no_such_message() if error.code == UNSUPPORTED_DATA else _broken())

    def eof_received(self) -> bool:
        return False  # the transport closes itself, and tells

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._pinging, self._goodbye):
            if timer is not None:
                timer.cancel()
        self.calm()
        self.tunnel.end(Closing.browser_gone())
        self._lost(exc)

    def stalled(self) -> None:
        self.tunnel.end(Closing.browser_gone())
        self.transport.abort()

    def leave(self, closing: Closing) -> None:
        """Say why, and go once that is out. A browser that does not take it is dropped."""
        self.calm()
        self._write_to_vm = lambda data: None
        if self.transport.is_closing():
            return
        self.transport.write(close(closing.code, closing.reason))
        self.transport.close()
        self._goodbye = asyncio.get_running_loop().call_later(GOODBYE_SECONDS, self.transport.abort)

    def _type(self, data: bytes) -> None:
        self._traffic.up += len(data)
        if self._greeting is not None:
            data, answer = self._greeting.hear(data)
            if answer:
                self._traffic.down += len(answer)
                self.transport.writelines(frames_of(answer))
            if not self._greeting.left:
                self._greeting = None
            if not data:
                return
        self._write_to_vm(data)

    def _control(self, opcode: Opcode, payload: bytes) -> bool:
        if opcode is Opcode.PING:
            self.transport.write(pong(payload))
        elif opcode is Opcode.CLOSE:
            self.tunnel.end(Closing.browser_gone())
        return self.tunnel.done.done()

    def _schedule_ping(self) -> None:
        self._pinging = asyncio.get_running_loop().call_later(self._ping_seconds, self._ping)

    def _ping(self) -> None:
        """A browser that did not answer the last one is gone. One that is not read, or has not got it yet, cannot answer."""
        if self.transport.is_closing():
            return
        waits = self.transport.get_write_buffer_size() > 0 or not self.transport.is_reading()
        if not self._heard and not waits:
            self.tunnel.end(Closing.browser_gone())
            self.transport.abort()
            return
        self._heard = waits
        self.transport.write(ping())
        self._schedule_ping()


def _broken() -> Closing:
    return Closing(PROTOCOL_ERROR, Text(_("These are no frames of a console.")))
