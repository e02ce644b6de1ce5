"""The log: who did what to which object, when, from where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from tortoise.expressions import Q

from panel.i18n import Text
from panel.models import LogEntry
from panel.security import Actor, Permission
from panel.services.clock import now
from panel.services.texts import pack

KEEP_ROWS = 200_000
BATCH = 500  # entries that an export holds at once

terminal = structlog.get_logger("panel")


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries: all that are set must match. ``text`` is looked for in object names, actors and actions;
    ``within`` is an object with what belongs to it: a host's name finds its VMs too."""

    level: str = ""
    action: str = ""
    object_kind: str = ""
    object_name: str = ""
    actor: str = ""
    source: str = ""
    within: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


class AuditLog:
    """Writes and reads ``LogEntry`` rows."""

    async def write(
        self,
        actor: Actor,
        action: str,
        object_kind: str,
        object_name: str,
        message: Text,
        *,
        level: str = "info",
    ) -> None:
        """Record something that was done or failed; also goes to the terminal."""
        await LogEntry.create(
            at=now(),
            level=level,
            actor=actor.name,
            source=actor.source,
            address=actor.address,
            action=action,
            object_kind=object_kind,
            object_name=object_name[:160],
            message=pack(message),
        )
        write = {"info": terminal.info, "warning": terminal.warning}.get(level, terminal.error)
        write(str(message), action=action, object=object_name, actor=actor.name, source=str(actor.source))

    async def read(self, wanted: LogFilter, *, page: int = 1, limit: int = 50) -> tuple[int, list[LogEntry]]:
        """How many match, and one page of them, newest first. ``page`` counts from 1."""
        query = LogEntry.filter(*_conditions(wanted))
        return await query.count(), await query.order_by("-id").offset((page - 1) * limit).limit(limit)

    async def export(self, actor: Actor, wanted: LogFilter) -> AsyncIterator[LogEntry]:
        """All that match, newest first, ``BATCH`` rows in memory at a time. What is written meanwhile is not among them.

        Raises:
            Forbidden: the actor may not look, said before the first row is read.
        """
        actor.require(Permission.VIEW)
        return self._batches(_conditions(wanted))

    async def _batches(self, conditions: list[Q]) -> AsyncIterator[LogEntry]:
        border: list[Q] = []
        while rows := await LogEntry.filter(*conditions, *border).order_by("-id").limit(BATCH):
            for row in rows:
                yield row
            border = [Q(id__lt=rows[-1].id)]

    async def actions(self) -> list[str]:
        """The actions that the log knows, in order."""
        return [
            str(name) for name in await LogEntry.all().distinct().order_by("action").values_list("action", flat=True)
        ]

    async def trim(self) -> int:
        """Drop the oldest entries beyond ``KEEP_ROWS``; returns how many."""
        border = await LogEntry.all().order_by("-id").offset(KEEP_ROWS).first()
        return await LogEntry.filter(id__lte=border.id).delete() if border else 0


def _conditions(wanted: LogFilter) -> list[Q]:
    exact = {
        name: getattr(wanted, name)
        for name in ("level", "action", "object_kind", "object_name", "actor", "source")
        if getattr(wanted, name)
    }
    conditions = [Q(**exact)] if exact else []
    if wanted.within:
        conditions.append(Q(object_name=wanted.within) | Q(object_name__startswith=wanted.within + "/"))
    if wanted.text:
        conditions.append(
            Q(object_name__icontains=wanted.text) | Q(actor__icontains=wanted.text) | Q(action__icontains=wanted.text)
        )
    if wanted.since:
        conditions.append(Q(at__gte=wanted.since))
    if wanted.until:
        conditions.append(Q(at__lte=wanted.until))
    return conditions
