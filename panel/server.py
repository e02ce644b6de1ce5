"""Serving: uvicorn, as it was measured to be best for lists and consoles."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn

from panel.app import create_app
from panel.connections import BoundedHttpProtocol, allow_connections
from panel.console.handover import TunnelProtocol
from panel.models.database import is_full
from panel.pages.live import end_streams
from panel.settings import Settings

LOOKUP_THREADS = 128  # of libuv; half of them look up names, and a silent name server holds one for many seconds
GRACE = 2  # seconds that open requests get when the panel stops
LARGEST_MESSAGE = 1024 * 1024  # bytes; what a browser sends to a VM is small


class PanelServer(uvicorn.Server):
    """Uvicorn, which on a signal also ends the event streams: they would hold the panel for the whole grace."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGINT or SIGTERM."""
        super().handle_exit(sig, frame)
        end_streams()


def serve_forever(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    configure_logging(settings.log_level)
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(LOOKUP_THREADS))
    BoundedHttpProtocol.most = allow_connections() // 2
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        PanelServer(server_config(settings)).run()


def server_config(settings: Settings) -> uvicorn.Config:
    """The panel behind uvicorn. ``X-Forwarded-*`` are believed of ``trusted_proxies`` only."""
    return uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedHttpProtocol,
        ws=TunnelProtocol,
        ws_per_message_deflate=False,
        ws_max_size=LARGEST_MESSAGE,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or "",
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=75,
        access_log=False,
        server_header=False,
        log_level="warning",  # never debug: it would log headers, tickets included
        lifespan="on",
    )


def _name_full_disk(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A full disk in one line each time: tracebacks would help to fill it."""
    error = line.get("exc_info")
    if is_full(sys.exc_info()[1] if error is True else error if isinstance(error, BaseException) else None):
        line["exc_info"] = None
        line["reason"] = "the disk of the data folder is full"
    return line


def configure_logging(level: str) -> None:
    """Lines on the terminal: time, level, what, and on which object."""
    logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)  # a trace a second while PostgreSQL is away; we say so
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _name_full_disk,
            structlog.dev.ConsoleRenderer(
                colors=False,
                exception_formatter=structlog.dev.plain_traceback,  # the rich one prints the values of variables
            ),
        ],
    )
