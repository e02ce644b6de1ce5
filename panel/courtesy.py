"""Requests first: what works in the background waits for a moment while somebody waits for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 0.25  # seconds for which others wait for a request: what takes longer waits for something itself
PATIENCE = 0.03  # seconds that one piece of background work waits at most: under any load it goes on


class Courtesy:
    """Shared by the server, which says when a request is served, and by who works in the background, piece by piece."""

    def __init__(self) -> None:
        self._served: set[object] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turn = asyncio.Lock()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """A request is served within this."""
        request = object()
        self._served.add(request)
        self._idle.clear()
        over = asyncio.get_running_loop().call_later(LONGEST, self._leave, request)
        try:
            yield
        finally:
            over.cancel()
            self._leave(request)

    def _leave(self, request: object) -> None:
        self._served.discard(request)
        if not self._served:
            self._idle.set()

    async def give_way(self) -> None:
        """Before a piece of background work: let the loop go round, and requests be answered first. Pieces come one by one,
        so that those that waited do not all fall upon the next request together."""
        await asyncio.sleep(0)
        if not self._served and not self._turn.locked():
            return
        async with self._turn:
            try:
                async with asyncio.timeout(PATIENCE):
                    while self._served:
                        await self._idle.wait()
            except TimeoutError:
                return
