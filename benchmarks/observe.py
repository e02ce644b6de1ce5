"""What observing 10,000 VMs costs, and what it makes others wait."""

from __future__ import annotations

import time

from benchmarks.harness import Table
from benchmarks.site import Site, hosts_of

HOSTS, VMS = 100, 100
ROUNDS = 4
PAUSE = 0.05  # seconds
CPU_SECONDS, STALL_MS = 5.0, 50.0


def measure() -> Table:
    """The table: four full rounds, one by one, with a small request every now and then."""
    table = Table("observe", "Observing 10,000 VMs on 100 hosts")
    cpu, rows, stalls, small = [], [], [], []
    with Site(hosts_of(HOSTS, VMS)) as site:
        site.until_observed(HOSTS, 2)
        for _ in range(ROUNDS):
            site.told(reset=True)
            while (told := site.told())["rounds"] < HOSTS:
                small.append(site.api("GET", "/api/client/status/h001/vm-0001").cpu)
                time.sleep(PAUSE)  # asked without a pause, this program's requests would be most of the CPU time
            share = HOSTS / told["rounds"]
            cpu.append(told["cpu"] * share)
            rows.append(told["rows_written"] * share)
            stalls.append(told["gap_cpu_ms"])
    table.add("a round: CPU time, the requests of this program included", "s", cpu, CPU_SECONDS)
    table.add("a round: rows written", "rows", rows)
    table.add("the loop at work without a pause, longest of each round", "ms", stalls, STALL_MS)
    table.add("a small request meanwhile (API client/status)", "ms", small, None, STALL_MS)
    table.notes.append(
        "Three quarters of the fake VMs run, and what they use changes in each round: their rows are written, the others only "
        "with when they were seen."
    )
    return table
