"""The panel's console roads without its logins: ``python -m benchmarks.consoleroute PORT BACKEND_PORT relay|tunnel|plain``.

The same functions as in ``panel/console/routes.py``, in the same order: dial the VM, offer the tunnel, accept, wait.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import uvicorn
from quart import Quart, websocket

from panel.console.bridge import Screen, Traffic, bridge, hang_up
from panel.console.handover import EXTENSION, Road, TunnelProtocol
from panel.console.relay import Relay, RelayedTunnel
from panel.console.tunnel import Tunnel, take_over
from panel.console.websocket import BoundedWebsocketConnection
from panel.services.consoleways import READ_LIMIT

app = Quart(__name__)
app.asgi_websocket_class = BoundedWebsocketConnection
backend = 0
relay: Relay | None = None


@app.websocket("/websockify")
async def console() -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", backend, limit=READ_LIMIT)
    traffic = Traffic()
    offer = cast("dict[str, Any]", websocket.scope["extensions"]).get(EXTENSION)
    end = await take_over(reader, writer) if offer is not None else None
    try:
        if end is not None:
            tunnel: Road = Tunnel(end, traffic) if relay is None else RelayedTunnel(relay, end, traffic)
            offer(tunnel)
            await websocket.accept(subprotocol="binary")
            await asyncio.shield(tunnel.done)
        else:
            await websocket.accept(subprotocol="binary")
            await bridge(websocket, Screen(reader, writer), asyncio.get_running_loop().create_future(), traffic)
    finally:
        hang_up(writer)


def main() -> None:
    global backend, relay  # noqa: PLW0603 - a program of one file
    port, backend = int(sys.argv[1]), int(sys.argv[2])
    relay = Relay() if sys.argv[3] == "relay" else None
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio" if sys.argv[3] == "plain" else TunnelProtocol,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
