"""``python -m fuzz [NAME...] [--seconds=60] [--seed=N]``: each target for that long. With atheris (see the README here), which
follows the code's branches; without it by blind mutation. An input that breaks something is printed and kept."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from fuzz.mutate import mutated
from fuzz.targets import TARGETS, try_one

KEPT = Path(".cache/fuzz")


def with_atheris(name: str, seconds: float) -> int:
    """In a process of its own: atheris ends it. Its corpus stays in ``.cache/fuzz/NAME``."""
    corpus = KEPT / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    program = f"import atheris\nwith atheris.instrument_imports():\n    from fuzz.targets import TARGETS, try_one\nimport sys\n" \
              f"atheris.Setup(sys.argv, lambda data: try_one(TARGETS[{name!r}], data))\natheris.Fuzz()\n"  # fmt: skip
    limits = [
        f"-max_total_time={int(seconds)}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        f"-artifact_prefix={KEPT}/broken-{name}-",
    ]
    return subprocess.run(
        [sys.executable, "-c", program, *limits, str(corpus)], timeout=seconds + 120, check=False
    ).returncode


def blindly(name: str, seconds: float, seed: int) -> int:
    """Until the time is up or something breaks."""
    chance, ends, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        data = mutated(chance, TARGETS[name].seeds)
        count += 1
        try:
            try_one(TARGETS[name], data)
        except Exception:
            KEPT.mkdir(parents=True, exist_ok=True)
            (KEPT / f"broken-{name}").write_bytes(data)
            print(f"{name}: broken by {data!r}", flush=True)
            raise
    print(f"{name}: {count} inputs", flush=True)
    return 0


def main() -> int:
    """0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TARGETS)}; all when none is given")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each (60)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in TARGETS]:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    guided = find_spec("atheris") is not None
    run = with_atheris if guided else lambda name, seconds: blindly(name, seconds, asked.seed)
    print("with atheris" if guided else "without atheris: blind mutation", flush=True)
    return max(run(name, asked.seconds) for name in asked.names or TARGETS)


if __name__ == "__main__":
    sys.exit(main())
