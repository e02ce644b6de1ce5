"""Counting, months, limits and rates, on imaginary machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panel.errors import EngineFailure
from panel.gateways.kernel import Traffic as Count
from panel.gateways.memory import MemoryGateway
from panel.gateways.types import Protocol, RuleSet
from panel.i18n import Text
from panel.models import Forward, Host, Nic, RuleState, Traffic, TrafficMark, Vm
from panel.models.host import AtLimit
from panel.services import gateways, traffic
from panel.services.audit import LogFilter
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.traffic import GIB, grown
from panel.services.vms import VmChange
from tests.conftest import ADMIN
from tests.services.kit import make, until


@pytest.fixture
async def vm(services: Services, fake_host: str) -> Vm:
    return await make(services, "vm-1", limits={"flu_num": 2, "speed_u": 50, "speed_d": 0})


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test itself looks."""
    monkeypatch.setattr(gateways, "LOOK_EVERY", 3600.0)


def gateway_of(services: Services, host: Host) -> MemoryGateway:
    _machine, found = services.gateways.of(host)
    assert isinstance(found, MemoryGateway)
    return found


async def look(services: Services, vm: Vm) -> Vm:
    """One round; the VM as it is then."""
    await services.gateways.converge(await Host.get(id=vm.host_id), look=True)
    return await Vm.get(id=vm.id).prefetch_related("host", "nics")


async def logged(services: Services, action: str) -> list[str]:
    _total, entries = await services.audit.read(LogFilter(action=action))
    return [str(entry.message["msgid"]) for entry in entries]


def rates(gateway: MemoryGateway) -> set[tuple[int, int]]:
    return set(gateway.limits.values())


async def counted(vm: Vm) -> tuple[int, int]:
    rows = await Traffic.filter(vm_id=vm.id)
    return sum(row.sent_bytes for row in rows), sum(row.received_bytes for row in rows)


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.booleans())))
def test_what_came_is_counted_once(steps: Sequence[tuple[int, int, bool]]) -> None:
    """Whatever grows and whenever counters begin anew: seen before and after, nothing is lost or counted twice."""
    kernel = mark = total = Count()
    sent = received = 0
    for up, down, anew in steps:
        if anew and (up < mark.sent_bytes or down < mark.received_bytes):  # else nobody could tell
            kernel = Count()
        kernel = Count(kernel.sent_bytes + up, kernel.received_bytes + down)
        sent, received = sent + up, received + down
        came = grown(mark, kernel)
        total = Count(total.sent_bytes + came.sent_bytes, total.received_bytes + came.received_bytes)
        mark = kernel
    assert total == Count(sent, received)


