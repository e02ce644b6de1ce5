"""Busy polling of the process that carries consoles: while it pays, rarely where it does not, never at rest."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from panel.console.polling import PAYS, SELDOM, WINDOW_SECONDS, BusyPoll, nothing, on_message
from panel.console.relay import RELAY, Relay
from tests.console.browser import dial, fresh, read
from tests.console.kit import Panel, serve
from tests.console.test_relay import echo_thread


class Loop:
    """Calls what was asked for, when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Callable[[], None]] = []
        self.poll = BusyPoll(cast(asyncio.AbstractEventLoop, self), lambda: self.now)

    def call_soon(self, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def turn(self, seconds: float) -> None:
        """One turn of the loop, which takes so long."""
        self.now += seconds
        calls, self.calls = self.calls, []
        for call in calls:
            call()

    def rest(self) -> None:
        """Turn until the loop would sleep."""
        for _ in range(1000):
            if not self.calls:
                return
            self.turn(WINDOW_SECONDS / 5)
        raise AssertionError("it never sleeps")

    def message(self, follows: int) -> bool:
        """A message, and so many that follow at once; whether the loop stayed awake for them."""
        self.poll.heard()
        awake = self.poll.polling
        for _ in range(follows):
            self.turn(WINDOW_SECONDS / 3)
            self.poll.heard()
        self.rest()
        self.now += 1.0
        return awake


def test_it_stays_awake_while_messages_follow() -> None:
    loop = Loop()
    assert loop.message(follows=200)
    assert not loop.poll.polling
    assert loop.message(follows=200)


def test_a_window_without_a_message_ends_it() -> None:
    loop = Loop()
    loop.poll.heard()
    loop.turn(WINDOW_SECONDS * 0.9)
    assert loop.poll.polling
    loop.turn(WINDOW_SECONDS * 0.2)
    assert not loop.poll.polling
    assert not loop.calls


def test_in_vain_it_tries_more_and_more_rarely() -> None:
    loop = Loop()
    tried = [number for number in range(1000) if loop.message(follows=0)]
    gaps = [after - before for before, after in itertools.pairwise(tried)]
    assert gaps[:6] == [2, 4, 8, 16, 32, 64]
    assert set(gaps[6:]) == {SELDOM + 1}


def test_few_that_follow_do_not_pay_and_more_do() -> None:
    few, more = Loop(), Loop()
    assert sum(few.message(follows=PAYS - 1) for _ in range(100)) < 10
    assert sum(more.message(follows=PAYS) for _ in range(100)) == 100


def test_what_begins_to_pay_is_noticed() -> None:
    loop = Loop()
    for _ in range(1000):
        loop.message(follows=0)
    for _ in range(200):
        loop.message(follows=50)
    assert all(loop.message(follows=50) for _ in range(10))


async def test_with_one_cpu_nobody_waits_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert on_message(loop) is nothing
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert on_message(loop) is not nothing


def ticks(pid: int) -> int:
    """CPU time of a process, in the kernel's ticks (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_the_process_sleeps_when_a_console_is_quiet(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    with echo_thread(monkeypatch):
        async with serve(panel.app, "relay") as place, dial(panel, place, await fresh(panel)) as socket:
            for _ in range(300):
                await socket.send(b"abcd")
                await read(socket, 4)
            pid = cast(Relay, panel.app.extensions[RELAY]).pid
            assert pid is not None
            before = ticks(pid)
            time.sleep(1)
            assert ticks(pid) - before <= 2
