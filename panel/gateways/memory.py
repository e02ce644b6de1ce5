"""A gateway in memory, for the fake engine: it keeps what it was told, and can be made to fail or to forget."""

from __future__ import annotations

from collections.abc import Iterable

from panel.errors import PanelError
from panel.gateways.kernel import Applied, Difference, DifferenceKind, Traffic
from panel.gateways.types import Guest, Protocol, RuleSet
from panel.i18n import Text


class MemoryGateway:
    """One imaginary machine's rules.

    Attributes:
        applied: what holds now.
        count: how often it was applied.
        failure: raised by every call but ``taken`` while it is set.
        listening: ports that the machine's own programs have.
        traffic: what its counters say; those of VMs without rules say nothing.
        limits: Mbit/s up and down, by port.
        complaint: what ``limit`` says, and the rates that hold stay.
    """

    def __init__(self) -> None:
        self.applied = RuleSet()
        self.count = 0
        self.failure: PanelError | None = None
        self.listening: set[tuple[Protocol, int]] = set()
        self.traffic: dict[str, Traffic] = {}
        self.limits: dict[str, tuple[int, int]] = {}
        self.complaint: Text | None = None

    async def apply(self, ruleset: RuleSet) -> Applied:
        """Keep it."""
        self._check()
        vms = {guest.vm for guest in ruleset.guests}
        retired = {vm: self.traffic.pop(vm) for vm in set(self.traffic) - vms}
        self.applied = ruleset
        self.count += 1
        return Applied(ruleset.revision, guarded=True, retired=retired)

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """The forwards that differ."""
        self._check()
        wanted, there = set(ruleset.forwards), set(self.applied.forwards)
        made = [(DifferenceKind.MISSING, rule) for rule in wanted - there]
        made += [(DifferenceKind.FOREIGN, rule) for rule in there - wanted]
        return [Difference(kind, "rule", "forwards", f"forward {rule.id}") for kind, rule in made]

    async def revision(self) -> int | None:
        """Of what was applied last."""
        self._check()
        return self.applied.revision if await self.present() else None

    async def present(self) -> bool:
        """Whether anything of ours is there."""
        self._check()
        return self.applied != RuleSet()

    async def counters(self) -> dict[str, Traffic]:
        """Of every VM that has rules."""
        self._check()
        return {guest.vm: self.traffic.get(guest.vm, Traffic()) for guest in self.applied.guests}

    async def limit(self, guests: Iterable[Guest]) -> tuple[Text, ...]:
        """Keep the rates."""
        if self.complaint is not None:
            return (self.complaint,)
        rates = {guest.interface or guest.mac: (guest.rate_up_mbit, guest.rate_down_mbit) for guest in guests}
        self.limits = {port: rate for port, rate in rates.items() if any(rate)}
        return ()

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """The ports that forwards must not take."""
        return frozenset(port for item, port in self.listening if item is protocol)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
