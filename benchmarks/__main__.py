"""``python -m benchmarks [NAME...]``: run the programs, all by default, and write their tables into ``RESULTS.md``."""

from __future__ import annotations

import argparse
import sys
import time
from importlib import import_module

NAMES = ("pages", "lists", "observe", "memory", "sick", "console", "consolebusy")


def main() -> int:
    """0 whatever was measured: a slow machine is no failure. RESULTS.md says what missed its target."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when none is given")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    for name in names:
        began = time.monotonic()
        good = import_module(f"benchmarks.{name}").measure().write()
        verdict = "all targets met" if good else "a target was missed"
        print(f"{name}: {verdict}, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
