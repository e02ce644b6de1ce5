"""Certificates of domains: issued ones as the proxy tells of them, uploaded ones sealed until the proxy has them."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from panel.engines.types import EngineKind
from panel.errors import Conflict, InvalidInput
from panel.gateways.sites import KeyPair, MemorySites, Site, SiteCertificate, SiteStatus
from panel.i18n import Text
from panel.models import Certificate, CertificateState, Host, Proxy, RuleState, Vm
from panel.security import SecretBox
from panel.services import sites
from panel.services.asks import Asks
from panel.services.container import Services
from panel.services.proxies import ProxyService
from panel.services.sites import SiteService
from panel.services.texts import unpack
from tests.certs import made
from tests.conftest import ADMIN
from tests.services.kit import add_domain, make, proxy_of, served, until

DOMAIN = "www.example.com"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "LOOK_EVERY", 0.05)


@pytest.fixture
async def vm(services: Services, fake_host: str) -> Vm:
    return await make(services, "vm-1")


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (SiteStatus(SiteCertificate.VALID, "An Authority"), CertificateState.VALID),
        (SiteStatus(SiteCertificate.WAITING), CertificateState.WAITING),
        (SiteStatus(SiteCertificate.EXPIRED, "An Authority"), CertificateState.EXPIRED),
        (SiteStatus(SiteCertificate.FAILED, problem=Text("No DNS.")), CertificateState.FAILED),
    ],
)
async def test_how_an_issued_certificate_is(services: Services, vm: Vm, status: SiteStatus, state: str) -> None:
    (await proxy_of(services)).told = {DOMAIN: status}
    row = await add_domain(services, vm, ssl=True)
    plain = await add_domain(services, vm, "plain.example")
    assert (row.state, row.certificate_state, row.certificate_issuer) == (RuleState.APPLIED, state, status.issuer)
    assert row.certificate_problem == ({"msgid": "No DNS.", "params": {}} if status.problem else None)
    assert plain.certificate_state is CertificateState.NONE
    (await proxy_of(services)).told = {}
    await until(lambda: Proxy.filter(id=row.id, certificate_issuer="memory").exists())
    row = await Proxy.get(id=row.id)
    assert (row.certificate_state, row.certificate_problem) == (CertificateState.VALID, None)


async def test_a_key_is_sealed_and_comes_through(services: Services, vm: Vm) -> None:
    own = made("*.example.com", title="Own CA")
    row = await add_domain(services, vm, ssl=True, certificate=own.pem, private_key=own.key_pem)
    stored = await Certificate.get()
    assert row.certificate_id == stored.id
    assert (stored.chain, stored.names, stored.issuer) == (own.pem, ["*.example.com"], "Own CA")
    assert not [line for line in own.secrets if line in stored.private_key]
    assert services.box.unseal(stored.private_key) == own.key_pem
    assert (row.certificate_state, row.certificate_issuer) == (CertificateState.VALID, "Own CA")
    assert row.certificate_expires == own.certificate.not_valid_after_utc
    (site,) = (await proxy_of(services)).applied.sites
    assert site == Site(DOMAIN, "192.168.1.2", 80, True, KeyPair(own.pem, own.key_pem))
    assert not [line for line in own.secrets if line in repr(site)]
    await services.proxies.remove(ADMIN, vm, 0)
    assert not await Certificate.exists()


async def test_a_refused_claim_leaves_no_certificate(
    services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_domain(services, vm)
    own, other = made(DOMAIN), await make(services, "vm-2")
    request = {"ssl": True, "certificate": own.pem, "private_key": own.key_pem}
    with pytest.raises(Conflict, match="belongs to VM vm-1"):
        await add_domain(services, other, **request)
    monkeypatch.setattr(ProxyService, "_check_claims", AsyncMock())  # another process is quicker than this check
    with pytest.raises(Conflict, match="belongs to another VM") as caught:
        await add_domain(services, other, **request)
    assert caught.value.field == "domain"
    assert not await Certificate.exists()


async def test_a_wildcard_that_nobody_proves_needs_a_certificate(
    services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Host(name="real", engine=EngineKind.LIBVIRT)
    for directory, proves in (("", False), ("https://acme.example/directory", False), ("internal", True)):
        settings = replace(services.settings, acme_directory=directory)
        sites = SiteService(
            settings, services.box, services.pool, services.events, services.audit, MemorySites(), services.nodes,
            Asks(services.events),
        )  # fmt: skip
        assert (sites.proves_wildcards(real), sites.proves_wildcards(vm.host)) == (proves, True)
    monkeypatch.setattr(SiteService, "proves_wildcards", lambda _self, _host: False)
    with pytest.raises(InvalidInput, match="Upload a certificate for it") as caught:
        await add_domain(services, vm, "*.example.com", ssl=True)
    assert caught.value.field == "certificate"
    assert not await Proxy.exists()
    own = made("*.example.com")
    await add_domain(services, vm, "*.example.com", ssl=True, certificate=own.pem, private_key=own.key_pem)
    await add_domain(services, vm, "*.plain.example")
    await add_domain(services, vm, DOMAIN, ssl=True)
    assert await served(services) == ["*.example.com", "*.plain.example", DOMAIN]


async def test_a_certificate_that_runs_out(services: Services, vm: Vm) -> None:
    own = made(DOMAIN)
    row = await add_domain(services, vm, ssl=True, certificate=own.pem, private_key=own.key_pem)
    past = own.certificate.not_valid_before_utc
    await Certificate.all().update(expires_at=past)
    await until(lambda: Proxy.filter(id=row.id, certificate_state=CertificateState.EXPIRED).exists())
    assert (await Proxy.get(id=row.id)).certificate_expires == past
    assert await served(services) == [DOMAIN]


async def test_a_key_of_another_data_folder_stops_no_other_domain(services: Services, vm: Vm) -> None:
    own = made(DOMAIN)
    row = await add_domain(services, vm, ssl=True, certificate=own.pem, private_key=own.key_pem)
    foreign = SecretBox(b"0" * 43 + b"=").seal(own.key_pem)
    await Certificate.all().update(private_key=foreign)
    await add_domain(services, vm, "other.example")
    assert await served(services) == ["other.example"]
    row = await Proxy.get(id=row.id)
    assert row.state is RuleState.FAILED
    assert "cannot be read with this data folder's secret.key" in str(unpack(row.problem or {}))
