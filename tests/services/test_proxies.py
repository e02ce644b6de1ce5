"""Domains of VMs: who may have which, and where they may lead."""

from __future__ import annotations

import asyncio

import pytest

from panel.engines.types import NicMode
from panel.errors import Conflict, Forbidden, InvalidInput, NotFound, PanelError, Unsupported
from panel.gateways.sites import Site
from panel.models import Address, CertificateState, Host, Nic, Proxy, RuleState, Vm
from panel.security import Actor, Permission, Source
from panel.services.container import Services
from panel.services.proxies import ProxyRequest, ProxyService
from panel.services.sites import SiteService
from panel.services.specs import NicRequest
from tests.conftest import ADMIN
from tests.services.kit import add_domain, logged, make, proxy_of, served

DOMAIN = "www.example.com"


@pytest.fixture
async def vm(services: Services, fake_host: str) -> Vm:
    return await make(services, "vm-1")


async def test_it_is_what_the_proxy_serves(services: Services, vm: Vm) -> None:
    row = await add_domain(services, vm, " WWW.测试.Example. ", 8080)
    assert (row.domain, row.target_ip, row.target_port, row.ssl) == (
        "www.xn--0zwm56d.example",
        "192.168.1.2",
        8080,
        False,
    )
    assert (row.state, row.problem, row.certificate_state) == (RuleState.APPLIED, None, CertificateState.NONE)
    assert row.applied_at is not None
    proxy = await proxy_of(services)
    assert proxy.applied.sites == (Site("www.xn--0zwm56d.example", "192.168.1.2", 8080),)
    settings = services.settings
    assert (proxy.applied.http_port, proxy.applied.https_port) == (settings.proxy_http_port, settings.proxy_https_port)
    removed, problem = await services.proxies.remove(ADMIN, vm, 0, row.id)
    assert (removed.id, problem) == (row.id, None)
    assert proxy.applied.sites == ()
    assert not await Proxy.exists()
    assert await logged(services, "vm.proxy") == [
        ("info", "Removed www.测试.example."),
        ("info", "www.测试.example leads to 192.168.1.2 port 8080."),
    ]


# -- claims ------------------------------------------------------------------------------------------------------


async def test_a_domain_belongs_to_one_vm(services: Services, vm: Vm) -> None:
    await add_domain(services, vm)
    other = await make(services, "vm-2")
    for typed in (DOMAIN, "WWW.Example.COM.", "www。example.com"):
        with pytest.raises(Conflict, match=rf"{DOMAIN} belongs to VM vm-1 on host host1\. Remove it there") as caught:
            await add_domain(services, other, typed)
        assert caught.value.field == "domain"
    with pytest.raises(Conflict, match="leads to this VM already"):
        await add_domain(services, vm, port=81)
    blind = Actor("blind", Source.API, permissions=frozenset({Permission.MANAGE}))
    with pytest.raises(Conflict, match="belongs to another VM") as caught:
        await services.proxies.add(blind, other, ProxyRequest(DOMAIN, 80))
    assert "vm-1" not in str(caught.value)
    assert await Proxy.all().count() == 1
    await services.proxies.remove(ADMIN, vm, 0)
    assert (await add_domain(services, other)).state is RuleState.APPLIED


@pytest.mark.parametrize(
    ("held", "wanted", "good"),
    [
        ("*.example.com", "www.example.com", False),
        ("*.example.com", "a.b.example.com", False),
        ("*.example.com", "*.b.example.com", False),
        ("*.example.com", "*.example.com", False),
        ("www.example.com", "*.example.com", False),
        ("a.b.example.com", "*.example.com", False),
        ("*.b.example.com", "*.example.com", False),
        ("*.example.com", "example.com", True),
        ("example.com", "*.example.com", True),
        ("*.example.com", "myexample.com", True),
        ("myexample.com", "*.example.com", True),
        ("*.example.com", "www.example.org", True),
        ("*.a.example.com", "*.b.example.com", True),
        ("www.example.com", "example.com", True),
    ],
)
async def test_what_is_below_a_wildcard_belongs_to_its_vm(
    services: Services, vm: Vm, held: str, wanted: str, good: bool
) -> None:
    await add_domain(services, vm, held)
    other = await make(services, "vm-2")
    if good:
        await add_domain(services, other, wanted)
    else:
        with pytest.raises(Conflict, match="belongs to VM vm-1") as caught:
            await add_domain(services, other, wanted)
        assert caught.value.field == "domain"
    assert await served(services) == sorted({held, wanted} if good else {held})
    if held != wanted and not good:
        await add_domain(services, vm, wanted)
        assert await served(services) == sorted({held, wanted})


