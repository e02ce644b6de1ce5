"""Somebody at a text console: types, and waits for what he wants to see."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from panel.engines.base import Engine
from panel.engines.consoletypes import TextSize, TextStream

SEEN_BYTES = 1024 * 1024


class Terminal:
    """Reads an open text console all the time, so that nothing waits for the test."""

    def __init__(self, stream: TextStream) -> None:
        self.stream = stream
        self.seen = bytearray()
        self.ended = False
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while data := await self.stream.read():
                assert len(data) <= 64 * 1024
                self.seen = (self.seen + data)[-SEEN_BYTES:]
                self._more.set()
        except OSError:
            pass
        finally:
            self.ended = True
            self._more.set()

    async def type(self, text: str | bytes) -> None:
        """What is typed."""
        await self.stream.write(text.encode() if isinstance(text, str) else text)

    async def until(self, pattern: str, seconds: float = 20.0) -> re.Match[bytes]:
        """Wait for a regular expression, and forget all that came up to it."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := re.search(pattern.encode(), bytes(self.seen))):
                    assert not self.ended, f"ended before {pattern!r}: {bytes(self.seen[-500:])!r}"
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} within {seconds} s: {bytes(self.seen[-500:])!r}") from None
        del self.seen[: found.end()]
        return found

    async def until_end(self, seconds: float = 10.0) -> None:
        """Wait for the console's end."""
        async with asyncio.timeout(seconds):
            await asyncio.wait({self._task})

    async def run(self, command: str, pattern: str, seconds: float = 20.0) -> re.Match[bytes]:
        """Type a command and wait for what it answers, between marks that the command's echo does not have."""
        mark = uuid4().hex[:8]
        await self.type(f"{command}\recho {mark[:4]}''{mark[4:]}\r")
        return await self.until(rf"(?s){pattern}.*?{mark}", seconds)

    async def close(self) -> None:
        """Hang up."""
        await self.stream.close()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def terminal(
    engine: Engine, ref: str, size: TextSize | None = None, *, take_over: bool = False
) -> AsyncIterator[Terminal]:
    """An open text console, closed afterwards."""
    target = await engine.text_console(ref)
    made = Terminal(await target.open(size or TextSize(), take_over))
    try:
        yield made
    finally:
        await made.close()
