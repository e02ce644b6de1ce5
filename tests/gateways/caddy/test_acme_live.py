"""Certificates by ACME, from a real authority: one that comes, one that is refused, one whose authority is away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from panel.gateways.caddy.gateway import CaddyGateway
from panel.gateways.sites import Site, SiteCertificate, SiteStatus, SiteWish
from tests.gateways.caddy.authority import DIRECTORY, Authority
from tests.gateways.caddy.conftest import Visitors
from tests.gateways.world import A4, GW4, World

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


@pytest.fixture
def authority(world: World, tmp_path: Path) -> Iterator[Authority]:
    """Not started. ``good.test`` leads to the proxy."""
    made = Authority(world, tmp_path / "ca", GW4, "good.test")
    yield made
    made.close()


def wish(authority: Authority, *domains: str, plain: str = "") -> SiteWish:
    sites = tuple(Site(domain, A4, 80, tls=domain != plain) for domain in (*domains, plain) if domain)
    return SiteWish(sites, issuer=DIRECTORY, email="ops@good.test", issuer_roots=str(authority.root))


async def settled(proxy: CaddyGateway, asked: SiteWish, seconds: float = 60) -> dict[str, SiteStatus]:
    """The certificates, once none of them is waited for."""
    async with asyncio.timeout(seconds):
        while True:
            found = dict(await proxy.statuses(asked))
            if all(one.state is not SiteCertificate.WAITING for one in found.values()):
                return found
            await asyncio.sleep(0.2)


async def test_a_certificate_comes_but_for_wildcards(
    proxy: CaddyGateway, visitors: Visitors, authority: Authority
) -> None:
    authority.start()
    asked = wish(authority, "good.test", "*.good.test")
    await proxy.apply(asked)
    found = await settled(proxy, asked)
    assert found["good.test"].state is SiteCertificate.VALID, found
    assert "guest a" in visitors.curl("https://good.test/", root=authority.root)
    assert found["*.good.test"].state is SiteCertificate.FAILED
    assert "Upload a certificate" in str(found["*.good.test"].problem)


async def test_a_refusal_says_why_and_is_forgotten_when_the_certificate_comes(
    proxy: CaddyGateway, authority: Authority
) -> None:
    authority.start(refuse=True)
    asked = wish(authority, "good.test")
    await proxy.apply(asked)
    refused = (await settled(proxy, asked))["good.test"]
    assert refused.state is SiteCertificate.FAILED
    said = "The certificate authority refused: Not a domain that we know. (rejectedIdentifier)"
    assert str(refused.problem) == said
    authority.stop()
    authority.start()
    await proxy.apply(wish(authority, "good.test", plain="plain.test"))  # a change: it tries again at once
    async with asyncio.timeout(60):
        while (await proxy.statuses(asked))["good.test"].state is not SiteCertificate.VALID:
            await asyncio.sleep(0.2)


async def test_an_authority_that_is_away_is_said_to_be(proxy: CaddyGateway, authority: Authority) -> None:
    authority.start()  # it makes its root
    authority.stop()
    asked = wish(authority, "good.test")
    await proxy.apply(asked)
    problem = str((await settled(proxy, asked))["good.test"].problem)
    assert problem.startswith("The certificate authority cannot be reached")
