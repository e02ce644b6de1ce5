"""Bodies of requests that wait: Quart takes what comes as fast as it comes, whether or not anybody reads it.

What is not read yet stays within ``WAITING``; then the client waits, by way of uvicorn, which stops reading. Read
against Quart 0.22.
"""

from __future__ import annotations

import asyncio
from typing import Any

from quart.asgi import ASGIHTTPConnection
from quart.wrappers import Request
from quart.wrappers.request import Body

WAITING = 4 * 1024**2  # bytes; more than a body may have that is read whole (errorpages.LARGEST_BODY)


class BoundedBody(Body):
    """A body that tells when there is room for more."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        super().__init__(expected_content_length, max_content_length)
        self._read = asyncio.Event()

    async def __anext__(self) -> bytes:
        data = await super().__anext__()
        self._read.set()
        return data

    async def room(self) -> None:
        """Wait until what has come was read, when that is much."""
        while len(self._data) > WAITING and not self._complete.is_set():
            self._read.clear()
            await self._read.wait()


class BoundedHttpConnection(ASGIHTTPConnection):
    """As Quart's, but it takes no more of a body than somebody reads."""

    async def handle_messages(self, request: Request, receive: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            if message["type"] == "http.request":
                request.body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    request.body.set_complete()
                if isinstance(request.body, BoundedBody):
                    await request.body.room()
