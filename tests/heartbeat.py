"""Whether code of ours held the event loop: what the machine took from it (no processor, pages read from disk) does not count."""

from __future__ import annotations

import asyncio
import resource
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

LONGEST_GAP_SECONDS = 0.5
BEAT_SECONDS = 0.02
SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the event loop's thread, at a moment: seconds. ``late``: what a thread beside it lost by then."""

    at: float
    cpu: float
    queued: float  # ready, without a processor
    faults: int  # pages that came from disk
    late: float


class Witness(threading.Thread):
    """Sleeps as the event loop does, and adds up how late it woke: then the machine was busy, or stood still."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late = 0.0
        self._done = threading.Event()

    def run(self) -> None:
        """Until ``end``."""
        before = time.monotonic()
        while not self._done.wait(BEAT_SECONDS):
            now = time.monotonic()
            self.late += now - before - BEAT_SECONDS
            before = now

    def end(self) -> None:
        """Stop, and wait for that."""
        self._done.set()
        self.join()

    def read(self) -> Reading:
        """In the event loop's thread."""
        return Reading(
            at=time.monotonic(),
            cpu=time.thread_time(),
            queued=int(SCHEDSTAT.read_text().split()[1]) / 1e9,
            faults=resource.getrusage(resource.RUSAGE_THREAD).ru_majflt,
            late=self.late,
        )


def held(before: Reading, after: Reading) -> float:
    """Seconds between two beats that are the code's: it computed, or waited for something with the loop in its hands."""
    if after.faults != before.faults:
        return after.cpu - before.cpu
    lost = (after.queued - before.queued) + (after.late - before.late)
    return max(after.cpu - before.cpu, after.at - before.at - BEAT_SECONDS - lost)


@asynccontextmanager
async def heartbeat() -> AsyncIterator[None]:
    """Fail when code inside the block held the event loop for too long."""
    longest, over = 0.0, False
    witness = Witness()

    async def beat() -> None:
        nonlocal longest
        before = witness.read()
        while not over:
            await asyncio.sleep(BEAT_SECONDS)
            after = witness.read()
            if held(before, after) >= LONGEST_GAP_SECONDS:  # the witness may not have woken yet
                await asyncio.sleep(BEAT_SECONDS * 3)
                after = replace(after, late=witness.late)
            longest = max(longest, held(before, after))
            before = witness.read()

    witness.start()
    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        over = True
        await task
        await asyncio.to_thread(witness.end)
    assert longest < LONGEST_GAP_SECONDS, f"the event loop was held for {longest:.2f} s"
