"""Events between the panel's processes, over PostgreSQL's NOTIFY.

What is published here is gathered for a moment, each fact once, and told in payloads below PostgreSQL's limit. When the
connection breaks, what was to be told waits and what others told is lost: ``Resynced`` says so to everybody here, who read again.
``docs/decisions/0013-many-processes.md``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple
from typing import Any, get_args

import orjson
import structlog

from panel.events import Event, EventBus, Resynced
from panel.models.notify import FAILURES, MOST_BYTES, NotifyConnection

GATHER = 0.01  # seconds in which what is published together is told together
MOST_WAITING = 20_000  # events; beyond that, others are told to read everything again
FIRST_PAUSE, MOST_PAUSE = 0.1, 5.0  # seconds between two tries to connect
PROBE_EVERY = 5.0  # seconds of silence after which the connection is tried
KINDS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in get_args(Event)}

terminal = structlog.get_logger("panel.relay")


class Relay:
    """Passes this process's events on, and those of others in.

    Args:
        name: says whose a payload is: one's own are not heard again.
    """

    def __init__(self, url: str, name: str, events: EventBus) -> None:
        self._url = url
        self._name = name
        self._events = events
        self._waiting: dict[Event, None] = {}
        self._arrived = asyncio.Event()
        self._job: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()

    async def start(self) -> None:
        """Connect, and begin to pass on. Waits for the first connection as long as one try takes."""
        self._events.relay = self._take
        self._job = asyncio.get_running_loop().create_task(self._serve(), name="relay")
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_PAUSE):
                await self._connected.wait()

    async def stop(self) -> None:
        """Tell what waits, within a second, and end."""
        self._events.relay = None
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while self._waiting and self._connected.is_set():  # noqa: ASYNC110 - the sender takes it away
                    await asyncio.sleep(GATHER)
        if self._job is not None:
            self._job.cancel()
            await asyncio.wait([self._job])

    def _take(self, event: Event) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting = {Resynced(): None}
        self._waiting[event] = None
        self._arrived.set()

    def _hear(self, payload: str) -> None:
        try:
            told = orjson.loads(payload)
            if told["from"] == self._name:
                return
            found = [KINDS[kind](*values) for kind, *values in told["events"] if kind in KINDS]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):  # of another version, or of nobody of ours
            terminal.warning("an event was not understood")
            return
        for event in found:
            self._events.arrive(event)

    async def _serve(self) -> None:
        pause, first = FIRST_PAUSE, True
        while True:
            try:
                connection = await NotifyConnection.open(self._url, self._hear)
            except FAILURES as error:
                terminal.warning("events of other processes cannot be heard", reason=type(error).__name__)
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes
                pause = min(MOST_PAUSE, pause * 2)
                continue
            pause = FIRST_PAUSE
            self._connected.set()
            if not first:
                terminal.info("events of other processes are heard again")
                self._events.arrive(Resynced())
            first = False
            try:
                await self._pass_on(connection)
            finally:
                self._connected.clear()
                await connection.close()

    async def _pass_on(self, connection: NotifyConnection) -> None:
        """Tell what arrives, until the connection breaks."""
        loop = asyncio.get_running_loop()
        ended = loop.create_task(connection.ended.wait())
        try:
            while not ended.done():
                news = loop.create_task(self._arrived.wait())
                await asyncio.wait({ended, news}, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if not self._arrived.is_set():
                    await connection.probe()
                    continue
                await asyncio.sleep(GATHER)
                self._arrived.clear()
                await self._tell(connection)
        except FAILURES:
            pass  # what was not told waits for the next connection
        finally:
            ended.cancel()

    async def _tell(self, connection: NotifyConnection) -> None:
        waiting, self._waiting = self._waiting, {}
        told: list[Event] = []
        try:
            for payload, events in payloads(self._name, waiting):
                await connection.tell(payload)
                told += events
        finally:
            for event in told:
                del waiting[event]
            if waiting:
                self._waiting = waiting | self._waiting
                self._arrived.set()


def payloads(name: str, events: Iterable[Event]) -> Iterator[tuple[str, list[Event]]]:
    """The events as JSON, each payload below ``MOST_BYTES``, and which are in it."""
    room = MOST_BYTES - len(_packed(name, []))
    batch: list[Event] = []
    words: list[Any] = []
    size = 0
    for event in events:
        word = [type(event).__name__, *astuple(event)]
        length = len(orjson.dumps(word)) + 1
        if batch and size + length > room:
            yield _packed(name, words), batch
            batch, words, size = [], [], 0
        batch.append(event)
        words.append(word)
        size += length
    if batch:
        yield _packed(name, words), batch


def _packed(name: str, words: list[Any]) -> str:
    return orjson.dumps({"from": name, "events": words}).decode()