@pytest.mark.parametrize("public_url", ["https://Panel.Example.com:1880/x", "https://panel.example.com."])
async def test_the_panels_own_name(services: Services, vm: Vm, public_url: str) -> None:
    proxies = ProxyService(public_url, services.box, services.sites, services.events, services.audit)
    for domain in ("panel.example.com", "*.example.com"):
        with pytest.raises(Conflict, match=r"panel\.example\.com is the panel's own name") as caught:
            await proxies.add(ADMIN, vm, ProxyRequest(domain, 80))
        assert caught.value.field == "domain"
    for domain in ("example.com", "*.panel.example.com", "x.panel.example.com"):
        await proxies.add(ADMIN, vm, ProxyRequest(domain, 80))


async def test_the_panels_own_name_in_unicode(services: Services, vm: Vm) -> None:
    proxies = ProxyService("https://Bücher.example", services.box, services.sites, services.events, services.audit)
    with pytest.raises(Conflict, match="the panel's own name"):
        await proxies.add(ADMIN, vm, ProxyRequest("bücher.example", 80))
    for url in ("http://192.0.2.1:1880", "http://localhost", "http://[2001:db8::1]"):
        proxies = ProxyService(url, services.box, services.sites, services.events, services.audit)
        await proxies.add(ADMIN, vm, ProxyRequest(f"d{len(url)}.example", 80))


async def test_fifty_at_once_and_one_wins(services: Services, vm: Vm) -> None:
    """Half of them in another process, as it were: there nothing but the database's constraint keeps them apart."""
    vms = [vm]
    for number in range(2, 51):
        row = await Vm.create(host=vm.host, name=f"vm-{number}", ref=f"r{number}", cpu_count=1, memory_mib=64)
        mac = f"52:54:00:00:01:{number:02x}"
        nic = await Nic.create(vm=row, name="eth0", mode=NicMode.NAT, mac=mac)
        network = (await Address.get(nic__vm_id=vm.id)).network_id
        await Address.create(network_id=network, nic=nic, ip=f"192.168.1.{100 + number}")
        vms.append(await services.vms.get("host1", row.name))
    there = ProxyService("", services.box, services.sites, services.events, services.audit)
    doors = [services.proxies, there]
    tried = await asyncio.gather(
        *(doors[n % 2].add(ADMIN, one, ProxyRequest(DOMAIN, 80)) for n, one in enumerate(vms)), return_exceptions=True
    )
    won = [one for one in tried if isinstance(one, Proxy)]
    lost = [one for one in tried if isinstance(one, Conflict) and one.field == "domain"]
    assert (len(won), len(lost)) == (1, 49)
    row = await Proxy.get()
    assert (row.id, row.vm_id, row.state) == (won[0].id, won[0].vm_id, RuleState.APPLIED)
    assert (await proxy_of(services)).applied.sites == (Site(DOMAIN, row.target_ip, 80),)


# -- what may be asked -------------------------------------------------------------------------------------------


async def test_it_leads_to_the_vm_itself(services: Services, vm: Vm) -> None:
    other = await make(services, "vm-2")
    theirs = (await services.addresses.of_vm(other))[0].ip
    more = await services.addresses.add(ADMIN, vm, "eth0")
    for ip in (theirs, "127.0.0.1", "169.254.169.254", "192.168.1.1", "0.0.0.0", "::1", "::ffff:192.168.1.2"):
        with pytest.raises(InvalidInput, match=r"no address of VM vm-1\. It has: 192.168.1.2, ") as caught:
            await add_domain(services, vm, target_ip=ip)
        assert caught.value.field == "target_ip"
    with pytest.raises(InvalidInput, match="must be an IPv4 or IPv6"):
        await add_domain(services, vm, target_ip="x")
    assert not await Proxy.exists()
    assert (await add_domain(services, vm, target_ip=more.ip)).target_ip == more.ip
    with pytest.raises(Conflict, match=f"{DOMAIN} leads to {more.ip}"):
        await services.addresses.remove(ADMIN, vm, 1)


