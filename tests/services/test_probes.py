"""Probes: what is tried, when, and what is kept of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from panel.engines.types import EngineKind, PowerState
from panel.errors import Conflict
from panel.events import VmChanged
from panel.gateways.reach import ImaginaryConnector, Reach, own_address
from panel.gateways.types import Protocol
from panel.i18n import Text
from panel.models import Forward, Host, Proxy, RuleState, Vm
from panel.services.clock import now
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.probes import AT_ONCE, ProbeService
from panel.services.publications import Opening
from tests.conftest import ADMIN
from tests.services.kit import make

REFUSED = Reach(False, Text("{address} refuses.", {"address": "x"}))


@pytest.fixture
async def quiet(services: Services, fake_host: str) -> ImaginaryConnector:
    """Nobody probes but the test, and the VMs stay as the test says."""
    await services.probes.stop()
    await services.observer.stop()
    await services.gateways.stop()
    connector = services.probes._imaginary
    assert isinstance(connector, ImaginaryConnector)
    return connector


async def running(services: Services, name: str = "vm-1") -> Vm:
    vm = await make(services, name)
    await Vm.filter(id=vm.id).update(state=PowerState.RUNNING)
    return await services.vms.get("host1", name)


async def forward(services: Services, vm: Vm, port: int = 0, count: int = 1, protocol: str = "tcp") -> Forward:
    return await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol(protocol), 80, port, count))


async def openings(services: Services, vm: Vm) -> list[Opening]:
    vm = await services.vms.get("host1", vm.name)
    return [item.opening for item in await services.publications.of_vm(vm)]


async def test_at_once_then_once_a_minute(services: Services, quiet: ImaginaryConnector) -> None:
    vm = await running(services)
    rule = await forward(services, vm, 20010)
    assert await openings(services, vm) == [Opening.CHECKING]
    assert await services.probes.check_due() == 1
    assert quiet.tried == [("192.0.2.80", 20010)]
    assert await openings(services, vm) == [Opening.OPEN]
    await Forward.filter(id=rule.id).update(applied_at=now() - timedelta(seconds=70))
    await Vm.filter(id=vm.id).update(state_since=now() - timedelta(seconds=70))
    assert await services.probes.check_due() == 0
    await Forward.filter(id=rule.id).update(probe_at=now() - timedelta(seconds=61))
    assert await services.probes.check_due() == 1
    await Vm.filter(id=vm.id).update(state_since=now() + timedelta(seconds=1))
    assert await services.probes.check_due() == 1, "it was started again"


async def test_what_is_closed_while_its_guest_may_be_booting_is_tried_again_soon(
    services: Services, quiet: ImaginaryConnector
) -> None:
    vm = await running(services)
    rule = await forward(services, vm, 20010)
    quiet.found[20010] = REFUSED
    assert await services.probes.check_due() == 1
    assert await services.probes.check_due() == 0
    await Forward.filter(id=rule.id).update(probe_at=now() - timedelta(seconds=9))
    await Forward.filter(id=rule.id).update(applied_at=now() - timedelta(seconds=20))
    await Vm.filter(id=vm.id).update(state_since=now() - timedelta(minutes=4))
    assert await services.probes.check_due() == 1
    old = now() - timedelta(minutes=6)
    await Vm.filter(id=vm.id).update(state_since=old)
    await Forward.filter(id=rule.id).update(applied_at=old, probe_at=now() - timedelta(seconds=9))
    assert await services.probes.check_due() == 0


async def test_what_is_not_tried(services: Services, quiet: ImaginaryConnector) -> None:
    vm = await running(services)
    await forward(services, vm, protocol="udp")
    rule = await forward(services, vm)
    await Forward.filter(id=rule.id).update(state=RuleState.FAILED)
    assert await services.probes.check_due() == 0
    assert await openings(services, vm) == [Opening.UNTOLD, Opening.FAILED]
    await Forward.filter(id=rule.id).update(state=RuleState.APPLIED)
    await Vm.filter(id=vm.id).update(state=PowerState.STOPPED)
    assert await services.probes.check_due() == 0
    assert await openings(services, vm) == [Opening.UNTOLD, Opening.STOPPED]
    vm = await services.vms.get("host1", "vm-1")
    with pytest.raises(Conflict, match="not running"):
        await services.probes.check(ADMIN, vm)
    assert quiet.tried == []


async def test_a_range_is_open_when_both_its_ends_are(services: Services, quiet: ImaginaryConnector) -> None:
    vm = await running(services)
    await forward(services, vm, 20100, 10)
    quiet.found[20109] = REFUSED
    await services.probes.check(ADMIN, vm)
    assert [port for _address, port in quiet.tried] == [20100, 20109]
    assert await openings(services, vm) == [Opening.CLOSED]
    row = await Forward.get()
    assert row.probe_problem == {"msgid": "{address} refuses.", "params": {"address": "x"}}
    quiet.found.clear()
    await services.probes.check(ADMIN, vm)
    assert await openings(services, vm) == [Opening.OPEN]
    assert (await Forward.get()).probe_problem is None


async def test_only_news_is_told(services: Services, quiet: ImaginaryConnector) -> None:
    vm = await running(services)
    await forward(services, vm)
    with services.events.subscribe() as events:
        for found, told in ((None, True), (None, False), (REFUSED, True), (REFUSED, False), (None, True)):
            quiet.found = {20000: found} if found else {}
            await Forward.all().update(probe_at=now() - timedelta(hours=1) if (await Forward.get()).probe_at else None)
            assert await services.probes.check_due() == 1
            assert (VmChanged(vm.id, vm.host_id) in events._waiting) is told
            events._waiting.clear()


async def test_few_at_a_time_and_nothing_after_the_end(services: Services, quiet: ImaginaryConnector) -> None:
    """Slow ones do not add up, and a stop ends what is being tried."""
    vm = await running(services)
    for _each in range(AT_ONCE + 4):
        await forward(services, vm)
    most = now_trying = 0
    stuck = asyncio.Event()

    class Slow(ImaginaryConnector):
        async def port(self, address: str, port: int, version: int) -> Reach:
            nonlocal most, now_trying
            now_trying += 1
            most = max(most, now_trying)
            try:
                await stuck.wait()
            finally:
                now_trying -= 1
            return Reach(True)

    probes = ProbeService(services.settings, services.gateways, services.events, Slow(), Slow(), services.nodes)
    probes.start()
    async with asyncio.timeout(5):
        while most < AT_ONCE:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    await probes.stop()
    assert (most, now_trying) == (AT_ONCE, 0)


async def test_domains(services: Services, quiet: ImaginaryConnector) -> None:
    vm = await running(services)
    same = {"host_id": vm.host_id, "vm_id": vm.id, "target_ip": "192.168.1.2", "target_port": 80}
    for domain, ssl in (("xn--bcher-kva.example", True), ("*.wild.example", False)):
        await Proxy.create(**same, domain=domain, ssl=ssl, state=RuleState.APPLIED, applied_at=now())
    quiet.found["www.wild.example"] = REFUSED
    assert await services.probes.check_due() == 2
    assert {name for _address, name in quiet.tried} == {"xn--bcher-kva.example", "www.wild.example"}
    first, second = await services.publications.of_vm(vm)
    assert (first.address, first.url, first.opening) == (
        "https://bücher.example",
        "https://xn--bcher-kva.example",
        "open",
    )
    assert (second.address, second.url, second.opening) == ("http://*.wild.example", None, "closed")


async def test_where_a_host_is(services: Services, quiet: ImaginaryConnector) -> None:
    host = await Host.get(name="host1")
    for text, ip4, ip6 in (
        ("203.0.113.7", "203.0.113.7", ""),
        ("2001:db8::7", "", "2001:db8::7"),
        ("vps.example", "vps.example", "vps.example"),
    ):
        host.outside = text
        place = services.probes.outside(host)
        assert (place.name, place.tried(4), place.tried(6)) == (text, ip4, ip6)
    listens = {"forward_addr": "203.0.113.8, 2001:db8::8"}
    lxd = Host(id=99, name="lxd", engine=EngineKind.INCUS, address="/x.socket", options=listens)
    place = services.probes.outside(lxd)
    assert (place.name, place.tried(4), place.tried(6)) == ("203.0.113.8", "203.0.113.8", "2001:db8::8")
    lxd.options = {}
    place = services.probes.outside(lxd)
    assert (place.tried(4), place.tried(6)) == (own_address(4), own_address(6)), "a socket is of this machine"
    node = Host(id=98, name="pve", engine=EngineKind.PROXMOX, address="pve-api:8006", user="root@pam", options={})
    assert services.probes.outside(node).name == "pve-api"
    node.options = {"ssh_addr": "198.51.100.9:2222"}
    assert services.probes.outside(node).tried(4) == "198.51.100.9", "which makes the forwards"
    vm = await running(services)
    await Host.filter(id=vm.host_id).update(outside="2001:db8::7")
    vm = await services.vms.get("host1", "vm-1")
    await forward(services, vm)
    await services.probes.check(ADMIN, vm)
    assert await openings(services, vm) == [Opening.UNKNOWN], "an IPv4 forward, and no IPv4 address to try"
    assert quiet.tried == []
