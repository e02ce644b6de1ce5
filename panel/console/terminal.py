"""The text console's side of the bridge: a terminal's bytes in binary messages, and three things to say in text ones.

To the browser, once: ``{"resizes": true}``. From it: ``{"resize": [columns, rows]}``, and ``{"shown": n}`` for the bytes that
it has drawn since it last said so. A browser queues what comes over a websocket without bound: so no more than ``WINDOW`` is on
its way undrawn. A tab in the background draws slowly, and its guest waits, as for a terminal that was stopped.
"""

from __future__ import annotations

import asyncio

from panel.console.bridge import heard
from panel.engines.consoletypes import TextSize, TextStream
from panel.i18n import Text
from panel.i18n import gettext_noop as _

WINDOW = 256 * 1024
LARGEST = 1000  # columns or rows


class Terminal:
    """A ``bridge.Guest`` over an engine's ``TextStream``."""

    piece = 4 * 1024  # a slow serial line takes this much long before it counts as stalled
    ended = Text(_("The shell or the VM's serial port was closed."))
    stalled = Text(_("The VM's terminal takes no input."))

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._undrawn = 0
        self._room = asyncio.Event()
        self._room.set()

    async def read(self) -> bytes:
        """The next of what the guest shows, once the browser has drawn what it got."""
        await self._room.wait()
        data = await self._stream.read()
        self._undrawn += len(data)
        self._update()
        return data

    async def write(self, data: bytes) -> None:
        """What was typed."""
        await self._stream.write(data)

    async def control(self, message: str) -> bool:
        """A text message of the browser's; false when it is none of ours."""
        match heard(message):
            case {"resize": [int() as columns, int() as rows]} if 0 < columns <= LARGEST and 0 < rows <= LARGEST:
                await self._stream.resize(TextSize(columns, rows))
            case {"shown": int() as count} if 0 <= count <= self._undrawn:
                self._undrawn -= count
                self._update()
            case _:
                return False
        return True

    async def close(self) -> None:
        """Hang up."""
        await self._stream.close()

    def _update(self) -> None:
        if self._undrawn < WINDOW:
            self._room.set()
        else:
            self._room.clear()


def size_of(columns: str, rows: str) -> TextSize:
    """The size that a browser asks for; the usual one when it makes no sense."""
    if columns.isascii() and rows.isascii() and columns.isdigit() and rows.isdigit():
        wanted = TextSize(int(columns[:5]), int(rows[:5]))
        if 0 < wanted.columns <= LARGEST and 0 < wanted.rows <= LARGEST:
            return wanted
    return TextSize()
