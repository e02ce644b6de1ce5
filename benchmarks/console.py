"""The console's road against websockify and raw TCP, in interleaved rounds: ``make bench ARGS=console``."""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import consolepeers as peers
from benchmarks.harness import Table, interleaved, percentile
from tests.process import free_port

BULK_MIB, TRIPS, ROUNDS = 192, 2000, 7
CONSOLES, SECONDS = 200, 4.0
MANY, STALLED_MIB = 1000, 200
OURS, WEBSOCKIFY = "relay", "websockify"
PEERS = str(Path(__file__).parents[1] / ".cache/peers/bin/python")  # scripts/bootstrap.sh bench makes it
Roads = dict[str, tuple[int, int]]  # name -> port, pid


def measure() -> Table:
    """Every road in turn, in interleaved rounds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    table = Table("console", "The console's road")
    with ExitStack() as stack:
        vm = free_port()
        stack.enter_context(_process("benchmarks.consolepeers", str(vm), port=vm, core=1))
        os.sched_setaffinity(0, {1 % _cores()})
        roads: Roads = {}
        for name in (OURS, "tunnel", "plain"):
            port = free_port()
            command = ("benchmarks.consoleroute", str(port), str(vm), name)
            roads[name] = port, stack.enter_context(_process(*command, port=port, core=0))
        port = free_port()
        command = ("websockify", f"127.0.0.1:{port}", f"127.0.0.1:{vm}")
        roads[WEBSOCKIFY] = port, stack.enter_context(_process(*command, port=port, core=0, python=PEERS))
        _speed(table, roads, vm)
        _screens(table, roads)
        _memory(table, roads)
    table.notes += [
        "The proxies have core 0 for themselves, the browser and the VM share the other. Ratios are of medians.",
        "`relay` is what the panel does, `tunnel` where a socket cannot go to its process, `plain` under another server.",
    ]
    return table


def _cores() -> int:
    return os.cpu_count() or 1


@contextmanager
def _process(module: str, *arguments: str, port: int, core: int, python: str = sys.executable) -> Iterator[int]:
    """A program on one core, from when it answers at ``port``; yields its process id."""
    command = ["taskset", "-c", str(core % _cores()), python, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"{module} does not answer")
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def _speed(table: Table, roads: Roads, vm: int) -> None:
    speed = {name: partial(peers.bulk, port, BULK_MIB) for name, (port, _) in roads.items()}
    speeds = interleaved(speed | {"raw": partial(peers.bulk, vm, BULK_MIB, raw=True)}, ROUNDS)
    rate = {name: statistics.median(found) for name, found in speeds.items()}
    trip = {name: partial(peers.round_trips, port, TRIPS) for name, (port, _) in roads.items()}
    trips = interleaved(trip | {"raw": partial(peers.round_trips, vm, TRIPS, raw=True)}, ROUNDS)
    for name, found in speeds.items():
        table.add(f"bulk, {name}", "MiB/s", found)
    table.add(f"bulk, websockify against {OURS}", "x", rate[WEBSOCKIFY] / rate[OURS], 1 / 1.5)
    table.add(f"bulk, raw TCP against {OURS}", "x", rate["raw"] / rate[OURS], 2)
    flat = {name: [one for found in rounds for one in found] for name, rounds in trips.items()}
    for name, every in flat.items():
        table.add(f"round trip, {name}", "µs", every)
    for percent, target in ((50, 0.75), (99, 0.8)):
        # each round against its own: what disturbs the machine disturbs both
        ratios = [
            percentile(ours, percent) / percentile(theirs, percent)
            for ours, theirs in zip(trips[OURS], trips[WEBSOCKIFY], strict=True)
        ]
        table.add(f"round trip p{percent}, {OURS} against websockify", "x", ratios, target)


def _screens(table: Table, roads: Roads) -> None:
    def one(name: str) -> float:
        port, pid = roads[name]
        before = peers.cpu_seconds(pid)
        seen = peers.watch(port, CONSOLES, SECONDS)
        assert seen > 20, f"{name} showed {seen:.1f} of 30 updates"
        return (peers.cpu_seconds(pid) - before) / SECONDS

    used = interleaved({name: partial(one, name) for name in roads}, 3)
    for name, found in used.items():
        table.add(f"CPU of {CONSOLES} consoles at 30 updates of 4 KiB, {name}", "s/s", found)
    share = statistics.median(used[OURS]) / statistics.median(used[WEBSOCKIFY])
    table.add(f"the same, {OURS} against websockify", "x", share, 0.4)


def _memory(table: Table, roads: Roads) -> None:
    port, pid = roads[OURS]
    before = peers.rss_kib(pid)
    browsers = [peers.Browser(port) for _ in range(MANY)]
    time.sleep(1)
    table.add(f"memory per console, {MANY} open, {OURS}", "KiB", (peers.rss_kib(pid) - before) / MANY, 40)
    for browser in browsers:
        browser.close()
    time.sleep(1)
    before = peers.rss_kib(pid)
    lazy = peers.Browser(port, receive_buffer=65536)
    lazy.send(b"s")
    time.sleep(5)
    table.add(f"memory of a browser that does not read, {OURS}", "KiB", max(0, peers.rss_kib(pid) - before), 2048)
    lazy.close()
    before = peers.rss_kib(pid)
    pusher = peers.Browser(port)
    pusher.send(b"n")
    pusher.socket.settimeout(2)
    try:
        for _ in range(16 * STALLED_MIB):
            pusher.send(peers.PIECE[:60000])
    except TimeoutError:  # it stands, as it should
        pass
    table.add(f"memory of a VM that does not read, {OURS}", "KiB", max(0, peers.rss_kib(pid) - before), 2048)
    pusher.close()
