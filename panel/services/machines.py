"""What a machine's gateway is to the services: rules, rate limits and counters of one machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol as Shape

from panel.errors import PanelError
from panel.gateways.kernel import Applied, Difference, Traffic
from panel.gateways.nft import NftGateway
from panel.gateways.ports import taken_ports
from panel.gateways.runner import Runner
from panel.gateways.tc import RateLimiter
from panel.gateways.types import Guest, Protocol, RuleSet
from panel.i18n import Text


class Gateway(Shape):
    """What a machine's gateway can do. Every method raises a ``PanelError`` when it cannot."""

    async def apply(self, ruleset: RuleSet) -> Applied:
        """Make it so, whole or not at all."""

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """How what is there differs."""

    async def revision(self) -> int | None:
        """Of the rules that were applied last; None when nothing of ours is there."""

    async def present(self) -> bool:
        """Whether anything of ours is there."""

    async def counters(self) -> dict[str, Traffic]:
        """Bytes per VM, as they stand now. Every VM of the rules that hold is among them."""

    async def limit(self, guests: Iterable[Guest]) -> tuple[Text, ...]:
        """Make rate limits hold on the ports that are there; returns what else is to be said. Cheap when all is well."""

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """The ports that forwards must not take: the machine's own programs listen there."""


class KernelGateway:
    """nftables and tc of the machine that ``runner`` runs programs on."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._nft = NftGateway(runner)
        self._limiter = RateLimiter(runner)

    async def apply(self, ruleset: RuleSet) -> Applied:
        """With nothing to do, our tables go."""
        if ruleset == RuleSet():
            retired = await self._nft.counters()
            await self._nft.clear()
            return Applied(ruleset.revision, guarded=True, retired=retired)
        return await self._nft.apply(ruleset)

    async def drift(self, ruleset: RuleSet) -> list[Difference]:
        """See ``NftGateway``; nothing wanted and nothing there is no drift."""
        if ruleset == RuleSet():
            return []
        return await self._nft.drift(ruleset)

    async def revision(self) -> int | None:
        """As the kernel's table says."""
        return (await self._nft.read()).revision

    async def present(self) -> bool:
        """Whether one of our tables is there."""
        return bool((await self._nft.read()).families)

    async def counters(self) -> dict[str, Traffic]:
        """See ``NftGateway``."""
        return await self._nft.counters()

    async def limit(self, guests: Iterable[Guest]) -> tuple[Text, ...]:
        """See ``RateLimiter``; what it cannot do is a warning, for the rules hold without it."""
        try:
            return (await self._limiter.hold(guests)).warnings
        except PanelError as error:
            return (error.text,)

    async def taken(self, protocol: Protocol) -> frozenset[int]:
        """See ``taken_ports``."""
        return await taken_ports(self._runner, protocol)
