"""The clock jumps, forwards and back, under a running panel (``soak.shifted``): it goes on, and nobody is in or out for longer
than the settings say."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2

from soak.report import Report
from soak.stand import SMALL, stand
from soak.wire import Login, connected, console, greet, head
from tests.process import PanelProcess

PAGES = ("/", "/hosts", "/vms", "/tasks", "/logs", "/settings", "/hosts/host1", "/hosts/host1/vms/vm-0001",
         "/hosts/host1/vms/vm-0001?tab=usage", "/api/system/tasker", "/metrics")  # fmt: skip
DAY = 86_400
JUMPS = (("a day forwards", DAY), ("back to now", 0), ("a month back", -30 * DAY), ("a year forwards", 365 * DAY),
         ("back to now again", 0))  # fmt: skip
WAIT = 30  # seconds that failed logins count


class Clock:
    """The panel's wall clock: ours and an offset."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.turn(0)

    def turn(self, offset: int) -> None:
        """``offset`` seconds from the true time, from now on."""
        scratch = self.file.with_suffix(".new")
        scratch.write_text(str(offset))
        scratch.replace(self.file)


async def run(folder: Path, _seconds: float, _seed: int) -> Report:
    """All jumps, once: about 15 s, whatever time there is."""
    report = Report("clock")
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder)
    settings = {"login_attempts": "3", "login_wait": str(WAIT)}
    with stand(folder, vms=2, module="soak.shifted", environment={"SOAK_CLOCK": str(clock.file)}, **settings) as panel:
        panel.ok("POST", "/api/client/create/host1?wait=10", SMALL | {"vm_uuid": "mine"})
        async with Login(panel) as before:
            old = await before.ticket("vm-0001")
            clock.turn(DAY)
            status = (await before.client.get("/hosts")).status_code
            report.hold("a day later the login has ended", status == 302, status)
            report.hold("a day later its ticket is no good", not await opens(panel, old))
        for number, (name, offset) in enumerate(JUMPS):
            clock.turn(offset)
            await works(panel, report, name, number)
            if offset > 0:
                await lock_out(panel)
                clock.turn(0)
                await waits(panel, report, f"{name}, failed logins, and back")
        await future_login(panel, report, clock)
        log = panel.log.read_text("utf-8", "replace")
        report.hold("no traceback", "Traceback" not in log, log[-2000:] if "Traceback" in log else "")
    return report


async def opens(panel: PanelProcess, ticket: str) -> bool:
    """Whether a ticket shows the screen."""
    try:
        async with console(panel, "vm-0001", ticket) as wire:
            await greet(wire)
    except (OSError, AssertionError, asyncio.IncompleteReadError, TimeoutError):
        return False
    return True


async def works(panel: PanelProcess, report: Report, name: str, number: int) -> None:
    """Everything that somebody does in a day works at this time."""
    async with Login(panel) as login:
        for path in PAGES:
            headers = {"Authorization": f"Bearer {panel.token}"} if path.startswith(("/api", "/metrics")) else {}
            status = (await login.client.get(path, headers=headers)).status_code
            if status != 200:
                report.hold(f"{name}: {path}", False, status)
        report.hold(f"{name}: a console opens", await opens(panel, await login.ticket("vm-0001")))
    for action in ("start", "stop"):
        ended = panel.ok("POST", "/api/client/powers/host1/mine?wait=10", {"action": action})
        report.hold(f"{name}: a VM can be {action}ed", ended["status"] == "succeeded", ended["status"])
    body = {"protocol": "tcp", "external_port": 0, "internal_port": 80 + number}
    forward = panel.ok("POST", "/api/client/natadd/host1/mine", body)
    report.hold(f"{name}: a forward holds", forward["state"] == "applied", forward["state"])
    seen = panel.ok("GET", "/api/server/status/host1")["seen_at"]
    ends, later = time.monotonic() + 10, seen
    while later == seen and time.monotonic() < ends:
        await asyncio.sleep(0.3)
        later = panel.ok("GET", "/api/server/status/host1")["seen_at"]
    report.hold(f"{name}: the host is observed", later != seen, later)
    running = panel.ok("GET", "/api/system/statis")["tasks_running"]
    report.hold(f"{name}: no task is left", running == 0, running)


async def lock_out(panel: PanelProcess) -> None:
    """Fail to log in until nobody from here may try any more."""
    async with httpx2.AsyncClient(base_url=panel.url, trust_env=False) as client:
        for _ in range(4):
            await client.post("/login", data={"token": "wrong-token"})


async def waits(panel: PanelProcess, report: Report, name: str) -> None:
    """How long somebody who failed has to wait is what the settings say, whatever the clock said when he failed."""
    async with connected(panel) as wire:
        await wire.send(head(panel, "GET", "/api/server/status/host1"))
        answer = (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    wait = int(answer.partition("retry-after: ")[2].partition("\r\n")[0] or 0)
    report.hold(f"{name}: the wait is no longer than the settings say", wait <= WAIT + 1, f"{wait} s of {WAIT}")


async def future_login(panel: PanelProcess, report: Report, clock: Clock) -> None:
    """A login and a ticket of a clock that was wrong do not live for as long as it was wrong."""
    clock.turn(365 * DAY)
    async with Login(panel) as login:
        ticket = await login.ticket("vm-0001")
        clock.turn(0)
        report.hold("a ticket from the future is no good", not await opens(panel, ticket))
        status = (await login.client.get("/hosts")).status_code
        report.hold("a login from the future goes on when it is used", status == 200, status)
        clock.turn(DAY)
        status = (await login.client.get("/hosts")).status_code
        report.hold("and then ends as all do", status == 302, status)
        clock.turn(0)
