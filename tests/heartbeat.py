"""Whether code of ours held the event loop. What the machine took from it (no processor, pages read from disk) does not count,
nor what Python's garbage collector took: it walks through all that a thousand tests left behind."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

LONGEST_GAP_SECONDS = 0.5
BEAT_SECONDS = 0.02
DEEPEST = 12  # frames that are told of
SCHEDSTAT = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class Reading:
    """Of the event loop's thread, at a moment: seconds. ``late``: what a thread beside it lost by then."""

    at: float
    cpu: float
    queued: float  # ready, without a processor
    faults: int  # pages that came from disk
    late: float
    collecting: float = 0.0  # by the garbage collector
    own: float = 0.0  # by the test itself
    own_cpu: float = 0.0


class Witness(threading.Thread):
    """Sleeps as the event loop does, and adds up how late it woke: then the machine was busy, or stood still. And looks at what
    the event loop's thread is doing when that has not been heard of for a while."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late = 0.0
        self.collecting = self.own = self.own_cpu = 0.0
        self.beat = time.monotonic()
        self.doing = "nothing that was seen"
        self._watched = threading.get_ident()
        self._collector = 0.0
        self._looked = 0.0
        self._done = threading.Event()

    def start(self) -> None:
        """Begin."""
        gc.callbacks.append(self._collects)
        super().start()

    def _collects(self, phase: str, _about: dict[str, int]) -> None:
        if threading.get_ident() != self._watched:
            return
        if phase == "start":
            self._collector = time.thread_time()
        else:
            self.collecting += time.thread_time() - self._collector

    def run(self) -> None:
        """Until ``end``."""
        before = time.monotonic()
        while not self._done.wait(BEAT_SECONDS):
            now = time.monotonic()
            self.late += now - before - BEAT_SECONDS
            before = now
            self._look()

    def _look(self) -> None:
        """Once for each beat that does not come: what holds the loop is seen in the middle of it, and not when it is over."""
        beat = self.beat
        if beat == self._looked or time.monotonic() - beat < LONGEST_GAP_SECONDS / 2:
            return
        doing = "".join(traceback.format_stack(sys._current_frames()[self._watched])[-DEEPEST:])
        if self.beat == beat:
            self._looked, self.doing = beat, doing

    def end(self) -> None:
        """Stop, and wait for that."""
        gc.callbacks.remove(self._collects)
        self._done.set()
        self.join()

    def read(self) -> Reading:
        """In the event loop's thread."""
        self.beat = time.monotonic()
        return Reading(
            at=self.beat,
            cpu=time.thread_time(),
            queued=int(SCHEDSTAT.read_text().split()[1]) / 1e9,
            faults=resource.getrusage(resource.RUSAGE_THREAD).ru_majflt,
            late=self.late,
            collecting=self.collecting,
            own=self.own,
            own_cpu=self.own_cpu,
        )

    @contextmanager
    def own_work(self) -> Iterator[None]:
        """What the test does within holds the loop, and is no code of ours: it asks a hypervisor's own tool, say."""
        at, cpu = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            self.own += time.monotonic() - at
            self.own_cpu += time.thread_time() - cpu


def held(before: Reading, after: Reading) -> float:
    """Seconds between two beats that are the code's: it computed, or waited for something with the loop in its hands."""
    collecting = after.collecting - before.collecting
    own = after.own - before.own
    computed = after.cpu - before.cpu - collecting - (after.own_cpu - before.own_cpu)
    if after.faults != before.faults:
        return computed
    lost = (after.queued - before.queued) + max(after.late - before.late, collecting)  # that holds the witness too
    return max(computed, after.at - before.at - BEAT_SECONDS - own - lost)


@asynccontextmanager
async def heartbeat() -> AsyncIterator[Witness]:
    """Fail when code inside the block held the event loop for too long, but within ``own_work``."""
    longest, over, doing = 0.0, False, ""
    witness = Witness()

    async def beat() -> None:
        nonlocal longest, doing
        before = witness.read()
        while not over:
            await asyncio.sleep(BEAT_SECONDS)
            after = witness.read()
            if held(before, after) >= LONGEST_GAP_SECONDS:  # the witness may not have woken yet
                await asyncio.sleep(BEAT_SECONDS * 3)
                after = replace(after, late=witness.late)
            if held(before, after) > longest:
                longest, doing = held(before, after), witness.doing
            before = witness.read()

    witness.start()
    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield witness
    finally:
        over = True
        await task
        await asyncio.to_thread(witness.end)
    assert longest < LONGEST_GAP_SECONDS, f"the event loop was held for {longest:.2f} s, last seen at:\n{doing}"
