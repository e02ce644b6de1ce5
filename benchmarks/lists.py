"""Server time of the VM list, of the API's lists and of a power action, at 100, 1,000 and 10,000 VMs, while they are observed."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from benchmarks.harness import Table, interleaved
from benchmarks.site import Answer, Site, hosts_of

SIZES = {100: (1, 100), 1000: (10, 100), 10000: (100, 100)}  # VMs: hosts, VMs of each
ROUNDS = 40
WARM = 3
P50, P99, API_LIST = 25.0, 80.0, 30.0  # milliseconds
PAGES = {
    "list, first page": "/vms",
    "list, last page": "/vms?page=1000000",
    "list, search": "/vms?q=vm-0042",
    "list, search, a full page": "/vms?q=vm-00",
    "list, one host": "/vms?host=h001",
    "list, stopped": "/vms?state=stopped",
    "dashboard": "/",
    "hosts": "/hosts",
    "host": "/hosts/h001",
    "VM": "/hosts/h001/vms/vm-0001",
}
UNLIKE = "list, search"  # shows one row of 100 VMs and 25 of 10,000


def measure() -> Table:
    """The table: CPU milliseconds of the whole process between the request's arrival and the answer's beginning."""
    table = Table("lists", "Server time of pages and lists")
    with ExitStack() as stack:
        sites = {vms: stack.enter_context(Site(hosts_of(*shape))) for vms, shape in SIZES.items()}
        large = stack.enter_context(Site(hosts_of(1, 1000)))
        for vms, site in sites.items():
            site.until_observed(SIZES[vms][0], 2)
        cases: dict[str, Callable[[], Answer]] = {
            f"{vms:,} VMs: {name}": partial(site.get, path)
            for vms, site in sites.items()
            for name, path in PAGES.items()
        }
        for vms, site in sites.items():
            cases[f"{vms:,} VMs: API system/statis"] = partial(site.api, "GET", "/api/system/statis")
        cases["API client/detail of a host with 1,000 VMs"] = partial(large.api, "GET", "/api/client/detail/h001")
        cases["10,000 VMs: power action, to the first answer"] = partial(_power, sites[10000])
        found = interleaved(cases, ROUNDS + WARM)
    for name, answers in found.items():
        times = [answer.cpu for answer in answers[WARM:]]
        listed, api = ": list" in name, "client/detail" in name
        table.add(name, "ms", times, P50 if listed else API_LIST if api else None, P99 if listed else None)
    for name in PAGES:
        few, many = ([a.cpu for a in found[f"{vms} VMs: {name}"][WARM:]] for vms in ("100", "10,000"))
        ratio = statistics.median(many) / statistics.median(few)
        promised = "list" in name and name != UNLIKE
        table.add(f"{name}: 10,000 VMs against 100", "times", ratio, 2.0 if promised else None)
    table.notes.append(
        f"CPU time of the whole process, observation included (every 5 s, each host), {ROUNDS} interleaved rounds. "
        "100 VMs are on one host, 10,000 on 100. A search finds one VM of 100, and 100 of 10,000, of which 25 are shown: its "
        "ratio compares one row with 25, so nothing is promised of it. The other lists show 25 rows, or 24, at every size."
    )
    return table


def _power(site: Site) -> Answer:
    """Suspend, resume, suspend...: whatever the last one left."""
    state = site.api("GET", "/api/client/status/h002/vm-0001").body
    action = "resume" if b'"suspended"' in state else "suspend"
    headers = {"Authorization": f"Bearer {site.token}"}
    path = "/api/client/powers/h002/vm-0001"
    while (answer := site.ask("POST", path + "?wait=0", f'{{"action": "{action}"}}', headers)).status == 409:
        action = "resume" if action == "suspend" else "suspend"  # the one before ended meanwhile
    return answer
