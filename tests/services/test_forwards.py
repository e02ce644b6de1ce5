"""Port forwards: who may have which, and that what is stored is what the gateway has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from panel.errors import Conflict, EngineFailure, InvalidInput, NotFound
from panel.gateways.memory import MemoryGateway
from panel.gateways.types import Protocol, RuleSet
from panel.models import Address, Forward, ForwardPort, Host, RuleState, Vm
from panel.services import gateways
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.vms import VmRequest
from tests.conftest import ADMIN

TCP, UDP = Protocol.TCP, Protocol.UDP


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "LOOK_EVERY", 0.0)


async def make(services: Services, name: str, **limits: int) -> Vm:
    host = await services.hosts.get("host1")
    _vm, task = await services.vms.create(ADMIN, host, VmRequest(name, name, "", 1, 256, 1, limits=limits))
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    return await services.vms.get("host1", name)


async def gateway_of(services: Services, name: str = "host1") -> MemoryGateway:
    _machine, found = services.gateways.of(await Host.get(name=name))
    assert isinstance(found, MemoryGateway)
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await condition():
            await asyncio.sleep(0.02)


@pytest.fixture
async def vm(services: Services, fake_host: str) -> Vm:
    return await make(services, "vm-1")


async def test_it_is_what_the_gateway_has(services: Services, vm: Vm) -> None:
    forward = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    gateway = await gateway_of(services)
    assert (forward.state, forward.internal_ip) == (RuleState.APPLIED, "192.168.1.2")
    assert forward.applied_at is not None
    rule = gateway.applied.forwards[0]
    assert (rule.external_start, rule.internal_ip, rule.internal_start) == (8080, "192.168.1.2", 80)
    assert [guest.ip4 for guest in gateway.applied.guests] == [("192.168.1.2",)]
    _forward, problem = await services.forwards.remove(ADMIN, vm, 0, forward.id)
    assert problem is None
    assert gateway.applied.forwards == ()
    assert await ForwardPort.all().count() == 0


async def test_allocated_ports(services: Services, vm: Vm) -> None:
    await Host.filter(id=vm.host_id).update(ports_start=30000, ports_close=30024)
    vm = await services.vms.get("host1", "vm-1")
    (await gateway_of(services)).listening = {(TCP, 30001)}
    first = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 22))
    block = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 22, count=20))
    other = await services.forwards.add(ADMIN, vm, ForwardRequest(UDP, 22, count=20))
    assert (first.external_start, block.external_start, block.external_end) == (30000, 30002, 30021)
    assert (other.external_start, block.internal_end) == (30000, 41)
    with pytest.raises(Conflict, match="no 4 free ports beside one another in 30000-30024"):
        await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 22, count=4))


async def test_refused_ports(services: Services, vm: Vm) -> None:
    other = await make(services, "vm-2")
    (await gateway_of(services)).listening = {(TCP, 22)}
    await services.forwards.add(ADMIN, other, ForwardRequest(TCP, 80, 8000, count=10))
    for port, reason in ((22, "one of its own programs"), (1880, "the panel's own"), (8009, "to VM vm-2")):
        with pytest.raises(Conflict, match=reason) as caught:
            await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, port))
        assert caught.value.field == "external_port"
    for wrong in (ForwardRequest(TCP, 0, 81), ForwardRequest(TCP, 65535, 81, 2), ForwardRequest(TCP, 1, 81, 0)):
        with pytest.raises(InvalidInput):
            await services.forwards.add(ADMIN, vm, wrong)
    await services.forwards.add(ADMIN, vm, ForwardRequest(UDP, 80, 8009))


async def test_it_leads_to_the_vm_itself(services: Services, vm: Vm) -> None:
    other = await make(services, "vm-2")
    theirs = (await services.addresses.of_vm(other))[0].ip
    for ip in (theirs, "127.0.0.1", "169.254.169.254", "192.168.1.1"):
        with pytest.raises(InvalidInput, match="no address of VM vm-1"):
            await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080, internal_ip=ip))
    with pytest.raises(InvalidInput, match="must be an IPv4 or IPv6"):
        await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080, internal_ip="x"))
    assert await Forward.all().count() == 0


async def test_nat_num(services: Services, fake_host: str) -> None:
    vm = await make(services, "vm-1", nat_num=1)
    await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80))
    with pytest.raises(Conflict, match="may have 1 forwards"):
        await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 81))


async def test_position_and_id(services: Services, vm: Vm) -> None:
    rows = [await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, port)) for port in (80, 81)]
    with pytest.raises(Conflict, match="another forward by now"):
        await services.forwards.remove(ADMIN, vm, 0, rows[1].id)
    with pytest.raises(NotFound):
        await services.forwards.remove(ADMIN, vm, 2)
    await services.forwards.remove(ADMIN, vm, 0, rows[0].id)
    assert [row.id for row in await services.forwards.of_vm(vm)] == [rows[1].id]


async def test_a_gateway_that_fails_keeps_the_wish(services: Services, vm: Vm) -> None:
    gateway = await gateway_of(services)
    gateway.failure = EngineFailure("nft broke.")
    forward = await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    assert forward.state is RuleState.FAILED
    assert forward.problem is not None
    assert forward.problem["msgid"] == "nft broke."
    gateway.failure = None

    async def applied() -> bool:
        row = await Forward.get(id=forward.id)
        return row.state is RuleState.APPLIED and row.problem is None and bool(gateway.applied.forwards)

    await until(applied)


async def test_drift_is_put_right_and_logged(services: Services, vm: Vm) -> None:
    gateway = await gateway_of(services)
    await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    wanted = gateway.applied
    gateway.applied = RuleSet()

    async def back() -> bool:
        return gateway.applied == wanted

    await until(back)
    await asyncio.sleep(0.1)
    from panel.services.audit import LogFilter

    total, entries = await services.audit.read(LogFilter(action="gateway.drift"))
    assert total == 1
    assert entries[0].level == "warning"


async def test_the_end_of_a_vm_is_the_end_of_its_rules(services: Services, vm: Vm) -> None:
    gateway = await gateway_of(services)
    await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    task = await services.vms.delete(ADMIN, vm)
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    assert gateway.applied == RuleSet()
    assert await Forward.all().count() == await ForwardPort.all().count() == await Address.all().count() == 0


async def test_an_address_with_a_forward_stays(services: Services, vm: Vm) -> None:
    await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    with pytest.raises(Conflict, match=r"port 8080 leads to 192\.168\.1\.2"):
        await services.addresses.remove(ADMIN, vm, 0)


async def test_forgetting_a_host_forgets_its_rules(services: Services, vm: Vm) -> None:
    gateway = await gateway_of(services)
    await services.forwards.add(ADMIN, vm, ForwardRequest(TCP, 80, 8080))
    await services.hosts.delete(ADMIN, "host1")

    async def gone() -> bool:
        return gateway.applied == RuleSet()

    await until(gone)
