"""What a page wants to hear of: the topics in the address of its event stream."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from panel import web
from panel.pages.columns import PLAIN, pack, unpack
from panel.services.clock import now

MOST_ROWS = 200
EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = timedelta(microseconds=1)
TASK_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Topics:
    """What a page shows.

    Attributes:
        vms: the VMs whose rows are visible.
        vm / host / task: the one whose page this is.
        shown_hosts: the hosts whose rows are visible.
        hosts: rows of hosts; tasks: rows of tasks.
        new_tasks / new_vms: what came after this moment is counted, on a line above the list. Nothing is put into a list
            that somebody looks at: its rows would move.
        pick: the rows of VMs can be selected; columns: what they show.
        overview: the dashboard: its numbers, its own rows of hosts, what needs attention, what was done last.
        network: of the VM's page, the lists of its network are shown; hardware, console, snapshots: those tabs
            of it.
        images: of the host's page, the list of its images is shown.
        since: when the page was rendered, or how far it was told.
    """

    vms: frozenset[int] = frozenset()
    shown_hosts: frozenset[int] = frozenset()
    vm: int | None = None
    host: int | None = None
    task: str | None = None
    pick: bool = False
    columns: tuple[str, ...] = PLAIN
    hosts: bool = False
    tasks: bool = False
    overview: bool = False
    network: bool = False
    images: bool = False
    hardware: bool = False
    snapshots: bool = False
    console: bool = False
    new_tasks: datetime | None = None
    new_vms: datetime | None = None
    since: datetime | None = None


def live_url(
    *,
    vms: Iterable[int] = (),
    hosts: Iterable[int] = (),
    vm: int | None = None,
    host: int | None = None,
    task: str | None = None,
    columns: Iterable[str] | None = None,
    new_tasks: datetime | None = None,
    new_vms: datetime | None = None,
    flags: Iterable[str] = (),
) -> str:
    """The address of a page's event stream. ``flags``: ``hosts``, ``tasks``, ``overview``, ``network``,
    ``hardware``, ``console``, ``snapshots``, ``images``, ``pick``."""
    words = list(flags)
    for name, ids in (("vms", vms), ("hosts", hosts)):
        if rows := list(ids)[:MOST_ROWS]:
            words.append(f"{name}:" + ".".join(map(str, rows)))
    if columns is not None:
        words.append("columns:" + pack(columns))
    words += [
        f"{name}:{(moment - EPOCH) // MICROSECOND}"
        for name, moment in (("new_tasks", new_tasks), ("new_vms", new_vms))
        if moment is not None
    ]
    words += [f"{name}:{value}" for name, value in (("vm", vm), ("host", host), ("task", task)) if value is not None]
    return web.url("pages.events", topics=",".join(words), since=int(now().timestamp()))


def parse_topics(text: str, since: str = "") -> Topics:
    """Read the topics of an address. What makes no sense is left out."""
    flags: set[str] = set()
    rows: dict[str, frozenset[int]] = {}
    numbers: dict[str, int] = {}
    moments: dict[str, datetime] = {}
    task = None
    columns: tuple[str, ...] = PLAIN
    for word in text[:8000].split(","):
        name, _colon, value = word.partition(":")
        if not value:
            flags.add(name)
        elif name in {"vms", "hosts"}:
            rows[name] = frozenset(filter(None, map(_number, value.split(".")[:MOST_ROWS])))
        elif name == "columns":
            columns = unpack(value) or ()
        elif name == "task" and TASK_ID.fullmatch(value):
            task = value
        elif name in {"new_tasks", "new_vms"}:
            moments[name] = EPOCH + _number(value, 16) * MICROSECOND
        elif number := _number(value):
            numbers[name] = number
    moment = _number(since)
    return Topics(
        vms=rows.get("vms", frozenset()),
        shown_hosts=rows.get("hosts", frozenset()),
        vm=numbers.get("vm"),
        host=numbers.get("host"),
        task=task,
        pick="pick" in flags,
        columns=columns,
        hosts="hosts" in flags,
        tasks="tasks" in flags,
        overview="overview" in flags,
        network="network" in flags,
        images="images" in flags,
        hardware="hardware" in flags,
        snapshots="snapshots" in flags,
        console="console" in flags,
        new_tasks=moments.get("new_tasks"),
        new_vms=moments.get("new_vms"),
        since=datetime.fromtimestamp(moment, UTC) if moment else None,
    )


def _number(text: str, digits: int = 10) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else 0
