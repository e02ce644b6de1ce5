"""A double on a port of 127.0.0.1, in a thread with an event loop of its own: tests hold the state in their hands meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn
from quart import Quart


@contextmanager
def served(app: Quart, *, port: int = 0, pem: Path | None = None, socket: Path | None = None) -> Iterator[str]:
    """Its base URL. ``pem``: a key and its certificate, for TLS. ``socket``: a unix socket in place of a port, and of the URL."""
    config = uvicorn.Config(app, "127.0.0.1", port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.uds = str(socket) if socket else None
    if pem is not None:
        config.ssl_certfile = str(pem)
    server = uvicorn.Server(config)
    ready = threading.Event()

    async def main() -> None:
        serving = asyncio.ensure_future(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready.set()
        await serving

    def run() -> None:
        with suppress(SystemExit):
            asyncio.run(main())

    thread = threading.Thread(target=run, name="double", daemon=True)
    thread.start()
    assert ready.wait(30), "the double does not start"
    assert server.started, f"port {port} is taken"
    bound = server.servers[0].sockets[0].getsockname()
    try:
        yield bound if socket else f"{'https' if pem else 'http'}://127.0.0.1:{bound[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
