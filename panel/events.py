"""What happened, told to whoever listens: frozen facts, published in process, and passed on to the panel's other processes
where there are any (``panel.services.relay``). No event carries a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
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


@dataclass(frozen=True, slots=True)
class Resynced:
    """What other processes told in a while did not arrive: anything may have changed."""


# -- between the panel's processes: whoever acts on them is elsewhere ------------------------------------------


@dataclass(frozen=True, slots=True)
class HostConfigured:
    """A host was added, switched, or connects otherwise than before: who watches it begins anew."""

    host_id: int


@dataclass(frozen=True, slots=True)
class LookWanted:
    """A host is to be looked at now; with ``inventory``, its images and leftovers too."""

    host_id: int
    inventory: bool


@dataclass(frozen=True, slots=True)
class RulesWanted:
    """Something that a host's rules are made of changed."""

    host_id: int


@dataclass(frozen=True, slots=True)
class ConvergeAsked:
    """A process wants the rules (``gateway``) or domains (``sites``) of a host brought in line, and waits for the outcome."""

    ask: str
    part: str
    host_id: int


@dataclass(frozen=True, slots=True)
class ConvergeDone:
    """The answer. ``problem`` is a packed ``Text`` as JSON, empty when all is well."""

    ask: str
    problem: str


@dataclass(frozen=True, slots=True)
class TaskQueued:
    """A task waits for a process that runs it."""

    task_id: str


@dataclass(frozen=True, slots=True)
class TaskCancelAsked:
    """A task is to stop; the process that runs it is another one."""

    task_id: str


@dataclass(frozen=True, slots=True)
class SharesChanged:
    """Hosts are free to be taken, or a process came or went."""


Event = (
    HostChanged | HostRemoved | VmChanged | VmRemoved | TaskChanged | TaskLogged | SessionEnded | Resynced
    | HostConfigured | LookWanted | RulesWanted | ConvergeAsked | ConvergeDone | TaskQueued | TaskCancelAsked | SharesChanged
)  # fmt: skip


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
    """Publish and subscribe.

    Attributes:
        relay: passes an event on to the other processes; None where there are none.
        arrivals: called with each event of another process, after its delivery here.
    """

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.relay: Callable[[Event], None] | None = None
        self.arrivals: list[Callable[[Event], None]] = []

    def publish(self, event: Event) -> None:
        """Tell everyone. Never blocks."""
        self._deliver(event)
        if self.relay is not None:
            self.relay(event)

    def arrive(self, event: Event) -> None:
        """Tell everyone in this process what another one published."""
        self._deliver(event)
        for heard in self.arrivals:
            heard(event)

    def _deliver(self, event: Event) -> None:
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
