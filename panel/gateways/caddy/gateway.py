"""The proxy of the machine that the panel runs on."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from panel.errors import EngineTimeout, HostUnreachable
from panel.gateways.caddy.client import CaddyClient
from panel.gateways.caddy.config import issued, render
from panel.gateways.caddy.files import Files
from panel.gateways.caddy.issuance import IssuanceLog, explain
from panel.gateways.caddy.process import CaddyProcess
from panel.gateways.sites import UNPROVABLE, SiteCertificate, SiteStatus, SiteWish
from panel.i18n import Text
from panel.i18n import gettext_noop as _

AT_ONCE = 8
SECONDS = 3.0  # of a handshake
AGAIN = 60.0  # seconds for which a valid certificate is taken to be still there


class CaddyGateway:
    """Serves domains with a Caddy whose admin API is on a socket in ``folder``. One that runs there already (a service of the
    system's) is used; else the panel runs one, and ends it when there is nothing left to serve.

    Args:
        run: start one when nobody runs it; else its absence is an error.
        prefix: goes before the command that starts it; tests put it into a network namespace.
    """

    def __init__(self, folder: Path, prefix: Sequence[str] = (), *, run: bool = True) -> None:
        self._run = run
        self._files = Files(folder)
        self._client = CaddyClient(self._files.admin)
        self._process = CaddyProcess(self._files, self._client, prefix)
        self._log = IssuanceLog(self._files.log)
        self._valid: dict[str, tuple[float, SiteStatus]] = {}

    async def apply(self, wish: SiteWish) -> None:
        """See ``SiteGateway``."""
        running = await self._runs()
        if not wish.sites and (not running or self._process.is_ours()):
            await self._process.end()
            return
        if not running:
            if not self._run:
                raise HostUnreachable(
                    _("The proxy's service does not run, and PANEL_PROXY_RUN=0 leaves it to that: start the service.")
                )
            await self._process.end()  # one of ours whose socket somebody removed
            await self._process.start()
        await self._client.load(render(wish, self._files))
        self._valid.clear()

    async def drifted(self, wish: SiteWish) -> bool:
        """See ``SiteGateway``."""
        try:
            return bool(await self._client.config() != render(wish, self._files))
        except HostUnreachable:
            return True

    async def statuses(self, wish: SiteWish) -> Mapping[str, SiteStatus]:
        """See ``SiteGateway``. The certificate is the one that is served: looked at in a handshake."""
        problems = await asyncio.to_thread(self._log.read)
        turns = asyncio.Semaphore(AT_ONCE)

        async def look(domain: str) -> SiteStatus:
            at, known = self._valid.get(domain, (0.0, None))
            if known is not None and time.monotonic() - at < AGAIN:
                return known
            async with turns:
                found = await self._served(domain)
            if found is None:
                error = problems.get(domain)
                state = SiteCertificate.FAILED if error else SiteCertificate.WAITING
                return SiteStatus(state, problem=explain(error) if error else None)
            if found.state is SiteCertificate.VALID:
                self._valid[domain] = (time.monotonic(), found)
            return found

        asked = [site.domain for site in wish.sites if site.tls and (site.key_pair or issued(site, wish))]
        statuses = dict(zip(asked, await asyncio.gather(*map(look, asked)), strict=True))
        unprovable = {site.domain for site in wish.sites if site.tls} - set(asked)
        return statuses | {
            domain: SiteStatus(SiteCertificate.FAILED, problem=Text(UNPROVABLE)) for domain in unprovable
        }

    async def close(self) -> None:
        """See ``SiteGateway``: there is no connection to give back."""

    async def _runs(self) -> bool:
        """Whether one answers. One that takes too long is there: a second one would take its socket from it."""
        if (
            not self._files.admin.exists()
        ):  # most machines: nothing to ask, and no HTTP library to load for it at the start
            return False
        try:
            await self._client.config()
        except EngineTimeout:
            raise
        except HostUnreachable:
            return False
        return True

    async def _served(self, domain: str) -> SiteStatus | None:
        """The certificate that visitors of a domain get; None when they get none."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        name = f"www.{domain[2:]}" if domain.startswith("*.") else domain
        try:
            async with asyncio.timeout(SECONDS):
                _reader, writer = await asyncio.open_unix_connection(
                    str(self._files.https.absolute()), ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError):
            return None
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True)
        writer.transport.abort()
        return _status(x509.load_der_x509_certificate(der)) if der else None


def _status(certificate: x509.Certificate) -> SiteStatus:
    expires = certificate.not_valid_after_utc
    names = [
        str(attribute.value)
        for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
        for attribute in certificate.issuer.get_attributes_for_oid(kind)
    ]
    state = SiteCertificate.VALID if expires > datetime.now(UTC) else SiteCertificate.EXPIRED
    return SiteStatus(state, names[0] if names else "", expires)
