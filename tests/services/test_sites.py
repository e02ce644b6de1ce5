"""What a machine's proxy serves is what the database says, whatever happens to either."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from panel.engines.fake.world import world
from panel.errors import EngineFailure
from panel.gateways.sites import Site, SiteWish
from panel.models import Address, Certificate, Nic, Proxy, RuleState, Vm
from panel.services import sites
from panel.services.container import Services
from panel.services.texts import unpack
from tests.certs import made
from tests.conftest import ADMIN
from tests.services.kit import add_domain, logged, make, proxy_of, served, until

DOMAIN = "www.example.com"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "LOOK_EVERY", 0.05)


@pytest.fixture
async def vm(services: Services, fake_host: str) -> Vm:
    return await make(services, "vm-1")


async def said(row: Proxy) -> str:
    """Why a domain is not served."""
    row = await Proxy.get(id=row.id)
    assert row.state is RuleState.FAILED
    assert row.problem is not None
    return str(unpack(row.problem))


async def is_applied(row: Proxy) -> bool:
    row = await Proxy.get(id=row.id)
    return row.state is RuleState.APPLIED and row.problem is None and row.applied_at is not None


# -- in line -----------------------------------------------------------------------------------------------------


async def test_a_proxy_that_fails_keeps_the_wish(services: Services, vm: Vm) -> None:
    proxy = await proxy_of(services)
    proxy.failure = EngineFailure("Caddy broke.")
    row = await add_domain(services, vm)
    assert await said(row) == "Caddy broke."
    assert (row.applied_at, await served(services)) == (None, [])
    proxy.failure = None
    await until(lambda: is_applied(row))
    assert await served(services) == [DOMAIN]
    await until(lambda: logged(services, "proxy.applied"))
    assert await logged(services, "proxy.failed") == [("error", "Caddy broke.")]
    assert await logged(services, "proxy.applied") == [("info", "The domains of fake world1 are served again.")]


async def seldom(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks again by himself."""
    await services.sites.stop()
    monkeypatch.setattr(sites, "LOOK_EVERY", 3600.0)
    services.sites.start()


async def test_a_wake_is_enough(services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    await services.sites.stop()
    monkeypatch.setattr(sites, "LOOK_EVERY", 3600.0)
    proxy, fails = await proxy_of(services), AsyncMock(side_effect=EngineFailure("Caddy broke."))
    with monkeypatch.context() as broken:
        broken.setattr(proxy, "apply", fails)
        row = await add_domain(services, vm)
        services.sites.start()

        async def looked() -> bool:
            return fails.await_count == 2

        await until(looked)
    services.sites.wake()
    await until(lambda: is_applied(row))


async def test_what_was_removed_goes_when_the_proxy_works_again(services: Services, vm: Vm) -> None:
    row = await add_domain(services, vm)
    proxy = await proxy_of(services)
    proxy.failure = EngineFailure("Caddy broke.")
    _row, problem = await services.proxies.remove(ADMIN, vm, 0, row.id)
    assert str(problem) == "Caddy broke."
    assert await served(services) == [DOMAIN]
    proxy.failure = None

    async def gone() -> bool:
        return await served(services) == []

    await until(gone)


async def test_what_is_served_still_is_told_so(services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apply that fails leaves what there was: a domain that leads elsewhere than it should is not well."""
    await services.sites.stop()
    moved, stays = await make(services, "vm-2"), await add_domain(services, vm)
    moves = await add_domain(services, moved, "moves.example")
    await Address.filter(nic__vm_id=moved.id).update(ip="192.168.1.77")
    proxy = await proxy_of(services)
    with monkeypatch.context() as broken:
        broken.setattr(proxy, "apply", AsyncMock(side_effect=EngineFailure("Caddy broke.")))
        await services.sites.look()
    assert await is_applied(stays)
    assert await said(moves) == "Caddy broke."
    await services.sites.look()
    assert await is_applied(stays)
    assert await is_applied(moves)
    assert {site.target_ip for site in proxy.applied.sites} == {stays.target_ip, "192.168.1.77"}


async def test_drift_is_put_right_and_logged(services: Services, vm: Vm) -> None:
    proxy = await proxy_of(services)
    await add_domain(services, vm)
    for changed in (SiteWish(), replace(proxy.applied, sites=(Site(DOMAIN, "203.0.113.66", 80),))):
        wanted, proxy.applied = proxy.applied, changed

        async def back(wanted: SiteWish = wanted) -> bool:
            return proxy.applied == wanted

        await until(back)
    text = "The proxy of fake world1 did not serve what it should, and was put right."

    async def told() -> bool:
        return await logged(services, "proxy.drift") == [("warning", text)] * 2

    await until(told)


# -- what it leads to --------------------------------------------------------------------------------------------


async def test_it_follows_its_vm(services: Services, vm: Vm) -> None:
    row = await add_domain(services, vm, "测试.example")
    await Address.filter(nic__vm_id=vm.id).update(ip="192.168.1.77")

    async def followed() -> bool:
        return [site.target_ip for site in (await proxy_of(services)).applied.sites] == ["192.168.1.77"]

    await until(followed)
    assert (await Proxy.get(id=row.id)).target_ip == "192.168.1.77"
    text = "测试.example leads to 192.168.1.77 now: the VM does not have 192.168.1.2 any more."
    assert (await logged(services, "vm.proxy"))[0] == ("info", text)
    assert len(await logged(services, "vm.proxy")) == 2, "told once"


async def test_it_never_leads_to_who_has_the_address_now(services: Services, vm: Vm) -> None:
    services.observer.remove(vm.host_id)
    row = await add_domain(services, vm)
    nic = await Nic.get(vm_id=vm.id)
    await Nic.filter(id=nic.id).update(addresses=[])
    await Address.filter(nic_id=nic.id).delete()
    world("world1").network.reservations.clear()
    await services.sites.look()
    assert await is_applied(row), "it is only off: nobody else has its address"
    other = await make(services, "vm-2")
    assert (await Address.get(nic__vm_id=other.id)).ip == row.target_ip

    async def left_out() -> bool:
        return await served(services) == []

    await until(left_out)
    await until(lambda: Proxy.filter(id=row.id, state=RuleState.FAILED).exists())
    assert await said(row) == (
        "VM vm-1 does not have 192.168.1.2 any more, and no other address. It is served when it has one."
    )
    await Nic.filter(id=nic.id).update(addresses=["192.168.1.88"])
    await until(lambda: is_applied(row))
    assert [site.target_ip for site in (await proxy_of(services)).applied.sites] == ["192.168.1.88"]


async def test_the_end_of_a_vm_is_the_end_of_its_domains(
    services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seldom(services, monkeypatch)
    own, other = made(DOMAIN), await make(services, "vm-2")
    await add_domain(services, vm, ssl=True, certificate=own.pem, private_key=own.key_pem)
    await add_domain(services, other, "other.example")
    assert len(await served(services)) == 2
    task = await services.vms.delete(ADMIN, vm)
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"

    async def gone() -> bool:
        return await served(services) == ["other.example"] and not await Certificate.exists()

    await until(gone)
    assert [row.domain for row in await Proxy.all()] == ["other.example"]


async def test_forgetting_a_host_forgets_its_domains(
    services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seldom(services, monkeypatch)
    await add_domain(services, vm)
    proxy = await proxy_of(services)
    await services.hosts.delete(ADMIN, "host1")

    async def gone() -> bool:
        return proxy.applied == replace(proxy.applied, sites=())

    await until(gone)
    assert not await Proxy.exists()
