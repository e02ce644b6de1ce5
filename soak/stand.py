"""A panel under fire: a real process on the fake engine, and somebody ordinary who keeps asking it for the list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from soak.report import Report
from tests.process import PanelProcess

SMALL = {"os_name": "Debian 12", "cpu_num": 1, "ram_num": 512, "hdd_num": 4}
PATIENCE = 10.0  # seconds that the ordinary user may wait on a machine with two busy cores


@contextmanager
def stand(
    folder: Path,
    *,
    vms: int = 1,
    module: str = "panel",
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> Iterator[PanelProcess]:
    """A panel with host ``host1``, which has ``vms`` running VMs ``vm-0001`` ... and keeps its world in ``world.json``."""
    panel = PanelProcess(folder, fake_engine="1", observe_seconds="1", log_level="warning", **settings)
    panel.module = module
    panel.under(**(environment or {}))
    panel.start()
    try:
        add_host(panel, vms)
        yield panel
    finally:
        panel.kill()


def add_host(panel: PanelProcess, vms: int) -> None:
    """Host ``host1``, with all of its VMs adopted."""
    body = {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "w", "vms": str(vms),
            "state_file": str(panel.folder / "world.json")}  # fmt: skip
    panel.ok("POST", "/api/server/create", body)
    panel.until("/api/server/detail/host1", lambda host: host["health"] == "online", 20)
    if vms:
        panel.ok("POST", "/api/client/scaner/host1?wait=30")


@dataclass(slots=True)
class Ordinary:
    """What somebody ordinary met: the seconds of each answer, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)


@asynccontextmanager
async def ordinary(panel: PanelProcess, report: Report, what: str) -> AsyncIterator[Ordinary]:
    """Ask for the list of VMs again and again, each time on a new connection; at the end it must always have been answered."""
    met = Ordinary()

    async def keep_asking() -> None:
        while True:
            began = time.monotonic()
            try:
                status = await ask(panel, "GET", "/api/client/detail/host1")
                if status != 200:
                    met.troubles.append(str(status))
            except (httpx2.HTTPError, OSError) as error:
                met.troubles.append(type(error).__name__)
            met.seconds.append(time.monotonic() - began)
            await asyncio.sleep(0.2)

    asking = asyncio.create_task(keep_asking())
    try:
        yield met
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    good = bool(met.seconds) and not met.troubles and met.longest < PATIENCE
    trouble = f", {', '.join(sorted(set(met.troubles)))}" if met.troubles else ""
    report.hold(f"others are served: {what}", good, f"{len(met.seconds)} answers, longest {met.longest:.2f} s{trouble}")


async def ask(panel: PanelProcess, method: str, path: str, body: Any = None, *, seconds: float = PATIENCE) -> int:
    """The status of an ordinary request on a connection of its own."""
    async with httpx2.AsyncClient(trust_env=False, timeout=seconds) as client:
        headers = {"Authorization": f"Bearer {panel.token}"}
        return (await client.request(method, panel.url + path, json=body, headers=headers)).status_code


@contextmanager
def bounded(panel: PanelProcess, report: Report, what: str, most_mib: float) -> Iterator[None]:
    """The panel's memory grows by at most ``most_mib`` within, and its log has no traceback."""
    before, said = panel.memory_mib(), panel.log.stat().st_size
    yield
    grown = panel.memory_mib() - before
    report.hold(f"memory is bounded: {what}", grown < most_mib, f"{grown:+.0f} MiB of {most_mib:.0f}")
    text = panel.log.read_bytes()[said:].decode("utf-8", "replace")
    report.hold(f"no traceback: {what}", "Traceback" not in text, text[-2000:] if "Traceback" in text else "")
