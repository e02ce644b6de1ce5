"""Pages of a panel with four sick hosts beside those of one whose hosts are all well: nothing may be slower."""

from __future__ import annotations

import statistics
import time
from functools import partial

from benchmarks.harness import Table, interleaved, percentile
from benchmarks.site import Site, hosts_of

SICK = [
    ("hung", {"behaviour": "hung"}),
    ("refusing", {"behaviour": "refusing"}),
    ("garbage", {"behaviour": "garbage"}),
    ("slow", {"behaviour": "slow", "delay": "30"}),
]
PAGES = {"dashboard": "/", "list": "/vms", "hosts": "/hosts", "host": "/hosts/h001", "VM": "/hosts/h001/vms/vm-0001"}
ROUNDS = 60
WARM = 3
NOISE = 1.25


def measure() -> Table:
    """The table: well and sick in the same rounds."""
    table = Table("sick", "Pages while four hosts are sick")
    well = [*hosts_of(4, 50), *((f"well{number}", 50, {}) for number in range(4))]
    sick = [*hosts_of(4, 50), *((name, 50, options) for name, options in SICK)]
    with Site(well) as good, Site(sick) as bad:
        good.until_observed(8)
        bad.until_observed(5)  # the garbage is taken for a host's
        time.sleep(2)
        found = interleaved(
            {
                f"{name}, {kind}": partial(site.get, path)
                for name, path in PAGES.items()
                for kind, site in (("well", good), ("sick", bad))
            },
            ROUNDS + WARM,
        )
    times = {name: [answer.cpu for answer in answers[WARM:]] for name, answers in found.items()}
    for name, values in times.items():
        table.add(name, "ms", values)
    for name in PAGES:
        one, other = times[f"{name}, well"], times[f"{name}, sick"]
        table.add(
            f"{name}: sick against well, medians", "times", statistics.median(other) / statistics.median(one), NOISE
        )
        table.add(f"{name}: sick against well, p99", "times", percentile(other, 99) / percentile(one, 99))
    table.notes.append(
        f"Hung, refusing, garbage, slow by 30 s, with 50 VMs each, beside four hosts that are well. CPU time, {ROUNDS} "
        "interleaved rounds. Rounds of observation fall on some requests and not on others, so the ratio of two p99s is noisy."
    )
    return table
