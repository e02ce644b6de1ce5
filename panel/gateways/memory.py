"""A gateway in memory, for the fake engine: it keeps what it was told, and can be made to fail or to forget."""

from __future__ import annotations

from panel.errors import PanelError
from panel.gateways.kernel import Difference, DifferenceKind
from panel.gateways.types import Protocol, RuleSet


class MemoryGateway:
    """One imaginary machine's rules.

    Attributes:
        applied: what holds now.
        count: how often it was applied.
        failure: raised by every call but ``taken`` while it is set.
        listening: ports that the machine's own programs have.
    """

    def __init__(self) -> None:
        self.applied = RuleSet()
        self.count = 0
        self.failure: PanelError | None = None
        self.listening: set[tuple[Protocol, int]] = set()

    async def apply(self, ruleset: RuleSet) -> None:
        """Keep it."""
        self._check()
        self.applied = ruleset
        self.count += 1

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """The forwards that differ."""
        self._check()
        wanted, there = set(ruleset.forwards), set(self.applied.forwards)
        made = [(DifferenceKind.MISSING, rule) for rule in wanted - there]
        made += [(DifferenceKind.FOREIGN, rule) for rule in there - wanted]
        return [Difference(kind, "rule", "forwards", f"forward {rule.id}") for kind, rule in made]

    async def present(self) -> bool:
        """Whether anything of ours is there."""
        self._check()
        return self.applied != RuleSet()

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """The ports that forwards must not take."""
        return frozenset(port for item, port in self.listening if item is protocol)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
