"""The panel as ``openidcs serve`` serves it, and beside it a clock: ``python -m benchmarks.server``.

Each answer says in ``Server-Timing`` how long the server had it: ``wall`` and ``cpu`` milliseconds, the CPU time that of
the whole process, so what the observer does meanwhile is in it. ``GET /_bench`` tells of the process since the last
``GET /_bench?reset``. ``BENCH_SCREENS`` is a port where the fake VMs' screens are.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import orjson
from tortoise import connections

from panel import server
from panel.app import create_app
from panel.engines.consoletypes import ConsoleTarget, TcpTarget
from panel.engines.fake.engine import FakeEngine
from panel.settings import load_settings

TICK = 0.002  # seconds between two looks at the loop


class Clock:
    """An ASGI application around the panel's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._app = inner.asgi_app
        self._services = inner.extensions["panel"]
        self._services.observer.rounds.append(self._round)
        self._ticker: asyncio.Task[None] | None = None
        self._reset()

    def _reset(self, written: int = 0) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()
        self._rounds: dict[int, int] = {}
        self._gap_cpu = self._gap_wall = 0.0
        self._written = written

    def _round(self, host_id: int) -> None:
        self._rounds[host_id] = self._rounds.get(host_id, 0) + 1

    async def _tick(self) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            then_wall, then_cpu = time.perf_counter(), time.thread_time()
            self._gap_wall = max(self._gap_wall, then_wall - wall - TICK)
            self._gap_cpu = max(self._gap_cpu, then_cpu - cpu)
            wall, cpu = then_wall, then_cpu

    async def _tell(self, *, reset: bool) -> bytes:
        changes = await connections.get("default").execute_query_dict("SELECT total_changes() AS n")
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        told = orjson.dumps({
            "seconds": time.perf_counter() - self._began,
            "cpu": time.process_time() - self._cpu,
            "rounds": sum(self._rounds.values()),
            "hosts": len(self._rounds),
            "gap_cpu_ms": 1000 * self._gap_cpu,
            "gap_wall_ms": 1000 * self._gap_wall,
            "rows_written": changes[0]["n"] - self._written,
            "resident_mib": int(resident.split()[1]) / 1024,
        })  # fmt: skip
        if reset:
            self._reset(changes[0]["n"])
        return told

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._ticker is None:
            self._ticker = asyncio.create_task(self._tick())
        if scope["type"] != "http":
            return await self._inner(scope, receive, send)
        if scope["path"] == "/_bench":
            body = await self._tell(reset=scope["query_string"] == b"reset")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            return await send({"type": "http.response.body", "body": body})
        wall, cpu = time.perf_counter(), time.process_time()

        async def timed(message: Any) -> None:
            if message["type"] == "http.response.start":
                spent = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
                value = "wall;dur={:.3f}, cpu;dur={:.3f}".format(*spent)
                message["headers"] = [*message["headers"], (b"server-timing", value.encode())]
            await send(message)

        return await self._inner(scope, receive, timed)


def screens_at(port: int) -> None:
    """Every fake VM's screen is behind this port, in another process."""

    async def console(_engine: FakeEngine, _ref: str) -> ConsoleTarget:
        return TcpTarget("127.0.0.1", port)

    FakeEngine.console = console  # type: ignore[method-assign]


if __name__ == "__main__":
    if port := os.environ.get("BENCH_SCREENS"):
        screens_at(int(port))
    server.create_app = lambda settings: Clock(create_app(settings))  # type: ignore[assignment]
    server.serve_forever(load_settings())
