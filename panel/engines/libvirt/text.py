"""The VM's serial port as a text console: libvirt's stream, which works over every kind of connection.

Each console has a connection of its own: libvirtd reads no more from one whose guest does not take what is typed, and
that must not hold up the host's other calls. To us libvirt reads on whatever we take, so that a guest that floods would
fill our memory: the oldest of what nobody has read is dropped, as a real serial line does, and the reader is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import libvirt

from panel.engines.consoletypes import TextSize, TextStream, TextTarget
from panel.engines.libvirt.client import Client
from panel.engines.libvirt.domain import read_domain
from panel.engines.libvirt.failures import is_code
from panel.engines.libvirt.observe import power_state
from panel.engines.types import PowerState
from panel.errors import Conflict, EngineTimeout, PanelError, Taken

PIECE = 64 * 1024
BACKLOG_BYTES = 256 * 1024
PIECES_PER_TURN = 8  # of libvirt's event thread, which all hosts share
WRITE_SECONDS = 15.0
RETRY_SECONDS = 0.01
CLOSE_SECONDS = 1.5
WOULD_BLOCK = -2  # instead of a number of bytes
_GONE = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP


async def target(client: Client, ref: str) -> TextTarget:
    """The serial console of ``ref``. ``Conflict`` says why there is none."""
    await client.domain(ref, _check)

    async def dial(_size: TextSize, take_over: bool) -> TextStream:
        stream = SerialText(client.uri, client.name)
        try:
            await stream.open(ref, take_over)
        except BaseException:
            await stream.close()
            raise
        return stream

    return TextTarget(dial, resizes=False)


def _check(domain: Any) -> None:
    if power_state(domain.state()[0]) not in {PowerState.RUNNING, PowerState.SUSPENDED}:
        raise Conflict("The VM is off, so nothing answers on its serial port. Start it first.")
    serial = read_domain(domain.XMLDesc(0)).serial
    if not serial:
        raise Conflict("The VM was defined without a serial port. Add one of type pty in libvirt.")
    if serial != "pty":
        raise Conflict(
            "The VM's serial port is of type {kind}, and the text console needs pty. Change it in libvirt.", kind=serial
        )


class Backlog:
    """What the guest showed and nobody has read: the newest ``BACKLOG_BYTES`` at most. Filled by another thread."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._dropped = 0
        self._lock = threading.Lock()

    def put(self, data: bytes) -> None:
        """Add; what is too much goes, from the oldest on."""
        with self._lock:
            self._held += data
            if len(self._held) > BACKLOG_BYTES:
                surplus = len(self._held) - BACKLOG_BYTES // 2
                line = self._held.find(b"\n", surplus)
                surplus = surplus if line < 0 else line + 1
                del self._held[:surplus]
                self._dropped += surplus

    def take(self) -> bytes:
        """The next piece, at most ``PIECE``; a line that tells how much was dropped comes first."""
        with self._lock:
            if self._dropped:
                notice = f"\x1b[0m\r\n[... {self._dropped} bytes were not shown ...]\r\n".encode()
                self._dropped = 0
                return notice
            data = bytes(self._held[:PIECE])
            del self._held[:PIECE]
            return data


class SerialText:
    """A ``TextStream`` of a VM's serial port."""

    def __init__(self, uri: str, host: str) -> None:
        self._client = Client(uri, host)
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()
        self._more = asyncio.Event()
        self._ended = False
        self._stream: Any = None

    async def open(self, ref: str, take_over: bool) -> None:
        """Connect. ``Conflict`` when somebody else has it open, unless ``take_over``."""

        def work(conn: Any) -> None:
            domain = conn.lookupByUUIDString(ref)
            stream = conn.newStream(libvirt.VIR_STREAM_NONBLOCK)
            flags = libvirt.VIR_DOMAIN_CONSOLE_FORCE if take_over else 0
            try:
                domain.openConsole(None, stream, flags)
            except libvirt.libvirtError as error:
                if is_code(error, libvirt.VIR_ERR_OPERATION_FAILED):
                    raise Taken("Somebody else has the text console of this VM open.") from None
                raise
            events = libvirt.VIR_STREAM_EVENT_READABLE | _GONE
            self._stream = stream
            stream.eventAddCallback(events, self._ready, None)

        await self._client.call(work, settle=True)

    async def read(self) -> bytes:
        """As ``TextStream``."""
        while True:
            ended = self._ended
            self._more.clear()
            if data := self._backlog.take():
                return data
            if ended:
                return b""
            await self._more.wait()

    async def write(self, data: bytes) -> None:
        """As ``TextStream``."""
        if self._ended:
            raise ConnectionResetError
        try:
            await self._client.call(lambda _conn: self._send(data), seconds=WRITE_SECONDS)
        except EngineTimeout as error:
            raise TimeoutError from error
        except PanelError as error:
            raise ConnectionResetError from error

    async def resize(self, size: TextSize) -> None:
        """Nothing: a serial port has no size."""

    async def close(self) -> None:
        """As ``TextStream``."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            with contextlib.suppress(PanelError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._client.call(lambda _conn: _hang_up(stream))
            del stream
        self._end()
        await self._client.close()

    def _send(self, data: bytes) -> None:
        """In a worker thread: all of it, or an error."""
        deadline = time.monotonic() + WRITE_SECONDS
        while data:
            stream = self._stream
            if stream is None or time.monotonic() > deadline:
                raise Conflict("The text console was closed.")
            sent = stream.send(data)
            if sent == WOULD_BLOCK:
                time.sleep(RETRY_SECONDS)
            else:
                data = data[sent:]

    def _ready(self, stream: Any, events: int, _opaque: object) -> None:
        """In libvirt's event thread: take what is there."""
        ended = False
        try:
            for _ in range(PIECES_PER_TURN):
                data = stream.recv(PIECE)
                if data == WOULD_BLOCK:
                    ended = bool(events & _GONE)
                    break
                if not data:
                    ended = True
                    break
                self._backlog.put(data)
        except libvirt.libvirtError:
            ended = True
        if ended:
            with contextlib.suppress(libvirt.libvirtError):
                stream.eventRemoveCallback()
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._end if ended else self._more.set)

    def _end(self) -> None:
        self._ended = True
        self._more.set()


def _hang_up(stream: Any) -> None:
    for step in (stream.eventRemoveCallback, stream.abort):
        with contextlib.suppress(libvirt.libvirtError):
            step()