async def test_what_a_guest_says_of_itself_is_not_believed(services: Services, vm: Vm) -> None:
    """Seen addresses count where none is given, but never one that is somebody's, or special."""
    other = await make(services, "vm-2", nics=(NicRequest("eth0", NicMode.BRIDGE),))
    with pytest.raises(Conflict, match="VM vm-2 has no address yet") as caught:
        await add_domain(services, other)
    assert caught.value.field == "target_ip"
    services.observer.remove(vm.host_id)
    clouds = ["169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]
    special = ["127.0.0.1", "192.168.1.1", "192.168.1.2", "fe80::1", "224.0.0.1", *clouds]
    seen = [*special, "::ffff:10.0.0.1", "nonsense", "2001:db8::9/64", "203.0.113.9/24"]
    await Nic.filter(vm_id=other.id).update(addresses=seen)
    assert await services.proxies.own_addresses(other) == ["203.0.113.9", "2001:db8::9"]
    for ip in special:
        with pytest.raises(InvalidInput, match="no address of VM vm-2"):
            await add_domain(services, other, target_ip=ip)
    assert (await add_domain(services, other)).target_ip == "203.0.113.9"
    assert await services.proxies.own_addresses(vm) == ["192.168.1.2"], "what is given is its own, whoever claims it"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ProxyRequest("192.0.2.1", 80), "domain"),
        (ProxyRequest("https://example.com", 80), "domain"),
        (ProxyRequest(DOMAIN, 0), "target_port"),
        (ProxyRequest(DOMAIN, 65536), "target_port"),
        (ProxyRequest(DOMAIN, 80, True, certificate="x"), "private_key"),
        (ProxyRequest(DOMAIN, 80, True, private_key="x"), "certificate"),
        (ProxyRequest(DOMAIN, 80, False, certificate="x", private_key="x"), "ssl_enabled"),
        (ProxyRequest(DOMAIN, 80, True, certificate="x", private_key="x"), "private_key"),
    ],
)
async def test_what_is_wrong_names_its_field(services: Services, vm: Vm, request_: ProxyRequest, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await services.proxies.add(ADMIN, vm, request_)
    assert caught.value.field == field
    assert not await Proxy.exists()


async def test_who_may_and_where(services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    row = await add_domain(services, vm)
    viewer = Actor("viewer", Source.API, permissions=frozenset({Permission.VIEW}))
    with pytest.raises(Forbidden):
        await services.proxies.add(viewer, vm, ProxyRequest("a.example", 80))
    with pytest.raises(Forbidden):
        await services.proxies.remove(viewer, vm, 0)
    await Host.filter(id=vm.host_id).update(enabled=False)
    disabled = await services.vms.get("host1", "vm-1")
    with pytest.raises(Conflict, match="Host host1 is disabled"):
        await add_domain(services, disabled, "a.example")
    await services.proxies.remove(ADMIN, disabled, 0, row.id)
    monkeypatch.setattr(SiteService, "why_not", lambda _self, _host: "Not here.")
    with pytest.raises(Unsupported, match="Not here"):
        await add_domain(services, vm, "a.example")
    assert await services.proxies.own_addresses(vm) == []
    assert not await Proxy.exists()


async def test_web_num(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1", limits={"web_num": 2})
    tried = await asyncio.gather(*(add_domain(services, vm, f"d{n}.example") for n in range(5)), return_exceptions=True)
    assert sum(isinstance(one, Proxy) for one in tried) == 2
    assert {str(one) for one in tried if isinstance(one, PanelError)} == {
        "VM vm-1 may have 2 domains (web_num), and has them."
    }
    assert await Proxy.all().count() == 2


async def test_position_and_id(services: Services, vm: Vm) -> None:
    rows = [await add_domain(services, vm, f"d{n}.example") for n in range(2)]
    with pytest.raises(Conflict, match="Position 0 is another domain by now"):
        await services.proxies.remove(ADMIN, vm, 0, rows[1].id)
    for index in (2, -1):
        with pytest.raises(NotFound, match="no domain at position"):
            await services.proxies.remove(ADMIN, vm, index)
    assert await served(services) == ["d0.example", "d1.example"]
    await services.proxies.remove(ADMIN, vm, 0, rows[0].id)
    assert [row.id for row in await services.proxies.of_vm(vm)] == [rows[1].id]
    assert await served(services) == ["d1.example"]
