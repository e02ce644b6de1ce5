"""Rates and traffic of a real VM: what limits say is what its port does."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from panel.gateways.runner import LocalRunner
from panel.gateways.tc import RateLimiter
from panel.services.traffic import GIB
from tests.live.conftest import DOCUMENT_IMAGE
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

VM = "/host1/flow-1"
DETAIL = f"/api/client/detail{VM}"
PASSWORD = "flow-secret-1"
SIZE = 1_000_000  # bytes: 4 s at 2 Mbit/s


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def until(what: str, condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def address(panel: PanelProcess) -> Iterator[str]:
    """The address of a running VM that is limited to 2 Mbit/s down; the module's only one."""
    panel.until("/api/server/status/host1", lambda status: status["seen_at"])
    body = {"vm_uuid": "flow-1", "os_name": DOCUMENT_IMAGE, "cpu_num": 1, "ram_num": 192, "hdd_num": 4}
    body |= {"start": True, "os_pass": PASSWORD, "speed_d": 2}
    made = panel.ok("POST", "/api/client/create/host1?wait=200", body)
    assert made["status"] == "succeeded", made
    panel.until(f"/api/client/status{VM}", lambda status: status["agent"], 150)
    yield panel.ok("GET", f"/api/client/ipaddr/detail{VM}")["addresses"][0]["ip_address"]
    panel.api("DELETE", f"/api/client/delete{VM}?wait=60")


def port() -> str:
    """The VM's port on the host."""
    listed = run("virsh", "domiflist", "flow-1").splitlines()[2:]
    return next((line.split()[0] for line in listed if line.strip()), "")


def down_mbit() -> int:
    """The limit of what goes to the VM, as the kernel has it; 0: none."""
    name = port()
    if name in ("", "-"):
        return 0
    _up, down = asyncio.run(RateLimiter(LocalRunner()).limits(name))
    return down // 10**6


def push(address: str) -> float:
    """Send ``SIZE`` bytes to the VM; the seconds that it took, without the login."""
    options = [part for each in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
                                 "PubkeyAuthentication=no", "ConnectTimeout=20") for part in ("-o", each)]  # fmt: skip
    command = ["sshpass", "-p", PASSWORD, "ssh", *options, f"root@{address}", "echo in; cat >/dev/null; echo out"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        began = time.monotonic()
        process.stdin.write(bytes(SIZE))
        process.stdin.close()
        assert process.stdout.readline() == b"out\n"
        return time.monotonic() - began


def answers(address: str) -> bool:
    """Whether the VM's page can be had."""
    command = ["curl", "-sS", "-m", "2", "-o", "/dev/null", f"http://{address}/"]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0


def use(panel: PanelProcess, amount_bytes: int) -> None:
    """As if the VM had sent so much before in this month."""
    with closing(sqlite3.connect(panel.folder / "data" / "panel.sqlite3", timeout=20)) as database, database:
        changed = database.execute(
            "UPDATE traffic SET sent_bytes = ? WHERE month = ?", (amount_bytes, datetime.now(UTC).strftime("%Y-%m"))
        )
        assert changed.rowcount == 1


def test_the_rate_is_held_and_what_came_is_counted(panel: PanelProcess, address: str) -> None:
    until("the port is limited", lambda: down_mbit() == 2)
    before = panel.ok("GET", DETAIL)["flu_usage"]
    assert push(address) > SIZE * 8 / 2.6e6, "faster than its limit"
    more = panel.until(DETAIL, lambda vm: (vm["flu_usage"] - before) * GIB >= SIZE, 20)
    assert (more["flu_usage"] - before) * GIB < 2 * SIZE
    assert not more["at_limit"]
    changed = panel.ok("PUT", f"/api/client/update{VM}", {"speed_d": 40})
    assert changed["status"] == "succeeded"
    assert down_mbit() == 40
    assert push(address) < SIZE * 8 / 2e6


def test_a_used_up_month_cuts_or_slows_until_it_is_raised(panel: PanelProcess, address: str) -> None:
    assert until("the VM answers", lambda: answers(address))
    panel.ok("PUT", "/api/server/update/host1", {"at_limit": "cut"})
    panel.ok("PUT", f"/api/client/update{VM}", {"flu_num": 1})
    use(panel, GIB)
    panel.until(DETAIL, lambda vm: vm["at_limit"], 20)
    until("it is cut off", lambda: not answers(address))
    panel.ok("PUT", "/api/server/update/host1", {"at_limit": "slow", "at_limit_mbit": 3})
    until("it is slow instead", lambda: down_mbit() == 3 and answers(address))
    panel.ok("PUT", f"/api/client/update{VM}", {"flu_num": 2})
    assert down_mbit() == 40
    assert not panel.ok("GET", DETAIL)["at_limit"]
    log = panel.ok("GET", "/api/system/logger/detail?action=vm.at_limit")
    assert log["total"] == 1
    assert "cut off" in log["logs"][0]["message"]


def test_a_port_that_is_made_anew_is_limited_again(panel: PanelProcess, address: str) -> None:
    for action in ("stop", "start"):
        panel.ok("POST", f"/api/client/powers{VM}?wait=60", {"action": action})
    until("the new port is limited", lambda: down_mbit() == 40, 10)
