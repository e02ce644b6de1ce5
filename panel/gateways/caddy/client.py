"""Caddy's admin API on its unix socket. The only place that sees its errors, and those of the HTTP library."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx2

from panel.errors import EngineFailure, EngineTimeout, HostUnreachable, PanelError
from panel.gateways.caddy.config import ORIGIN
from panel.i18n import gettext_noop as _

LOOK_SECONDS = 5.0
LOAD_SECONDS = 30.0  # a load waits for listeners and for what it provisions
LISTEN = re.compile(r"listen(?:ing on)?\s*(?:tcp|udp)?[^:]*:(\d+)")


class CaddyClient:
    """One Caddy. Every method raises ``HostUnreachable`` when nobody answers on the socket, ``EngineTimeout`` when it takes too
    long, ``EngineFailure`` when Caddy refuses."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def config(self) -> Any:
        """What it serves now; None when it has no configuration."""
        return (await self._ask("GET", "/config/", LOOK_SECONDS)).json()

    async def load(self, config: dict[str, Any]) -> None:
        """Serve this instead, whole or not at all."""
        await self._ask("POST", "/load", LOAD_SECONDS, config)

    async def stop(self) -> None:
        """End the process; answers before it has ended."""
        await self._ask("POST", "/stop", LOOK_SECONDS)

    async def _ask(self, method: str, path: str, seconds: float, body: Any = None) -> httpx2.Response:
        transport = httpx2.AsyncHTTPTransport(uds=str(self._socket))
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            async with httpx2.AsyncClient(transport=transport, timeout=seconds) as client:
                answer = await client.request(method, f"http://{ORIGIN}{path}", content=content, headers=headers)
        except httpx2.TimeoutException:
            raise EngineTimeout(
                _("{program} did not end within {seconds} s. Look at the host's load."),
                program="caddy", seconds=seconds,
            ) from None  # fmt: skip
        except (httpx2.TransportError, OSError):
            raise HostUnreachable(_("The proxy (Caddy) does not run, or does not answer on its socket.")) from None
        if answer.is_success:
            return answer
        raise refusal(_reason(answer))


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def refusal(reason: str) -> PanelError:
    """What Caddy's refusal means, with the mend."""
    found = LISTEN.search(reason)
    port = found[1] if found else "?"
    if "address already in use" in reason:
        return EngineFailure(
            _(
                "Port {port} is taken by another program of this machine. Stop that, or choose another with "
                "PANEL_PROXY_HTTP_PORT and PANEL_PROXY_HTTPS_PORT."
            ),
            port=port,
        )
    if "permission denied" in reason and found:
        return EngineFailure(
            _("The proxy may not listen on port {port}: it needs root or CAP_NET_BIND_SERVICE."), port=port
        )
    return EngineFailure(_("The proxy (Caddy) refused its configuration: {reason}"), reason=reason[-300:])
