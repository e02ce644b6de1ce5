"""A browser without a screen: what it does to a console, over a real connection."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from panel.services.consoles import Purpose
from tests.console.kit import Panel


async def fresh(panel: Panel) -> str:
    """A socket ticket of the panel's login."""
    return await panel.consoles.issue(panel.actor, panel.vm, Purpose.SOCKET)


def dial(
    panel: Panel, place: str, ticket: str, *, origin: str | None = "", path: str = "", **options: Any
) -> AbstractAsyncContextManager[ClientConnection]:
    """Open the websocket as ``console.js`` does; ``origin`` empty means the panel's own."""
    return connect(
        f"ws://{place}{path or panel.path}/socket",
        subprotocols=["binary", f"ticket.{ticket}"],  # type: ignore[list-item]
        origin=f"http://{place}" if origin == "" else origin,  # type: ignore[arg-type]
        compression="deflate",  # offered, as browsers do; the server must decline
        **options,
    )


async def read(socket: ClientConnection, count: int, seconds: float = 5) -> bytes:
    """At least ``count`` bytes from the screen."""
    got = b""
    async with asyncio.timeout(seconds):
        while len(got) < count:
            data = await socket.recv()
            assert isinstance(data, bytes)
            got += data
    return got


async def closing(socket: ClientConnection, seconds: float = 5) -> tuple[int, str]:
    """Read until the server closes; its code and reason."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                await socket.recv()
    except ConnectionClosed:
        return socket.close_code or 1006, socket.close_reason or ""
