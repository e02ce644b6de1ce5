"""What needs attention: each kind at its border, limited, and nothing when all is well. No host here is looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from panel.engines.types import EngineKind, NicMode, PowerState
from panel.i18n import Text
from panel.models import (
    Address,
    CertificateState,
    Forward,
    ForwardPort,
    Host,
    Network,
    Nic,
    Pool,
    Proxy,
    RuleState,
    Task,
    TaskStatus,
    Vm,
)
from panel.models.host import HostHealth
from panel.services.attention import MOST, Attention, AttentionService
from panel.services.clock import now
from panel.services.container import Services

DAY = timedelta(days=1)


@pytest.fixture
async def vm(services: Services) -> Vm:
    """A VM of a host that is well."""
    host = await Host.create(
        name="h", engine=EngineKind.FAKE, address="h", enabled=False, health=HostHealth.ONLINE, seen_at=now()
    )
    return await made(host, "v")


async def made(host: Host, name: str, **more: Any) -> Vm:
    values = {"ref": name, "cpu_count": 1, "memory_mib": 512, "state": PowerState.RUNNING}
    return await Vm.create(host=host, name=name, **(values | more))


async def domain(vm: Vm, name: str = "d.example", **more: Any) -> Proxy:
    values = {"target_ip": "192.0.2.9", "target_port": 80, "ssl": True, "state": RuleState.APPLIED}
    values |= {"certificate_state": CertificateState.VALID, "certificate_expires": now() + 60 * DAY}
    return await Proxy.create(host_id=vm.host_id, vm=vm, domain=name, **(values | more))


async def forward(vm: Vm, port: int, state: RuleState) -> Forward:
    return await Forward.create(host_id=vm.host_id, vm=vm, protocol="tcp", external_start=port, external_end=port,
                                internal_ip="192.0.2.9", internal_start=80, state=state)  # fmt: skip


async def task(number: int, status: TaskStatus, ago: timedelta) -> Task:
    return await Task.create(id=f"{number:032x}", kind="vm.power", status=status, ended_at=now() - ago)


async def read(services: Services) -> Attention:
    return await services.attention.read()


async def test_nothing_when_all_is_well(services: Services, vm: Vm) -> None:
    await domain(vm)
    await forward(vm, 20000, RuleState.APPLIED)
    await forward(vm, 20001, RuleState.APPLYING)
    await task(1, TaskStatus.SUCCEEDED, timedelta())
    assert not await read(services)


async def test_hosts_that_do_not_answer(services: Services, vm: Vm) -> None:
    await Host.all().update(health=HostHealth.UNREACHABLE)
    await Host.create(name="off", engine=EngineKind.FAKE, enabled=False, health=HostHealth.DISABLED)
    assert [host.name for host in (await read(services)).unreachable.rows] == ["h"]


async def test_tasks_of_the_last_day(services: Services, vm: Vm) -> None:
    await task(1, TaskStatus.FAILED, timedelta(hours=23))
    await task(2, TaskStatus.INTERRUPTED, timedelta(hours=1))
    await task(3, TaskStatus.FAILED, timedelta(hours=25))
    await task(4, TaskStatus.CANCELLED, timedelta())
    assert [int(row.id, 16) for row in (await read(services)).tasks.rows] == [2, 1]


async def test_missing_vms_are_limited(services: Services, vm: Vm) -> None:
    for number in range(MOST + 2):
        await made(vm.host, f"m{number}", state=PowerState.MISSING, state_since=now())
    missing = (await read(services)).missing
    assert (len(missing.rows), missing.total, missing.more) == (MOST, MOST + 2, 2)
    assert missing.rows[0].host.name == "h"


async def test_rules_that_failed(services: Services, vm: Vm) -> None:
    one = await forward(vm, 20000, RuleState.FAILED)
    other = await domain(vm, state=RuleState.FAILED)
    found = await read(services)
    assert [row.id for row in found.forwards.rows] == [one.id]
    assert [row.id for row in found.domains.rows] == [other.id]
    assert not found.certificates.total


async def test_certificates(services: Services, vm: Vm) -> None:
    await domain(vm, "soon.example", certificate_expires=now() + 13 * DAY)
    await domain(vm, "later.example", certificate_expires=now() + 15 * DAY)
    await domain(vm, "failed.example", certificate_state=CertificateState.FAILED, certificate_expires=None)
    await domain(vm, "over.example", certificate_state=CertificateState.EXPIRED, certificate_expires=now() - DAY)
    await domain(vm, "plain.example", ssl=False, certificate_expires=now() - DAY)
    found = {row.domain for row in (await read(services)).certificates.rows}
    assert found == {"soon.example", "failed.example", "over.example"}


async def test_an_authority_of_our_own_renews_by_the_hour(services: Services, vm: Vm) -> None:
    await domain(vm, "hours.example", certificate_expires=now() + timedelta(hours=8))
    internal = AttentionService(replace(services.settings, acme_directory="internal"), services.gateways)
    assert (await read(services)).certificates.total == 1
    assert (await internal.read()).certificates.total == 0


@pytest.mark.parametrize(("given", "kept", "told"), [(8, 0, False), (9, 0, True), (7, 3, True), (0, 10, False)])
async def test_pools_that_fill_up(services: Services, vm: Vm, given: int, kept: int, told: bool) -> None:
    """Ten addresses, of which some are kept back: what is kept back is not to be given."""
    reserved = [[f"192.0.2.{14 - kept}", "192.0.2.13"]] if kept else []
    network = await Network.create(host=vm.host, name="br", mode=NicMode.BRIDGE, reserved=[])
    await Pool.create(network=network, subnet="192.0.2.0/24", gateway="192.0.2.1", reserved=reserved,
                      ranges=[["192.0.2.4", "192.0.2.13"]])  # fmt: skip
    nic = await Nic.create(vm=vm, name="eth0", mac="52:54:00:00:00:01")
    for number in range(given):
        await Address.create(network=network, nic=nic, ip=f"192.0.2.{4 + number}")
    assert bool((await read(services)).pools.total) is told


@pytest.mark.parametrize(("used", "told"), [(8, []), (9, [("UDP", 1, 10)]), (10, [("UDP", 0, 10)])])
async def test_ports_that_run_out(services: Services, vm: Vm, used: int, told: list[tuple[str, int, int]]) -> None:
    await Host.all().update(ports_start=20000, ports_close=20009)
    row = await forward(vm, 20000, RuleState.APPLIED)
    for port in range(20000, 20000 + used):
        await ForwardPort.create(forward=row, host_id=vm.host_id, protocol="udp", port=port)
    found = (await read(services)).ports.rows
    assert [(item.protocol, item.free, item.total) for item in found] == told


async def test_what_gateways_say_is_told_once(services: Services, vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts of one machine have one gateway."""
    await Host.create(name="twin", engine=EngineKind.FAKE, address="h", enabled=False, report_only=True)
    text = Text("1 rules of {machine} differ.", {"machine": "fake h"})
    monkeypatch.setattr(type(services.gateways), "notices", lambda _self, _host: [text])
    found = (await read(services)).gateways
    assert [(row.host.name, row.text) for row in found.rows] == [("h", text)]
