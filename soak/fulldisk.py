"""The disk of the data folder fills up (a small tmpfs): what needs room is refused in words, what does not goes on, and when
there is room again everything does, without a restart."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soak.report import Report
from soak.stand import SMALL, stand
from soak.wire import Login
from tests.process import PanelProcess

SIZE = 12 * 2**20
FULL = "disk of the data folder is full"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system of ``SIZE`` bytes at ``folder``."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "soak", str(folder)]
    subprocess.run(command, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def fill(folder: Path) -> Path:
    """Take all that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


async def run(folder: Path, _seconds: float, _seed: int) -> Report:
    """Once: about 15 s, whatever time there is."""
    report = Report("fulldisk")
    with small_disk(folder / "data"), stand(folder, vms=1) as panel:
        panel.ok("POST", "/api/client/create/host1?wait=10", SMALL | {"vm_uuid": "mine"})
        panel.ok(
            "PUT", "/api/server/update/host1", {"behaviour": "slow", "delay": "1.5", "only": "power,update,inspect"}
        )
        async with Login(panel) as login:
            begun = panel.ok("POST", "/api/client/powers/host1/mine?wait=0", {"action": "start"})["task_id"]
            filler = fill(folder / "data")
            await while_full(panel, login, report)
            await asyncio.sleep(4)  # the task has come to its end, which cannot be written
            filler.unlink()
            await afterwards(panel, report, begun)
        log = panel.log.read_text("utf-8", "replace")
        report.hold("the log names it", FULL in log.lower())
        report.hold("no traceback", "Traceback" not in log, log[-3000:] if "Traceback" in log else "")
    return report


async def while_full(panel: PanelProcess, login: Login, report: Report) -> None:
    """What needs room gets 507 and the reason; the rest goes on."""
    writes: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/api/client/create/host1", SMALL | {"vm_uuid": "more"}),
        ("POST", "/api/client/natadd/host1/mine", {"protocol": "tcp", "internal_port": 80}),
        ("POST", "/api/client/powers/host1/vm-0001?wait=0", {"action": "stop"}),
        ("POST", "/api/system/saving", None),
    )
    for _ in range(200):  # what is left in the pages that SQLite has already
        status, _answer = panel.api("POST", "/api/client/natadd/host1/mine", {"protocol": "udp", "internal_port": 53})
        if status != 200:
            break
    for method, path, body in writes:
        status, answer = panel.api(method, path, body, timeout=30)
        good = status == 507 and FULL in answer["msg"].lower()
        report.hold(f"full: {path} is 507 and says so", good, f"{status} {answer['msg'][:90]}")
    for path in ("/api/client/detail/host1", "/api/server/status/host1", "/api/system/tasker", "/api/system/statis"):
        status, _answer = panel.api("GET", path, timeout=30)
        report.hold(f"full: {path} is read", status == 200, status)
    for path in ("/", "/hosts", "/vms", "/logs"):
        status = (await login.client.get(path)).status_code
        report.hold(f"full: the page {path} is shown", status == 200, status)
    answer = await login.client.post("/login", data={"token": panel.token})
    report.hold(
        "full: a login says why not", answer.status_code == 507 and FULL in answer.text.lower(), answer.status_code
    )


async def afterwards(panel: PanelProcess, report: Report, begun: str) -> None:
    """With room again: what was at work has ended, and all works."""
    ends = time.monotonic() + 30
    while (task := panel.ok("GET", f"/api/system/tasker?id={begun}")["tasks"][0])["ended_at"] is None:
        if time.monotonic() > ends:
            break
        await asyncio.sleep(0.3)
    report.hold("the task of before has ended", task["ended_at"] is not None, task["status"])
    panel.ok("PUT", "/api/server/update/host1", {"behaviour": "", "delay": "0"})
    for method, path, body in (
        ("POST", "/api/client/create/host1?wait=20", SMALL | {"vm_uuid": "later"}),
        ("POST", "/api/client/powers/host1/mine?wait=20", {"action": "stop"}),
        ("POST", "/api/client/natadd/host1/mine", {"protocol": "tcp", "internal_port": 81}),
        ("DELETE", "/api/client/delete/host1/mine?wait=20", None),
    ):
        status, answer = panel.api(method, path, body)
        report.hold(f"room again: {method} {path}", status in {200, 409}, f"{status} {answer['msg'][:60]}")
    left = panel.until("/api/system/statis", lambda numbers: numbers["tasks_running"] == 0, 20)["tasks_running"]
    report.hold("room again: no task is left", left == 0, left)
