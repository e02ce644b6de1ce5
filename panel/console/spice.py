"""A SPICE screen's side of the bridge: all its channels over the one websocket that its ticket opened.

SPICE has a connection for each channel (main, display, inputs, cursor and more). A binary message is one byte, the channel's
number, and what that channel says; with nothing after the number, the VM hung up on that channel. From the browser, in text
messages: ``{"open": n}`` for the next one, from 0 on, and ``{"close": n}``. Channel 0 is the main one: its end ends all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from panel.console.bridge import FRAME_BYTES, heard
from panel.engines.consoletypes import SpiceChannel, SpiceSession
from panel.errors import PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _

MOST_CHANNELS = 16  # that a viewer may open, in all: QEMU offers eight, more with several screens
MAIN = 0


class SpiceScreen:
    """A ``bridge.Guest`` over an engine's ``SpiceSession``."""

    piece = 2**31  # a message is one channel's, and not cut: the server takes none above 1 MiB
    ended = Text(_("The VM closed its screen."))
    stalled = Text(_("The VM's screen takes no input."))

    def __init__(self, session: SpiceSession) -> None:
        self._session = session
        self._channels: list[SpiceChannel | None] = []  # by number; None: it was closed
        self._pumps: set[asyncio.Task[None]] = set()
        self._said: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(1)

    async def read(self) -> bytes:
        """The next piece that any channel has to say; they wait for one another."""
        number, data = await self._said.get()
        if number == MAIN and not data:
            return b""
        return bytes((number,)) + data

    async def write(self, data: bytes) -> None:
        """A message of the browser's, for one channel. What comes for a channel that just ended is dropped."""
        if not data or data[0] >= len(self._channels):
            raise ConnectionResetError
        channel = self._channels[data[0]]
        if channel is None:
            return
        try:
            await channel.write(data[1:])
        except OSError:
            if data[0] == MAIN:
                raise
            await self._hang_up(data[0])

    async def control(self, message: str) -> bool:
        """A text message of the browser's; false when it is none of ours, or a channel too many."""
        match heard(message):
            case {"open": int() as number} if number == len(self._channels) and number < MOST_CHANNELS:
                await self._open(number)
            case {"close": int() as number} if 0 <= number < len(self._channels):
                await self._hang_up(number)
            case _:
                return False
        return True

    async def close(self) -> None:
        """Hang up on all of them."""
        for pump in self._pumps:
            pump.cancel()
        await self._session.close()

    async def _open(self, number: int) -> None:
        try:
            channel = await self._session.channel()
        except PanelError as error:  # it is told as a channel that the VM hung up on
            self._channels.append(None)
            if number == MAIN:
                raise ConnectionResetError from error
            self._start(self._said.put((number, b"")))
            return
        self._channels.append(channel)
        self._start(self._pump(number, channel))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)

    async def _pump(self, number: int, channel: SpiceChannel) -> None:
        """What a channel says, until it ends; that is said too."""
        while True:
            try:
                data = await channel.read()
            except OSError:
                data = b""
            for start in range(0, len(data), FRAME_BYTES - 1):
                await self._said.put((number, data[start : start + FRAME_BYTES - 1]))
            if not data:
                break
        await self._said.put((number, b""))
        await self._hang_up(number)

    async def _hang_up(self, number: int) -> None:
        channel, self._channels[number] = self._channels[number], None
        if channel is not None:
            await channel.close()
