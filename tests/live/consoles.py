"""A program at a VM's console, by the road that a browser takes: the API's link, a socket ticket, the websocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from websockets.asyncio.client import ClientConnection, connect

from tests.console.browser import closing
from tests.process import PanelProcess


@asynccontextmanager
async def console(panel: PanelProcess, path: str, kind: str = "vnc") -> AsyncIterator[ClientConnection]:
    """The open websocket of the console of ``path`` (``/HOST/VM``)."""
    link = panel.ok("GET", f"/api/client/remote{path}")["url"]
    origin = {"Origin": panel.url}
    with httpx2.Client(follow_redirects=True, timeout=30) as browser:
        browser.get(panel.url + link[link.index("/console/") :]).raise_for_status()
        given = browser.post(f"{panel.url}/console{path}/ticket", data={"kind": kind}, headers=origin)
        ticket = given.json()["data"]["ticket"]
    async with connect(
        f"ws://127.0.0.1:{panel.port}/console{path}/socket",
        subprotocols=["binary", f"ticket.{ticket}"],  # type: ignore[list-item]
        origin=panel.url,  # type: ignore[arg-type]
    ) as socket:
        yield socket


async def closed_by(panel: PanelProcess, path: str, kind: str = "vnc") -> tuple[int, str]:
    """With which code and words a console ends that cannot be opened."""
    async with console(panel, path, kind) as socket:
        return await closing(socket, 30)
