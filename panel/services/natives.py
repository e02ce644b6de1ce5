"""Forwards that a hypervisor makes itself: what is wanted is compared with what it has, and the difference is changed.

Nothing is kept between two calls that a look at the hypervisor would not tell again, so whoever is cut off in the middle goes
on where that was. What others made stays, and its ports are taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from panel.engines.base import Engine
from panel.engines.hosttypes import NativeForward
from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection
from panel.errors import PanelError
from panel.gateways.kernel import Applied, Difference, DifferenceKind, Traffic
from panel.gateways.ports import taken_ports
from panel.gateways.runner import LocalRunner, Runner
from panel.gateways.types import Guest, Protocol, RuleSet
from panel.i18n import Text
from panel.i18n import gettext_noop as _

READ_SECONDS = 20.0
NO_LIMITS = _(
    "{host}: rates are kept, but limit nothing: its hypervisor carries the traffic itself, and the panel is not on the way."
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs: ``missing`` is to be made, ``stale`` is ours and not wanted (any more, or not so), ``blocked`` are wanted
    where somebody else has the port, with what he has there."""

    missing: tuple[NativeForward, ...] = ()
    stale: tuple[NativeForward, ...] = ()
    blocked: Mapping[NativeForward, NativeForward] = field(default_factory=dict)


def wanted_of(ruleset: RuleSet) -> list[NativeForward]:
    """Every port of the forwards of a wish."""
    return [
        NativeForward(
            rule.protocol.value,
            rule.external_start + step,
            rule.internal_ip,
            rule.internal_start + step,
            rule.id,
            rule.ref,
        )
        for rule in ruleset.forwards
        for step in range(rule.external_end - rule.external_start + 1)
    ]


def compare(wanted: Iterable[NativeForward], there: Iterable[NativeForward]) -> Plan:
    """How what is there differs. Somebody's own forward that is just as wanted serves."""
    wanted = list(wanted)
    held: dict[tuple[str, int, int], NativeForward] = {}
    stale: list[NativeForward] = []
    asked = {one.place: one for one in wanted}
    for one in there:
        wish = asked.get(one.place)
        fits = wish is not None and wish.target == one.target and one.mark in {"", wish.mark}
        if one.mark and not fits:
            stale.append(one)
        else:
            held[one.place] = one
    missing = [one for one in wanted if one.place not in held]
    blocked = {one: held[one.place] for one in wanted if one.place in held and held[one.place].target != one.target}
    return Plan(tuple(missing), tuple(stale), blocked)


class NativeGateway:
    """The forwards of one hypervisor. It counts nothing, holds nobody to his address and limits no rates.

    Args:
        engine: the gateway's own: ``close`` closes it.
        runner: how to ask the hypervisor's machine what its own programs listen on, where it is the panel's.
    """

    def __init__(self, engine: Engine, runner: Runner | None = None) -> None:
        self._engine, self._runner = engine, runner
        self._refused: dict[NativeForward, Text] = {}
        self._foreign: dict[Protocol, frozenset[int]] = {}

    async def apply(self, ruleset: RuleSet) -> Applied:
        """Make what is missing, remove what is stale. A port that the hypervisor refuses, or that somebody else has, fails its
        own forward only."""
        plan = compare(wanted_of(ruleset), await self._read())
        refused = {one: _blocked(other) for one, other in plan.blocked.items()}
        if plan.missing or plan.stale:
            refused |= await self._engine.change_forwards(plan.stale, plan.missing)
        self._refused = refused
        return Applied(ruleset.revision, guarded=False, refused=_by_forward(refused))

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """What is missing and stale, but for what was refused: that is no news."""
        plan = compare(wanted_of(ruleset), await self._read())
        missing = [one for one in (*plan.missing, *plan.blocked) if one not in self._refused]
        kinds = [(DifferenceKind.MISSING, one) for one in missing]
        kinds += [(DifferenceKind.FOREIGN, one) for one in plan.stale]
        return sorted(Difference(kind, "rule", _place(one), f"forward {one.mark}") for kind, one in kinds)

    async def revision(self) -> int | None:
        """A hypervisor has no place for it."""
        return None

    async def present(self) -> bool:
        """Whether one of its forwards is the panel's."""
        return any(one.mark for one in await self._read())

    async def counters(self) -> dict[str, Traffic]:
        """None."""
        return {}

    async def limit(self, guests: Iterable[Guest]) -> tuple[Text, ...]:
        """Says so when there is something to limit."""
        limited = any(guest.rate_up_mbit or guest.rate_down_mbit for guest in guests)
        return (Text(NO_LIMITS, {"host": self._engine.connection.name}),) if limited else ()

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """The ports of others' forwards, those that the engine itself needs, and, of the panel's machine, those of its programs.
        Of a host that does not answer: what was known last."""
        with suppress(PanelError, TimeoutError):
            await self._read()
        reserved = self._engine.forwards_reserved if protocol is Protocol.TCP else frozenset()
        listening = await taken_ports(self._runner, protocol) if self._runner else frozenset()
        return self._foreign.get(protocol, frozenset()) | reserved | listening

    async def close(self) -> None:
        """Disconnect. Never raises."""
        await self._engine.close()

    async def _read(self) -> Sequence[NativeForward]:
        async with asyncio.timeout(READ_SECONDS):
            there = await self._engine.native_forwards()
        for protocol in Protocol:
            others = (one.port for one in there if one.protocol == protocol and not one.mark)
            self._foreign[protocol] = frozenset(others)
        return there


class Natives:
    """All of them. Each has an engine of its own: it takes a host's forwards away even when the panel has forgotten the host."""

    def __init__(self) -> None:
        self._gateways: dict[str, list[tuple[HostConnection, NativeGateway]]] = {}

    def of(self, place: str, kind: EngineKind, connection: HostConnection) -> NativeGateway:
        """The gateway at a place, reached so; made when first asked for. Two hosts of one place may log in differently."""
        wanted = replace(connection, name=place)
        known = self._gateways.setdefault(place, [])
        for settings, gateway in known:
            if settings == wanted:
                return gateway
        engine = make_engine(kind, wanted)
        here = engine.on_this_machine and kind is not EngineKind.FAKE
        gateway = NativeGateway(engine, LocalRunner() if here else None)
        known.append((wanted, gateway))
        return gateway

    async def forget(self, place: str) -> None:
        """No host is there any more."""
        await asyncio.gather(*(gateway.close() for _settings, gateway in self._gateways.pop(place, [])))

    async def close(self) -> None:
        """Disconnect all."""
        for place in list(self._gateways):
            await self.forget(place)


def _place(one: NativeForward) -> str:
    return f"{one.protocol} {one.port}"


def _blocked(other: NativeForward) -> Text:
    text = _("Somebody else leads {protocol} port {port} of the host to {address} already.")
    return Text(text, {"protocol": other.protocol, "port": other.port, "address": other.address})


def _by_forward(refused: Mapping[NativeForward, Text]) -> dict[str, Text]:
    """The first reason of each forward."""
    found: dict[str, Text] = {}
    for one, text in sorted(refused.items(), key=lambda item: item[0].port):
        found.setdefault(one.mark, text)
    return found
