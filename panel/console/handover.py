"""Uvicorn's websocket protocol, which hands a connection over: the ASGI extension ``openidcs.tunnel``.

A route that was asked for a console finds it in its scope, offers a ``Tunnel``, and accepts: the connection is the tunnel's from
the 101 on. Read against uvicorn 0.54, whose internals this relies on; ``tests/console`` fails when they change. Under another
server the extension is not there, and the route takes the plain road.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from panel.console.bridge import Closing
from panel.console.relaywire import RESTART
from panel.i18n import Text

EXTENSION = "openidcs.tunnel"


class Road(Protocol):
    """What a connection may be handed to: ``Tunnel``, ``RelayedTunnel``. ``done`` comes true with the reason of its end."""

    @property
    def done(self) -> asyncio.Future[Closing]: ...
    @property
    def attached(self) -> bool: ...
    def attach(
        self, transport: asyncio.Transport, lost: Callable[[Exception | None], None], ping_seconds: float | None
    ) -> None: ...
    def end(self, closing: Closing) -> None: ...


class TunnelProtocol(WebSocketsSansIOProtocol):
    """A websocket connection that a route may put a tunnel into."""

    _tunnel: Road | None = None

    def handle_connect(self, event: Request) -> None:
        """As uvicorn's; what was not agreed to be compressed can be tunnelled."""
        super().handle_connect(event)
        if not self.handshake_complete and not self.conn.extensions:
            cast("dict[str, Any]", self.scope["extensions"])[EXTENSION] = self._offer

    def _offer(self, tunnel: Road) -> None:
        self._tunnel = tunnel

    async def send(self, message: Any) -> None:
        """As uvicorn's until the connection is handed over; then only a close has a meaning."""
        tunnel, kind = self._tunnel, message["type"]
        if tunnel is not None and tunnel.attached:
            if kind != "websocket.close":
                raise RuntimeError(f"The connection is a tunnel's; it takes no {kind}.")
            tunnel.end(Closing(message.get("code", 1000), Text("")))
            return
        await super().send(message)
        if tunnel is not None and kind == "websocket.accept" and self.handshake_complete and not self.disconnected:
            self._hand_over(tunnel)

    def _hand_over(self, tunnel: Road) -> None:
        self.stop_keepalive()
        too_early = bool(self.conn.reader.buffer) or self.read_paused  # it spoke before it was let in
        tunnel.attach(self.transport, super().connection_lost, self.ping_interval)
        if too_early:
            tunnel.end(Closing(1002, Text("")))

    def shutdown(self) -> None:
        """The server stops."""
        if self._tunnel is not None and self._tunnel.attached:
            self._tunnel.end(Closing(RESTART, Text("")))
        else:
            super().shutdown()
