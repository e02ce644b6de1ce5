"""Memory, and how soon a panel that was started answers."""

from __future__ import annotations

import socket
import time

from benchmarks.harness import Table, interleaved
from benchmarks.site import Site, hosts_of

REST_MIB, FULL_MIB, START_SECONDS = 120.0, 300.0, 1.5
STREAMS = 100
STARTS = 5
SETTLE = 10.0  # seconds


def measure() -> Table:
    """The table. Memory is what is resident (VmRSS), of the process that users start and no clock within."""
    table = Table("memory", "Memory and start")
    with Site([], clock=False) as empty, Site(hosts_of(100, 100), clock=False) as full:
        time.sleep(SETTLE)
        table.add("memory at rest, no host", "MiB", empty.resident(), REST_MIB)
        table.add("memory with 10,000 VMs", "MiB", full.resident())
        streams = [_stream(full) for _ in range(STREAMS)]
        deadline = time.monotonic() + SETTLE
        while time.monotonic() < deadline:
            for stream in streams:
                _drain(stream)
            time.sleep(0.05)
        table.add(f"memory with 10,000 VMs and {STREAMS} event streams", "MiB", full.resident(), FULL_MIB)
        for stream in streams:
            stream.close()
        found = interleaved({"no host": empty.restart, "10,000 VMs": full.restart}, STARTS)
        for name, times in found.items():
            table.add(f"start to first answer, {name}: CPU time", "s", [cpu for _wall, cpu in times], START_SECONDS)
            table.add(f"start to first answer, {name}: by the clock", "s", [wall for wall, _cpu in times])
    table.notes.append(
        "Each stream is of a VM list of 25 rows. Started with a database that is there, as a restart is."
    )
    return table


def _stream(site: Site) -> socket.socket:
    topics = "pick,vms:" + ".".join(str(number) for number in range(1, 26))
    stream = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    request = f"GET /events?topics={topics} HTTP/1.1\r\nHost: localhost\r\nCookie: {site.cookie}\r\n\r\n"
    stream.sendall(request.encode())
    answer = stream.recv(4096)
    assert b" 200 " in answer, answer
    stream.setblocking(False)
    return stream


def _drain(stream: socket.socket) -> None:
    try:
        while stream.recv(65536):
            pass
    except BlockingIOError:
        pass
