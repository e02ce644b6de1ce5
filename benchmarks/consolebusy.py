"""A console's round trips while the panel is at its work: 10,000 VMs observed, pages rendered without a pause."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import consolepeers as peers
from benchmarks.harness import Table
from benchmarks.site import Site, hosts_of
from tests.process import free_port

HOSTS, VMS = 100, 100
SECONDS = 20.0
PAUSE = 0.01  # between two key presses: faster than anybody types
P99_MS = 10.0
HOST, VM = "h001", "vm-0001"


def measure() -> Table:
    """Key presses and echoes through the panel with its relay process, and through one without."""
    table = Table("consolebusy", "A console while the panel is at work")
    port = free_port()
    with _screens(port):
        for name, relay in (("in a process of its own", "1"), ("in the panel", "0")):
            os.environ["BENCH_SCREENS"] = str(port)
            try:
                site = Site(hosts_of(HOSTS, VMS), console_relay=relay)
            finally:
                del os.environ["BENCH_SCREENS"]
            with site:
                site.until_observed(HOSTS, 1)
                target = P99_MS if relay == "1" else None
                table.add(f"round trip, carried {name}", "ms", _round_trips(site), None, target)
    table.notes.append(
        "Meanwhile one client asks for the first page of the list, without a pause, and each host is observed every 5 s. The VM's"
        " end is a process of its own. On two cores the client, the VM, the browser and the panel share them."
    )
    return table


@contextmanager
def _screens(port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.consolepeers", str(port)])
    time.sleep(0.5)
    try:
        yield
    finally:
        process.kill()
        process.wait(timeout=10)


def _ticket(site: Site) -> str:
    """A ticket for a screen, as a program and then a browser get it."""
    link = json.loads(site.api("GET", f"/api/client/remote/{HOST}/{VM}").body)["data"]["url"]
    entered = site.good("GET", "/console/" + link.partition("/console/")[2], None, {"Accept": "text/html"})
    grant = entered.headers["set-cookie"].partition(";")[0]
    origin = {"Origin": f"http://127.0.0.1:{site.port}", "Cookie": grant}
    answer = site.good("POST", f"/console/{HOST}/{VM}/ticket", "", origin)
    ticket: str = json.loads(answer.body)["data"]["ticket"]
    return ticket


def _round_trips(site: Site) -> list[float]:
    browser = peers.Browser(
        site.port,
        path=f"/console/{HOST}/{VM}/socket",
        protocols=f"binary, ticket.{_ticket(site)}",
        origin=f"http://127.0.0.1:{site.port}",
    )
    browser.send(b"e")
    found: list[float] = []
    ends = time.perf_counter() + SECONDS
    reading = threading.Thread(target=_read_pages, args=(site, ends))
    reading.start()
    while time.perf_counter() < ends:
        began = time.perf_counter()
        browser.send(b"12345678")
        browser.read(10)
        found.append(1e3 * (time.perf_counter() - began))
        time.sleep(PAUSE)
    reading.join()
    browser.close()
    return found


def _read_pages(site: Site, ends: float) -> None:
    while time.perf_counter() < ends:
        site.get("/vms")
