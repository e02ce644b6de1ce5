"""``python -m soak [NAME...] [--minutes=5] [--seed=N]``: run the programs one after the other and print what held."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from soak.report import Report

SHARES = {  # of the time, by name
    "hostile": 0.2,
    "consoles": 0.15,
    "clock": 0.05,
    "fulldisk": 0.05,
    "killing": 0.25,
    "libvirt": 0.3,
}
LEAST = 60.0  # seconds of a program that has a long form; with less they run their short one


def run_one(name: str, seconds: float, seed: int) -> Report:
    """One program in a folder of its own, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=f"openidcs-soak-{name}-") as folder:
        try:
            return asyncio.run(import_module(f"soak.{name}").run(Path(folder) / "panel", seconds, seed))
        except Exception as error:
            report = Report(name)
            report.hold("it ran to its end", False, repr(error)[:2000])
            return report


def main() -> int:
    """0 when everything held."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHARES)}; all when none is given")
    parser.add_argument("--minutes", type=float, default=5.0, help="in all, about (5)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="to repeat a run")
    asked = parser.parse_args()
    names = asked.names or list(SHARES)
    if unknown := [name for name in names if name not in SHARES]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(SHARES)}")
    print(f"seed {asked.seed}", flush=True)
    whole, reports = sum(SHARES[name] for name in names), []
    for name in names:
        began = time.monotonic()
        report = run_one(name, max(LEAST, asked.minutes * 60 * SHARES[name] / whole), asked.seed)
        reports.append(report)
        print(f"\n{name}, {time.monotonic() - began:.0f} s\n{report.table()}", flush=True)
    print("\nSummary")
    for report in reports:
        print(f"  {report.name:<10} {len(report.lines) - len(report.broken):>3} held, {len(report.broken)} broken")
    return 1 if any(report.broken for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
