"""``python -m soak.shifted serve``: the panel, by a wall clock that ``SOAK_CLOCK`` (a file with seconds) sets off. What measures
durations goes on as it is, as in a machine whose clock is set."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from tortoise import timezone

FILE = Path(os.environ["SOAK_CLOCK"])
true_time = time.time


def shifted_time() -> float:
    """Seconds since 1970, as the wrong clock has them."""
    return true_time() + float(FILE.read_text())


def shifted_now() -> datetime:
    """The same in UTC."""
    return datetime.fromtimestamp(shifted_time(), UTC)


if __name__ == "__main__":
    time.time = shifted_time
    timezone.now = shifted_now
    from panel.services import clock

    clock.now = shifted_now
    from panel.cli import main

    main(prog_name="openidcs")
