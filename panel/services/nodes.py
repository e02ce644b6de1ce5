"""The panel's processes, and which hosts are this one's to watch.

With SQLite there is one process, which has everything (``Alone``). With PostgreSQL any number serve (``Together``): each has a
row that it renews (a beat), and each host belongs to one of them. Who does not renew its row is dead by the database's clock, and
the others share its hosts. ``docs/decisions/0013-many-processes.md``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from tortoise import connections
from tortoise.transactions import in_transaction

from panel.events import EventBus, HostConfigured, HostRemoved, Resynced, SharesChanged
from panel.models import Host, ProcessNode
from panel.models.database import is_away
from panel.services.clock import now
from panel.services.shares import Node, grouped, share

BEAT_EVERY = 1.5  # seconds
BEAT_SECONDS = 3.0  # that one beat may take
LOST_SECONDS = 4.5  # without a beat: this process stops watching, before others may begin
DEAD_SECONDS = 6.0  # without a beat: others share what it had
IDLE_SECONDS = 3  # PostgreSQL ends the transaction of a process that was stopped in its midst
PLAN_LOCK = 0x6F70656E6965  # of PostgreSQL's advisory locks: one process plans at a time


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What machine a host is, if it shares one with others; ``local``: only processes on that machine reach it."""

    machine: str | None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What came of planning, for one process: hosts that are its, that it is to give away, and that nobody reaches."""

    keep: set[int]
    give: set[int]
    unreached: Sequence[int]


Gained = Callable[[Sequence[int]], Awaitable[None]]
Lost = Callable[[Sequence[int]], Awaitable[None]]
Survey = Callable[[], Awaitable[Mapping[int, Surveyed]]]

terminal = structlog.get_logger("panel.nodes")


class Nodes(Protocol):
    """What the rest of the panel asks of its processes.

    Attributes:
        id: this process's; None when there are no others.
        gained: told of the hosts that are this process's from now on.
        lost: told of those that are not any more, before others may have them.
        cut_off: told that others may take this process for dead.
    """

    id: str | None
    gained: list[Gained]
    lost: list[Lost]
    cut_off: list[Callable[[], None]]

    def owns(self, host_id: int) -> bool:
        """Whether a host is this process's to watch."""
        ...

    @property
    def mine(self) -> Sequence[int] | None:
        """The hosts that are this process's; None: all."""
        ...

    @property
    def leads(self) -> bool:
        """Whether what one process does for all is this one's."""
        ...

    @property
    def in_touch(self) -> bool:
        """Whether nobody can take this process for dead."""
        ...

    async def start(self) -> None:
        """Begin: ``gained`` is called for what there is."""
        ...

    async def stop(self) -> None:
        """End, and leave what is this process's to others."""
        ...


class Alone:
    """The one process over SQLite."""

    id: str | None = None
    leads = True
    in_touch = True
    mine: Sequence[int] | None = None

    def __init__(self) -> None:
        self.gained: list[Gained] = []
        self.lost: list[Lost] = []
        self.cut_off: list[Callable[[], None]] = []

    def owns(self, host_id: int) -> bool:
        """Everything."""
        return True

    async def start(self) -> None:
        """All hosts at once."""
        hosts = [host.id for host in await Host.all().only("id")]
        for tell in self.gained:
            await tell(hosts)

    async def stop(self) -> None:
        """Nobody is there to leave anything to."""


