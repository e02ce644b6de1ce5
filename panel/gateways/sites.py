"""Domains that lead to guests: what a proxy shall serve, and what it says of its certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from panel.errors import PanelError
from panel.i18n import Text
from panel.i18n import gettext_noop as _


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate that an operator brought: PEM texts, the chain with its own certificate first."""

    chain: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Site:
    """A domain and where it leads.

    Attributes:
        domain: ASCII (IDNA), lower case; may begin with ``*.``.
        target_ip, target_port: the guest's own address and port; plain HTTP is spoken there.
        tls: served over https, and http is redirected there; else http alone.
        key_pair: used instead of an issued certificate.
    """

    domain: str
    target_ip: str
    target_port: int
    tls: bool = False
    key_pair: KeyPair | None = None


@dataclass(frozen=True, slots=True)
class SiteWish:
    """All that one machine's proxy shall serve. Order does not matter; it is sorted.

    Attributes:
        http_port, https_port: where it listens.
        issuer: the ACME directory's URL; empty for the proxy's own default (Let's Encrypt), ``internal`` for a CA of its own.
        email: told to the ACME directory; may be empty.
        issuer_roots: a PEM file with the authorities that the ACME directory's own certificate is from; empty for the system's.
    """

    sites: tuple[Site, ...] = ()
    http_port: int = 80
    https_port: int = 443
    issuer: str = ""
    email: str = ""
    issuer_roots: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", tuple(sorted(self.sites, key=lambda site: site.domain)))


class SiteCertificate(StrEnum):
    """How a domain's certificate is."""

    WAITING = "waiting"
    VALID = "valid"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """A domain's certificate as the proxy has it. ``problem``: why the last issuance failed."""

    state: SiteCertificate
    issuer: str = ""
    expires: datetime | None = None
    problem: Text | None = None


UNPROVABLE = _(
    "The certificate authority proves a wildcard in the DNS, which the panel does not do. Upload a certificate for it."
)


class SiteGateway(Protocol):
    """A machine's proxy. Every method raises a ``PanelError`` that names the mend when it cannot."""

    async def apply(self, wish: SiteWish) -> None:
        """Serve exactly this, whole or as before. Starts the proxy when nobody runs it; with no sites, ends what it started."""

    async def drifted(self, wish: SiteWish) -> bool:
        """Whether the proxy serves anything else now, or does not run."""

    async def statuses(self, wish: SiteWish) -> Mapping[str, SiteStatus]:
        """The certificates of the domains with TLS, by domain."""

    async def close(self) -> None:
        """Give back connections. Sites go on being served. Never raises."""


class MemorySites:
    """A proxy in memory, for the fake engine: it keeps what it was told, and can be made to fail or to forget.

    Attributes:
        applied: what it serves now.
        failure: raised by every call while it is set.
        told: what ``statuses`` says of a domain; a domain without is valid.
    """

    def __init__(self) -> None:
        self.applied = SiteWish()
        self.failure: PanelError | None = None
        self.told: dict[str, SiteStatus] = {}

    async def apply(self, wish: SiteWish) -> None:
        """Keep it."""
        self._check()
        self.applied = wish

    async def drifted(self, wish: SiteWish) -> bool:
        """Whether it was told otherwise."""
        self._check()
        return self.applied != wish

    async def statuses(self, wish: SiteWish) -> Mapping[str, SiteStatus]:
        """Valid, unless ``told`` says otherwise."""
        self._check()
        valid = SiteStatus(SiteCertificate.VALID, "memory")
        return {site.domain: self.told.get(site.domain, valid) for site in wish.sites if site.tls}

    async def close(self) -> None:
        """Nothing to give back."""

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure
