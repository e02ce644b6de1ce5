"""Forwards that the hypervisor makes itself: rows like all others, kept so by what the hypervisor tells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld, world
from panel.engines.hosttypes import NativeForward
from panel.engines.registry import make_engine
from panel.engines.types import EngineKind, HostConnection, NicMode
from panel.errors import Conflict
from panel.gateways.runner import Completed
from panel.gateways.types import Protocol
from panel.models import Forward, ForwardPort, Host, Nic, RuleState, Vm
from panel.services import gateways
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.hosts import HostRequest
from panel.services.natives import NativeGateway, compare
from panel.services.ways import WayKind, way_of
from tests.conftest import ADMIN, seen

from .kit import logged, make, nic, until

TCP, UDP = Protocol.TCP, Protocol.UDP
ADDRESS = "192.168.1.2"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "LOOK_EVERY", 0.0)


@pytest.fixture
async def host(services: Services) -> str:
    await add_host(services, "host1")
    return "host1"


async def add_host(services: Services, name: str, place: str = "native1") -> Host:
    request = HostRequest(engine=EngineKind.FAKE, address=place, options={"forwards": "native"})
    made, _info = await services.hosts.create(ADMIN, name, request)
    await seen(services, name)
    return made


@pytest.fixture
async def vm(services: Services, host: str) -> Vm:
    return await make(services, "vm-1", nics=(nic("52:54:00:00:00:01"),))


@pytest.fixture
def here(host: str) -> FakeWorld:
    return world("native1")


def ports(here: FakeWorld) -> dict[int, tuple[str, int]]:
    """Of our forwards: where they lead."""
    return {one.port: one.target for one in here.forwards.values() if one.mark}


def foreign(here: FakeWorld, port: int, target: int = 9, protocol: str = "tcp") -> NativeForward:
    made = NativeForward(protocol, port, "192.168.1.77", target)
    here.forwards[made.place] = made
    return made


async def add(
    services: Services, vm: Vm, port: int, inside: int = 80, protocol: Protocol = TCP, **more: int
) -> Forward:
    return await services.forwards.add(ADMIN, vm, ForwardRequest(protocol, inside, port, **more))


async def state_of(forward: Forward) -> tuple[RuleState, str]:
    row = await Forward.get(id=forward.id)
    return row.state, row.problem["msgid"] if row.problem else ""


async def test_it_is_what_the_hypervisor_has(services: Services, vm: Vm, here: FakeWorld) -> None:
    way = services.gateways.way(vm.host)
    assert way is not None
    assert (way.kind, way.machine) == (WayKind.NATIVE, "fake hypervisor native1")
    forward = await add(services, vm, 8080, count=3)
    assert (forward.state, ports(here)) == (
        RuleState.APPLIED,
        {port: (ADDRESS, port - 8000) for port in (8080, 8081, 8082)},
    )
    assert {one.ref for one in here.forwards.values()} == {vm.ref}
    await add(services, vm, 8080, protocol=UDP)
    assert len(here.forwards) == 4
    _forward, problem = await services.forwards.remove(ADMIN, vm, 0, forward.id)
    assert problem is None
    assert [one.protocol for one in here.forwards.values()] == ["udp"]


async def test_others_ports_are_taken(services: Services, vm: Vm, here: FakeWorld) -> None:
    theirs = foreign(here, 8080)
    with pytest.raises(Conflict) as caught:
        await add(services, vm, 8080)
    assert caught.value.field == "external_port"
    assert (await add(services, vm, 8080, protocol=UDP)).state is RuleState.APPLIED
    await Host.filter(id=vm.host_id).update(ports_start=8080, ports_close=8081)
    vm = await services.vms.get("host1", "vm-1")
    assert (await add(services, vm, 0)).external_start == 8081, "one that is free is chosen"
    assert here.forwards[theirs.place] == theirs


async def test_what_is_refused_fails_alone_and_is_tried_again(services: Services, vm: Vm, here: FakeWorld) -> None:
    here.busy = {8080}
    refused = await add(services, vm, 8080)
    assert await state_of(refused) == (RuleState.FAILED, "The fake host's own programs have port {port}.")
    assert (await add(services, vm, 8081)).state is RuleState.APPLIED
    await asyncio.sleep(0.5)  # looks pass by
    assert await logged(services, "gateway.drift") == []
    here.busy = set()

    async def holds() -> bool:
        return (await state_of(refused))[0] is RuleState.APPLIED

    await until(holds)
    assert set(ports(here)) == {8080, 8081}


async def test_drift_is_put_right_and_somebody_elses_is_not(services: Services, vm: Vm, here: FakeWorld) -> None:
    first, second = await add(services, vm, 8080), await add(services, vm, 8081)
    mine = dict(here.forwards)
    here.forwards.clear()

    async def back() -> bool:
        return here.forwards == mine

    await until(back)
    await until(lambda: logged(services, "gateway.drift"))
    key = ("tcp", 4, 8080)
    here.forwards[key] = replace(here.forwards[key], target_port=1)  # ours, changed by hand
    await until(back)
    theirs = foreign(here, 8081)  # somebody took the port over

    async def told() -> bool:
        return (await state_of(second))[0] is RuleState.FAILED

    await until(told)
    assert (await state_of(second))[1].startswith("Somebody else leads")
    assert (await state_of(first))[0] is RuleState.APPLIED
    assert here.forwards[theirs.place] == theirs
    del here.forwards[theirs.place]
    await until(back)


async def test_a_host_that_only_reports(services: Services, vm: Vm, here: FakeWorld) -> None:
    forward = await add(services, vm, 8080)
    await services.hosts.update(ADMIN, "host1", HostRequest(report_only=True))
    here.forwards.clear()

    async def told() -> bool:
        return bool(services.gateways.notices(await Host.get(name="host1")))

    await until(told)
    assert await state_of(forward) == (
        RuleState.FAILED,
        "Someone changed its rules on the host, and the host's setting is to report that only.",
    )
    assert not here.forwards
    services.gateways._applied.clear()  # as a panel that begins anew
    services.gateways.wake(vm.host_id)
    await asyncio.sleep(0.4)
    assert not here.forwards, "not then either"


async def test_a_hypervisor_that_hangs_or_refuses_keeps_the_wish(services: Services, vm: Vm, here: FakeWorld) -> None:
    here.behaviour = Behaviour(Manner.REFUSING, only=frozenset({"native_forwards", "change_forwards"}))
    forward = await add(services, vm, 8080)
    assert (forward.state, ports(here)) == (RuleState.FAILED, {})
    here.behaviour = None
    await until(lambda: asyncio.sleep(0, ports(here)))
    await until(lambda: _applied(forward))


async def _applied(forward: Forward) -> bool:
    return (await state_of(forward))[0] is RuleState.APPLIED


async def test_cut_off_in_the_middle(
    services: Services, vm: Vm, here: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply that runs out of time goes on where it was."""
    monkeypatch.setattr(gateways, "APPLY_SECONDS", 0.2)
    here.behaviour = Behaviour(Manner.SLOW, delay=0.3, only=frozenset({"change_forwards"}))
    forward = await add(services, vm, 8080, count=5)
    assert forward.state is RuleState.FAILED
    foreign(here, 9000)
    one = NativeForward("tcp", 8080, ADDRESS, 80, str(forward.id))
    stale = NativeForward("tcp", 8090, ADDRESS, 80, "99999")  # of a forward that is removed by now
    here.forwards |= {one.place: one, stale.place: stale}
    here.behaviour = None
    await until(lambda: _applied(forward))
    assert set(ports(here)) == set(range(8080, 8085))
    assert ("tcp", 4, 9000) in here.forwards


async def test_two_hosts_of_one_hypervisor_share_its_ports(services: Services, vm: Vm, here: FakeWorld) -> None:
    await add_host(services, "host2")
    other = await make(services, "vm-2", "host2", nics=(nic("52:54:00:00:00:02"),))
    await add(services, vm, 8080)
    with pytest.raises(Conflict, match="to VM vm-1 on host host1 already"):
        await add(services, other, 8080)
    await add(services, other, 8081)
    assert set(ports(here)) == {8080, 8081}
    await services.hosts.delete(ADMIN, "host2")

    async def gone() -> bool:
        return set(ports(here)) == {8080}

    await until(gone)


async def test_forgetting_the_host_takes_its_forwards_away(services: Services, vm: Vm, here: FakeWorld) -> None:
    theirs = foreign(here, 9000)
    await add(services, vm, 8080)
    await services.hosts.delete(ADMIN, "host1")

    async def gone() -> bool:
        return list(here.forwards.values()) == [theirs]

    await until(gone)


async def test_rates_are_kept_and_told_to_limit_nothing(services: Services, vm: Vm, here: FakeWorld) -> None:
    assert not services.gateways.limits(vm.host)
    await Vm.filter(id=vm.id).update(limits={"speed_u": 10})
    await add(services, vm, 8080)
    (notice,) = services.gateways.notices(vm.host)
    assert "limit nothing" in str(notice)


async def test_a_gateway_of_its_own_is_closed(services: Services, vm: Vm) -> None:
    await add(services, vm, 8080)
    _machine, gateway = services.gateways.of(vm.host)
    assert isinstance(gateway, NativeGateway)
    assert gateway._engine is not services.hosts._pool.of(vm.host)


class Listens:
    """A machine on which a program listens on TCP port 8080 of all addresses."""

    async def run(self, argv: Sequence[str], *, stdin: str = "", seconds: float = 30.0) -> Completed:
        return Completed(0, "/proc/net/tcp:   0: 00000000:1F90 00000000:0000 0A\n", "")


async def test_the_ports_of_this_machines_programs_are_taken(services: Services, vm: Vm, here: FakeWorld) -> None:
    foreign(here, 9000)
    engine = services.hosts._pool.of(vm.host)
    assert await NativeGateway(engine, Listens()).taken(TCP) == {8080, 9000}
    assert await NativeGateway(engine, Listens()).taken(UDP) == frozenset()
    assert await NativeGateway(engine).taken(TCP) == {9000}


async def test_hosts_of_this_machine_share_its_ports(services: Services) -> None:
    """Whoever leads them: nftables for one, the hypervisor itself for the other."""
    rows = []
    for name, engine, address in (
        ("kvm", EngineKind.LIBVIRT, "qemu:///system"),
        ("lxd", EngineKind.INCUS, "/x.socket"),
    ):
        host = await Host.create(name=name, engine=engine, address=address)
        vm = await Vm.create(host=host, name=f"{name}-1", ref=name, cpu_count=1, memory_mib=64)
        nic = await Nic.create(vm=vm, name="eth0", mac="52:54:00:00:00:01", mode=NicMode.NAT)
        await Nic.filter(id=nic.id).update(addresses=[f"{ADDRESS}/24"])
        rows.append(await services.vms.get(name, vm.name))
    kvm, lxd = rows
    ways = [services.gateways.way(vm.host) for vm in rows]
    assert [way.kind for way in ways if way] == [WayKind.LOCAL, WayKind.NATIVE]
    forward = await Forward.create(host_id=kvm.host_id, vm_id=kvm.id, protocol="tcp", external_start=28090,
                                   external_end=28090, internal_ip=ADDRESS, internal_start=80)  # fmt: skip
    await ForwardPort.create(forward=forward, host_id=kvm.host_id, protocol="tcp", port=28090)
    with pytest.raises(Conflict, match="to VM kvm-1 on host kvm already"):
        await add(services, lxd, 28090)
    assert (await add(services, lxd, 28091)).state is RuleState.FAILED, "nobody answers there"


def test_a_socket_of_another_machine_is_another_place() -> None:
    engine = make_engine(EngineKind.INCUS, HostConnection("h", "/x.socket"))
    places = [way.machine for way in (way_of(engine), way_of(engine, "m2"), way_of(engine, "m3")) if way]
    assert places == ["/x.socket", "/x.socket of machine m2", "/x.socket of machine m3"]


def test_compare() -> None:
    one, two = NativeForward("tcp", 1, ADDRESS, 11, "1"), NativeForward("tcp", 2, ADDRESS, 12, "2")
    by_hand = replace(one, mark="")
    assert compare([one, two], [one, two]) == compare([], [by_hand])
    assert compare([one], [by_hand]) == compare([], []), "the very same by hand serves"
    assert compare([one], [replace(one, mark="9")]).stale == (replace(one, mark="9"),), "of a forward that is gone"
    assert compare([one], [replace(one, mark="9")]).missing == (one,)
    elsewhere = replace(by_hand, target_port=99)
    assert dict(compare([one], [elsewhere]).blocked) == {one: elsewhere}
    six = replace(one, address="fd00::2")
    assert compare([one, six], [elsewhere]).missing == (six,)
    assert compare([one], [replace(one, protocol="udp", mark="1")]).stale == (replace(one, protocol="udp"),)