class Together:
    """One of several processes over PostgreSQL.

    Args:
        machine: a name of the machine that it runs on.
        address: where it listens, for people.

    Attributes:
        survey: says what machines all hosts are.
        unreached: told of the hosts that no process reaches.
    """

    def __init__(self, events: EventBus, machine: str, address: str = "") -> None:
        self.id: str | None = uuid.uuid4().hex
        self.gained: list[Gained] = []
        self.lost: list[Lost] = []
        self.cut_off: list[Callable[[], None]] = []
        self.leads = False
        self.survey: Survey = _nowhere
        self.unreached: Callable[[Sequence[int]], Awaitable[None]] = _nothing
        self._name = self.id or ""
        self._events = events
        self._machine = machine
        self._address = address
        self._mine: set[int] = set()
        self._beaten = float("-inf")  # when the last beat that arrived was sent (monotonic)
        self._since = float("inf")  # since when all of them arrived
        self._wake = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []
        self._started = now()

    def owns(self, host_id: int) -> bool:
        """Whether it is among those that the last plan gave to this process."""
        return host_id in self._mine

    @property
    def mine(self) -> Sequence[int] | None:
        """In order."""
        return sorted(self._mine)

    @property
    def in_touch(self) -> bool:
        """Whether a beat arrived lately."""
        return time.monotonic() - self._beaten < LOST_SECONDS

    async def start(self) -> None:
        """Take part."""
        self._since = time.monotonic()
        await self._round()
        loop = asyncio.get_running_loop()
        works = {"beat": self._beat(), "watchdog": self._watchdog(), "shares": self._listen()}
        self._jobs = [loop.create_task(work, name=f"nodes {name}") for name, work in works.items()]
        self._events.publish(SharesChanged())

    async def stop(self) -> None:
        """Say goodbye: others have this process's hosts at their next beat."""
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)
        await self._lose(sorted(self._mine))
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await Host.filter(owner=self._name).update(owner=None)
                await ProcessNode.filter(id=self._name).delete()
        except Exception as error:
            terminal.warning("others were not told of the end", reason=type(error).__name__)
        self._events.publish(SharesChanged())

    # -- beating -------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_EVERY):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._round()
            except Exception as error:
                if is_away(error) or isinstance(error, TimeoutError):
                    terminal.warning("the database was not reached", reason=type(error).__name__)
                else:
                    terminal.exception("beat failed")
                await asyncio.sleep(BEAT_EVERY / 3)

    async def _round(self) -> None:
        sent = time.monotonic()
        async with asyncio.timeout(BEAT_SECONDS):
            known = await self._renew()
        if not self.in_touch:
            self._since = sent
        if not known:
            self._drop()
            self._since = sent
            async with asyncio.timeout(BEAT_SECONDS):
                await self._register()
        self._beaten = sent
        async with asyncio.timeout(BEAT_SECONDS):
            plan = await self._plan()
        if plan is not None:
            await self._follow(plan)

    async def _renew(self) -> bool:
        """Renew this process's row; whether it was there."""
        query = "UPDATE process_node SET beat_at = clock_timestamp() WHERE id = $1"
        count, _rows = await connections.get("default").execute_query(query, [self._name])
        return bool(count == 1)

    async def _register(self) -> None:
        query = (
            "INSERT INTO process_node (id, machine, address, pid, started_at, beat_at) "
            "VALUES ($1, $2, $3, $4, $5, clock_timestamp())"
        )
        values = [self._name, self._machine, self._address, os.getpid(), self._started]
        await connections.get("default").execute_query(query, values)

    async def _watchdog(self) -> None:
        """A process that cannot renew its row stops what others may begin."""
        while True:
            await asyncio.sleep(0.3)
            if not self.in_touch and (self._mine or self._since != float("inf")):
                terminal.error("out of touch with the database: hosts are left to others")
                self._drop()

    def _drop(self) -> None:
        """Stop at once, without a word to the database."""
        self._since = float("inf")
        hosts, self._mine, self.leads = sorted(self._mine), set(), False
        for tell in self.cut_off:
            tell()
        if hosts:
            job = asyncio.get_running_loop().create_task(self._tell_lost(hosts))
            self._jobs.append(job)
            job.add_done_callback(self._jobs.remove)

    # -- sharing -------------------------------------------------------------------------------------------------

    async def _plan(self) -> Plan | None:
        """Bury the dead, plan, and claim what is free and this process's by the plan. None: another one plans just now."""
        surveyed = await self.survey()
        async with in_transaction("default") as connection:
            await connection.execute_query(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
            (lock,) = await connection.execute_query_dict("SELECT pg_try_advisory_xact_lock($1) AS ours", [PLAN_LOCK])
            if not lock["ours"]:
                return None
            if time.monotonic() - self._since >= DEAD_SECONDS:  # whoever was away itself cannot tell who is dead
                await self._bury(connection)
            rows = await ProcessNode.all().using_db(connection).order_by("started_at", "id")
            nodes = [Node(row.id, row.machine) for row in rows]
            self.leads = bool(nodes) and nodes[0].id == self._name
            living = {node.id for node in nodes}
            owners: dict[int, str | None] = {}
            pins: dict[int, str] = {}
            found = await Host.all().using_db(connection).values_list("id", "owner", "machine")
            for host, owner, machine in found:
                if host in surveyed:
                    owners[host] = owner if owner in living else None
                    pins[host] = machine or (self._machine if surveyed[host].local else "")
            plan = share(nodes, grouped({host: surveyed[host].machine for host in owners}, owners, pins))
            mine = {host for host, node in plan.items() if node == self._name}
            free = {host for host in mine if owners[host] is None}
            claimed = await self._claim(connection, free, pins)
        had = {host for host, owner in owners.items() if owner == self._name}
        unreached = sorted(owners.keys() - plan.keys()) if self.leads else []
        return Plan(keep=(mine & had) | claimed, give=had - mine, unreached=unreached)

    async def _bury(self, connection: Any) -> None:
        query = "DELETE FROM process_node WHERE beat_at < clock_timestamp() - $1::interval AND id <> $2 RETURNING id"
        for row in await connection.execute_query_dict(query, [timedelta(seconds=DEAD_SECONDS), self._name]):
            terminal.warning("a process of the panel is dead", process=row["id"])

    async def _claim(self, connection: Any, hosts: Iterable[int], pins: Mapping[int, str]) -> set[int]:
        """Take free hosts. A row that somebody writes just now is taken at the next beat: nobody waits here."""
        claimed: set[int] = set()
        for host in sorted(hosts):
            rows = await connection.execute_query_dict(
                "UPDATE host SET owner = $1, machine = $2 WHERE id = "
                "(SELECT id FROM host WHERE id = $3 FOR UPDATE SKIP LOCKED) RETURNING id",
                [self._name, pins[host], host],
            )
            claimed |= {row["id"] for row in rows}
        return claimed

    async def _follow(self, plan: Plan) -> None:
        """Begin with what is new, and give away what is another's by the plan."""
        await self._lose(sorted(self._mine - plan.keep))
        if plan.give:
            await Host.filter(id__in=sorted(plan.give), owner=self._name).update(owner=None)
            self._events.publish(SharesChanged())
        new = sorted(plan.keep - self._mine)
        if new:
            self._mine |= set(new)
            terminal.info("hosts are this process's to watch", hosts=new)
            for tell in self.gained:
                await tell(new)
        if plan.unreached:
            await self.unreached(plan.unreached)

    async def _lose(self, hosts: Sequence[int]) -> None:
        self._mine -= set(hosts)
        if hosts:
            await self._tell_lost(hosts)

    async def _tell_lost(self, hosts: Sequence[int]) -> None:
        for tell in self.lost:
            try:
                await tell(hosts)
            except Exception as error:
                if is_away(error):
                    terminal.warning("hosts were let go of in haste", reason=type(error).__name__)
                else:
                    terminal.exception("hosts were not let go of")

    async def _listen(self) -> None:
        with self._events.subscribe() as events:
            async for event in events:
                if isinstance(event, SharesChanged | Resynced | HostConfigured | HostRemoved):
                    self._wake.set()


async def _nowhere() -> Mapping[int, Surveyed]:
    return {}


def this_machine() -> str:
    """A name that no other machine has: its machine-id, else its host name."""
    with suppress(OSError):
        if found := Path("/etc/machine-id").read_text("ascii", "replace").strip():
            return found[:64]
    return socket.gethostname()[:64]


async def _nothing(_hosts: Sequence[int]) -> None:
    """Nobody wants to know."""
