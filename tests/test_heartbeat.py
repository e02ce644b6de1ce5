"""The contract suite's heartbeat blames code, and not a busy machine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.heartbeat import BEAT_SECONDS, Reading, heartbeat, held


def computing(seconds: float) -> None:
    """By the thread's own clock: it may take longer."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.mark.parametrize("hold", [time.sleep, computing])
async def test_code_that_holds_the_loop_is_blamed(hold: Callable[[float], None]) -> None:
    async def block() -> None:
        async with heartbeat():
            await asyncio.sleep(0.05)
            hold(0.8)

    with pytest.raises(AssertionError, match=f"held for(.|\n)*in {hold.__name__ if hold is computing else 'block'}"):
        await block()


async def test_work_elsewhere_is_not() -> None:
    async with heartbeat():
        with ThreadPoolExecutor(1) as pool:
            await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 0.8)


async def test_a_process_that_was_stopped_is_not() -> None:
    """Nobody in it ran: as on a machine that stood still."""
    me = os.getpid()
    waker = f"import os,signal,time\nos.kill({me}, {int(signal.SIGSTOP)})\ntime.sleep(0.8)\nos.kill({me}, {int(signal.SIGCONT)})"
    async with heartbeat():
        began = time.monotonic()
        process = subprocess.Popen([sys.executable, "-c", waker])
        while process.poll() is None:
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.8


async def test_what_the_test_does_itself_is_not() -> None:
    async with heartbeat() as witness:
        await asyncio.sleep(0.05)
        with witness.own_work():
            time.sleep(0.8)
        await asyncio.sleep(0.05)


class Slow:
    """Garbage that takes long to collect."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        computing(0.8)


async def test_the_garbage_collector_is_not() -> None:
    gc.collect()
    async with heartbeat():
        await asyncio.sleep(0.05)
        Slow()
        gc.collect()
        await asyncio.sleep(0.05)


def test_what_the_machine_took_does_not_count() -> None:
    before = Reading(at=10.0, cpu=1.0, queued=0.0, faults=3, late=0.0)
    cases = {
        "a sleep in the loop": (Reading(10.82, 1.0, 0.0, 3, 0.0), 0.8),
        "no processor": (Reading(10.82, 1.0, 0.79, 3, 0.0), 0.01),
        "all stood still": (Reading(10.82, 1.0, 0.0, 3, 0.79), 0.01),
        "its code came from disk": (Reading(10.82, 1.01, 0.0, 5, 0.0), 0.01),
        "garbage was collected": (Reading(10.82, 1.79, 0.0, 3, 0.79, 0.79), 0.01),
        "and it computed too": (Reading(11.62, 2.6, 0.0, 3, 1.59, 0.8), 0.8),
        "the test asked a tool": (Reading(10.82, 1.3, 0.0, 3, 0.0, own=0.79, own_cpu=0.3), 0.01),
        "beside that it held it": (Reading(11.62, 1.3, 0.0, 3, 0.0, own=0.79, own_cpu=0.3), 0.81),
        "it computed, and had to wait": (Reading(12.02, 1.7, 1.3, 3, 0.0), 0.7),
    }
    for name, (after, seconds) in cases.items():
        assert held(before, after) == pytest.approx(seconds, abs=BEAT_SECONDS / 2), name
