"""Busy polling: an event loop that has just been told something looks again for a moment before it sleeps.

To sleep and to be woken takes longer than to carry a message: 40 to 50 µs on a fast virtual machine, twice that on a slow one,
and an echo passes here twice.
A relay in C that sleeps between messages has the round trip of the same in Python (``benchmarks/README.md``).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable

WINDOW_SECONDS = 150e-6  # within which an echo comes on a slow machine too, where a sleep costs as much
PAYS = 4  # messages in one attempt: their wake-ups would have cost what the wait at its end does
SELDOM = 63  # messages between two attempts where nothing ever follows so soon


class BusyPoll:
    """Polls while it pays: each attempt that does not doubles the number of messages until the next, each other halves it.

    With a single CPU it does nothing, since whoever is waited for could not run meanwhile.
    """

    __slots__ = ("_clock", "_found", "_last", "_passing", "_polling", "_soon", "_spacing")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter) -> None:
        self._soon, self._clock = loop.call_soon, clock
        self._polling, self._found = False, 0
        self._last = 0.0
        self._spacing = 0  # messages between attempts
        self._passing = 0  # how many of them are still to pass

    @property
    def polling(self) -> bool:
        """Whether the loop does not sleep."""
        return self._polling

    def heard(self) -> None:
        """A message came: what follows may come soon."""
        if self._polling:
            self._found += 1
        elif self._passing:
            self._passing -= 1
            return
        else:
            self._polling, self._found = True, 0
            self._soon(self._look)
        self._last = self._clock()

    def _look(self) -> None:
        """Each call lets the loop ask its sockets once, without waiting."""
        if self._clock() - self._last < WINDOW_SECONDS:
            self._soon(self._look)
            return
        self._polling = False
        self._spacing = self._spacing // 2 if self._found >= PAYS else min(SELDOM, 2 * self._spacing + 1)
        self._passing = self._spacing


def on_message(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """What a tunnel calls with each message."""
    return BusyPoll(loop).heard if (os.cpu_count() or 1) > 1 else nothing


def nothing() -> None:
    """For an event loop that has more to do than to wait."""
