"""Quart's websocket connection, bounded: what a peer sends faster than the handler reads stays with the peer.

Quart queues incoming messages without bound, and drops dead on an empty binary one (``KeyError: 'text'``). The app sets
``app.asgi_websocket_class = BoundedWebsocketConnection``; every websocket route of the panel then gets both mends.
Read against Quart 0.22.0 and uvicorn 0.54.0; ``tests/console/test_floods.py`` fails when a newer one changes under it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart.asgi import ASGIWebsocketConnection
from quart.signals import websocket_received
from quart.utils import cancel_tasks, raise_task_exceptions

QUEUE_MESSAGES = 2
CLOSE_SECONDS = 2.0  # how long a peer that does not read may hold up our goodbye


class BoundedWebsocketConnection(ASGIWebsocketConnection):
    """As Quart's, but at most ``QUEUE_MESSAGES`` wait: then ``receive()`` is not called, and uvicorn stops reading."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = asyncio.Queue(QUEUE_MESSAGES)

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """As Quart's, but a cancelled call (the server stops) takes the handler with it."""
        websocket = self._create_websocket_from_scope(send)
        tasks = {
            asyncio.ensure_future(self.handle_messages(receive)),
            asyncio.ensure_future(self.handle_websocket(websocket, send)),
        }
        try:
            done, _pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_tasks({task for task in tasks if not task.done()})
        raise_task_exceptions(done)

    async def handle_messages(self, receive: ASGIReceiveCallable) -> None:
        """Pass messages on until the peer is gone; an empty message is a message."""
        while True:
            event = cast("dict[str, Any]", await receive())
            if event["type"] == "websocket.disconnect":
                return
            if event["type"] == "websocket.receive":
                data = event.get("bytes")
                message = data if data is not None else event.get("text") or ""
                await websocket_received.send_async(message)
                await self.queue.put(message)

    async def close_connection(self, send: ASGISendCallable, code: int, reason: str) -> None:
        """Say goodbye within a limit: uvicorn holds even a close back while the peer does not read."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await super().close_connection(send, code, reason)
        except TimeoutError:
            self._closed = True  # or Quart would try once more after the handler, without a limit
            abort(send)


def abort(send: ASGISendCallable) -> None:
    """Drop the TCP connection behind ``send`` at once, where the server lets us reach it (uvicorn does)."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        cast("asyncio.WriteTransport", transport).abort()
