"""What is to be said of machines' gateways: drift that is told only, and warnings; each logged once, and kept for pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from panel.events import EventBus, HostChanged
from panel.gateways.kernel import Difference
from panel.i18n import Text
from panel.i18n import gettext_noop as _
from panel.models import Host
from panel.security import PANEL
from panel.services.audit import AuditLog
from panel.services.texts import pack


class Notices:
    """By machine."""

    def __init__(self, events: EventBus, audit: AuditLog) -> None:
        self._events = events
        self._audit = audit
        self._drift: dict[str, list[Difference]] = {}
        self._warnings: dict[tuple[str, str], tuple[Text, ...]] = {}
        self._noted: dict[str, list[dict[str, Any]]] = {}

    async def put_right(self, machine: str, drifted: list[Difference]) -> None:
        """Log that rules were not as they should be, and are again."""
        text = Text(
            _("{count} rules of {machine} were not as they should be ({first}), and were put right."),
            {"count": len(drifted), "machine": machine, "first": _first(drifted)},
        )
        await self._audit.write(PANEL, "gateway.drift", "gateway", machine, text, level="warning")

    async def differs(self, machine: str, ids: Iterable[int], drifted: list[Difference]) -> None:
        """Keep drift that is told only, and tell it once."""
        before = self._drift.get(machine, [])
        self._drift[machine] = drifted
        if before == drifted:
            return
        for host_id in ids:
            self._events.publish(HostChanged(host_id))
        if text := self._text(machine):
            await self._audit.write(PANEL, "gateway.drift", "gateway", machine, text, level="warning")

    def _text(self, machine: str) -> Text | None:
        drifted = self._drift.get(machine, [])
        if not drifted:
            return None
        return Text(
            _(
                "{count} rules of {machine} are not as they should be ({first}). They are left so: its host only reports."
            ),
            {"count": len(drifted), "machine": machine, "first": _first(drifted)},
        )

    async def say(self, machine: str, part: str, warnings: tuple[Text, ...]) -> None:
        """Keep what a gateway warns of, and log what is new."""
        before = self._warnings.get((machine, part), ())
        self._warnings[machine, part] = warnings
        for text in warnings:
            if text not in before:
                await self._audit.write(PANEL, "gateway.warning", "gateway", machine, text, level="warning")

    def drift(self, machine: str) -> list[Difference]:
        """What differs and is left so."""
        return list(self._drift.get(machine, []))

    def of(self, machine: str) -> list[Text]:
        """What pages show."""
        drift = self._text(machine)
        warned = [text for part in ("rules", "rates") for text in self._warnings.get((machine, part), ())]
        return [*([drift] if drift else []), *warned]

    async def keep(self, machine: str, ids: Iterable[int]) -> None:
        """Note with the hosts, for the pages of other processes, what this one would show."""
        rows = [pack(text) for text in self.of(machine)]
        if self._noted.get(machine) != rows:
            await Host.filter(id__in=list(ids)).update(notices=rows)
            self._noted[machine] = rows

    def forget(self, machine: str) -> None:
        """Another process says it from now on."""
        self._drift.pop(machine, None)
        self._noted.pop(machine, None)
        for part in ("rules", "rates"):
            self._warnings.pop((machine, part), None)


def _first(drifted: list[Difference]) -> str:
    """A few of the differences, in words of nft's."""
    return ", ".join(sorted({f"{item.kind} {item.subject}" for item in drifted})[:5])