async def test_counters_become_months(
    services: Services, vm: Vm, rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, name = gateway_of(services, vm.host), f"vm{vm.id}"
    for sent, received in ((100, 1000), (300, 1500), (300, 1500)):
        gateway.traffic[name] = Count(sent, received)
        await look(services, vm)
    assert await counted(vm) == (300, 1500)
    gateway.traffic[name] = Count(50, 20)  # the host rebooted
    await look(services, vm)
    assert await counted(vm) == (350, 1520)
    monkeypatch.setattr(traffic, "now", lambda: datetime(2031, 2, 1, tzinfo=UTC))
    gateway.traffic[name] = Count(60, 20)
    await look(services, vm)
    told = await traffic.usage(vm)
    assert (told.sent_bytes, told.received_bytes, told.limit_bytes) == (10, 0, 2 * GIB)
    assert told.months[0].month == "2031-02"
    assert len(told.months) == 2


async def test_a_panel_that_begins_goes_on_where_it_was(services: Services, vm: Vm, rarely: None) -> None:
    gateway, name = gateway_of(services, vm.host), f"vm{vm.id}"
    gateway.traffic[name] = Count(100, 1000)
    await look(services, vm)
    services.gateways._counted.clear()
    services.gateways._applied.clear()
    gateway.traffic[name] = Count(150, 1000)
    await look(services, vm)
    assert await counted(vm) == (150, 1000)


async def test_tables_that_went_begin_at_nothing(services: Services, vm: Vm, rarely: None) -> None:
    gateway, name = gateway_of(services, vm.host), f"vm{vm.id}"
    gateway.traffic[name] = Count(100, 1000)
    await look(services, vm)
    wanted, gateway.applied = gateway.applied, RuleSet()
    await look(services, vm)
    gateway.applied = wanted
    gateway.traffic[name] = Count(700, 2000)  # more than before, all of it new
    await look(services, vm)
    assert await counted(vm) == (800, 3000)


async def test_the_last_of_what_is_no_longer_counted(services: Services, vm: Vm, rarely: None) -> None:
    gateway, name = gateway_of(services, vm.host), f"vm{vm.id}"
    await look(services, vm)
    nic = await Nic.get(vm_id=vm.id)
    await nic.delete()
    await Vm.filter(id=vm.id).update(limits={})
    gateway.traffic[name] = Count(70, 7)
    await look(services, vm)
    assert await counted(vm) == (70, 7)
    assert not await TrafficMark.all().exists()


async def test_a_removed_vm_takes_its_traffic_along(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    gateway.traffic[f"vm{vm.id}"] = Count(100, 1000)
    await look(services, vm)
    task = await services.vms.delete(ADMIN, vm)
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    assert not await Traffic.all().exists()
    assert not await TrafficMark.all().exists()


async def test_rates_follow_the_wish(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    await look(services, vm)
    assert rates(gateway) == {(50, 0)}
    count = gateway.count
    task = await services.vms.update(ADMIN, vm, VmChange(), limits={"speed_u": 0, "speed_d": 30})
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    assert rates(gateway) == {(0, 30)}
    assert gateway.count == count, "rates are no rules"


async def test_rates_that_cannot_be_had_hold_up_no_rules(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    gateway.complaint = Text("tc broke.")
    for _round in range(3):
        await look(services, vm)
    assert gateway.applied.guests
    assert await logged(services, "gateway.warning") == ["tc broke."]
    assert [str(text) for text in services.gateways.notices(vm.host)] == ["tc broke."]
    gateway.complaint = None
    await look(services, vm)
    assert services.gateways.notices(vm.host) == []


async def test_slow_at_the_limit_and_free_when_it_is_raised(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    gateway.traffic[f"vm{vm.id}"] = Count(GIB, GIB - 1)
    assert not (await look(services, vm)).at_limit
    gateway.traffic[f"vm{vm.id}"] = Count(GIB, GIB)
    vm = await look(services, vm)
    assert vm.at_limit
    assert rates(gateway) == {(1, 1)}
    assert not any(guest.blocked for guest in gateway.applied.guests)
    assert ["slowed" in text for text in await logged(services, "vm.at_limit")] == [True]
    task = await services.vms.update(ADMIN, vm, VmChange(), limits={"flu_num": 3})
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    assert rates(gateway) == {(50, 0)}
    assert not (await Vm.get(id=vm.id)).at_limit
    assert len(await logged(services, "vm.below_limit")) == 1


async def test_cut_at_the_limit_until_the_next_month(
    services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = gateway_of(services, vm.host)
    await Host.filter(id=vm.host_id).update(at_limit=AtLimit.CUT)
    gateway.traffic[f"vm{vm.id}"] = Count(2 * GIB, 0)
    vm = await look(services, vm)
    assert [guest.blocked for guest in gateway.applied.guests] == [True]
    assert rates(gateway) == {(50, 0)}
    await Host.filter(id=vm.host_id).update(at_limit=AtLimit.SLOW, at_limit_mbit=5)
    await look(services, vm)
    assert [guest.blocked for guest in gateway.applied.guests] == [False]
    assert rates(gateway) == {(5, 5)}
    monkeypatch.setattr(traffic, "now", lambda: datetime(2031, 2, 1, tzinfo=UTC))
    assert not (await look(services, vm)).at_limit
    assert rates(gateway) == {(50, 0)}


async def test_drift_that_is_only_told(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    await Host.filter(id=vm.host_id).update(report_only=True)
    forward = await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol.TCP, 80, 8080))
    machine = services.gateways.machine(vm.host) or ""
    wanted = gateway.applied
    gateway.applied = RuleSet(guests=wanted.guests, revision=wanted.revision)
    for _round in range(3):
        await look(services, vm)
    assert gateway.applied.forwards == ()
    assert [item.forward for item in services.gateways.drift_of(machine)] == [str(forward.id)]
    assert len(services.gateways.notices(vm.host)) == 1
    assert len(await logged(services, "gateway.drift")) == 1
    assert (await Forward.get(id=forward.id)).state is RuleState.FAILED
    services.gateways._applied.clear()  # a panel that begins
    await look(services, vm)
    assert gateway.applied.forwards == ()
    other = await services.forwards.add(ADMIN, vm, ForwardRequest(Protocol.TCP, 81, 8081))
    assert len(gateway.applied.forwards) == 2, "a new wish is applied, as a whole"
    assert other.state is RuleState.APPLIED
    await look(services, vm)
    assert services.gateways.drift_of(machine) == []
    assert (await Forward.get(id=forward.id)).state is RuleState.APPLIED


async def test_a_gateway_that_does_not_answer_loses_nothing(services: Services, vm: Vm) -> None:
    gateway = gateway_of(services, vm.host)
    gateway.traffic[f"vm{vm.id}"] = Count(1, 2)
    gateway.failure = EngineFailure("nft broke.")
    await look(services, vm)
    assert await counted(vm) == (0, 0)
    gateway.failure = None

    async def there() -> bool:
        await look(services, vm)
        return await counted(vm) == (1, 2)

    await until(there)
