"""Asking the process that watches a host to bring its rules or domains in line, and waiting for what comes of it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable

import structlog

from panel.events import ConvergeAsked, ConvergeDone, EventBus
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host
from panel.services.texts import pack, unpack

ASK_SECONDS = 20.0
LONGEST = 4000  # bytes of an answer: it has to fit into a payload

terminal = structlog.get_logger("panel.asks")

Converge = Callable[[Host], Awaitable[Text | None]]


class Asks:
    """Between processes: who asks, and who answers."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self.parts: dict[str, Converge] = {}  # by name, what is brought in line in this process

    async def converge(self, part: str, host_id: int) -> Text | None:
        """Let the host's process do it: what went wrong, also when it does not answer; None when all is well."""
        ask = uuid.uuid4().hex
        with self._events.subscribe() as events:
            self._events.publish(ConvergeAsked(ask, part, host_id))
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    async for event in events:
                        if isinstance(event, ConvergeDone) and event.ask == ask:
                            return unpack(json.loads(event.problem)) if event.problem else None
            except TimeoutError:
                pass
        return Text(
            _("The process of the panel that watches this host did not answer; it is applied as soon as one does.")
        )

    async def answer(self, event: ConvergeAsked) -> None:
        """Do what another process asked for, and tell it what came of it."""
        host = await Host.get_or_none(id=event.host_id)
        problem = await self.parts[event.part](host) if host else None
        packed = json.dumps(pack(problem)) if problem else ""
        if len(packed.encode()) > LONGEST:
            packed = json.dumps(pack(Text(_("It did not work; the reason is with the rules."))))
        self._events.publish(ConvergeDone(event.ask, packed))
