"""What happened, told to whoever listens: frozen facts, published in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostChanged:
    """A host's row changed: health, load, settings."""

    host_id: int


@dataclass(frozen=True, slots=True)
class HostRemoved:
    host_id: int


@dataclass(frozen=True, slots=True)
class VmChanged:
    """A VM's row changed: state, load, settings."""

    vm_id: int
    host_id: int


@dataclass(frozen=True, slots=True)
class VmRemoved:
    vm_id: int
    host_id: int


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A task began, moved or ended."""

    task_id: str
    ended: bool


@dataclass(frozen=True, slots=True)
class TaskLogged:
    """A task's log grew."""

    task_id: str


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A login or the token is no longer good: ``credential`` as in ``Actor``."""

    credential: str


Event = HostChanged | HostRemoved | VmChanged | VmRemoved | TaskChanged | TaskLogged | SessionEnded


class Subscription:
    """One listener's view: an event that is already waiting is not stored twice, so the queue is bounded by the number of
    things that exist, however slow the listener."""

    def __init__(self) -> None:
        self._waiting: dict[Event, None] = {}
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        self._waiting[event] = None
        self._arrived.set()

    async def get(self) -> Event:
        """The next event, oldest first."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        event = next(iter(self._waiting))
        del self._waiting[event]
        return event

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            yield await self.get()


class EventBus:
    """Publish and subscribe within one process."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, event: Event) -> None:
        """Tell everyone. Never blocks."""
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Listen inside the block."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
