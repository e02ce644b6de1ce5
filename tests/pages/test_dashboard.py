"""The dashboard: hosts with what of them is given, VMs by state, what needs attention, what was done last."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from panel.engines.fake.world import FakeWorld
from panel.engines.types import NicMode, PowerState
from panel.i18n import Text
from panel.models import (
    Address,
    CertificateState,
    Forward,
    ForwardPort,
    Host,
    Network,
    Nic,
    Proxy,
    RuleState,
    Task,
    TaskStatus,
    Vm,
)
from panel.models.host import HostHealth
from panel.security import PANEL
from panel.services.attention import MOST
from panel.services.clock import now
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named

CAPACITY = {
    "cpu_percent": 1.0,
    "cpu_count": 60,
    "memory_total_mib": 64 * 1024,
    "memory_used_mib": 1,
    "disk_total_gib": 1000.0,
    "disk_used_gib": 1.0,
}
WHY = {"msgid": "It refuses.", "params": {}}


@pytest.fixture
async def still(alpha: FakeWorld, services: Services) -> Host:
    """Host ``alpha``, seen well; nobody looks any more, so that rows stay as the tests write them."""
    await services.hosts.set_enabled(PANEL, "alpha", False)
    await Vm.all().update(state=PowerState.STOPPED)
    await Vm.filter(name__gte="vm-0011").update(state=PowerState.RUNNING)
    await Host.all().update(health=HostHealth.ONLINE, status=CAPACITY, seen_at=now())
    return await Host.get(name="alpha")


async def domain(vm: Vm, name: str, **more: Any) -> Proxy:
    values = {"target_ip": "192.0.2.9", "target_port": 80, "ssl": True, "state": RuleState.APPLIED}
    values |= {"certificate_state": CertificateState.VALID, "certificate_expires": now() + timedelta(days=60)}
    return await Proxy.create(host_id=vm.host_id, vm=vm, domain=name, **(values | more))


async def forward(vm: Vm, port: int, **more: Any) -> Forward:
    return await Forward.create(host_id=vm.host_id, vm=vm, protocol="tcp", external_start=port, external_end=port,
                                internal_ip="192.0.2.9", internal_start=80, **more)  # fmt: skip


def lines(browser: Browser) -> list[tuple[str, str]]:
    """What needs attention: where it leads, and its words."""
    found = re.search(r'<ul class="attention"[^>]*>(.*?)</ul>', browser.html, re.S)
    made = re.findall(r"<li.*?</li>", found[1], re.S) if found else []
    return [
        (re.search(r'href="([^"]*)"', item)[1], " ".join(re.sub(r"<[^>]*>", " ", item).split()))  # type: ignore[index]
        for item in made
    ]


async def test_without_a_host(browser: Browser) -> None:
    await browser.get("/")
    assert "No hosts yet" in browser.text
    assert "VMs by state" not in browser.text
    assert "Needs attention" not in browser.text


async def test_all_is_well(browser: Browser, still: Host) -> None:
    """Hosts, states, also those of which there are none, the log, and a word that nothing needs attention."""
    await browser.get("/")
    assert lines(browser) == []
    assert "Nothing needs attention" in browser.text
    assert re.search(r'class="is-none">\s*<a href="/vms\?state=crashed">.*?<strong>0</strong>', browser.html, re.S)
    assert f"{sum(vm.cpu_count for vm in await Vm.all())} / 60" in browser.text
    assert "/ 64 GiB" in browser.text
    assert "20 of 30 running" in browser.text
    for state, count in (("running", 20), ("stopped", 10)):
        assert re.search(rf'href="/vms\?state={state}">.*?<strong>{count}</strong>', browser.html, re.S)
    assert "Added the host." in browser.text


async def test_more_than_there_is(browser: Browser, still: Host) -> None:
    """Overcommitment is a number above 100 %; of a host never seen, only what was given is known."""
    await Host.all().update(status=CAPACITY | {"cpu_count": 1})
    await Vm.all().update(cpu_count=2)
    await browser.get("/")
    assert "60 / 1" in browser.text
    assert "6,000%" in browser.text
    await Host.all().update(status=None)
    await browser.get("/")
    assert "60 /" not in browser.text
    assert re.search(r'data-label="Cores allocated">\s*60\s*<', browser.html)


@pytest.mark.parametrize(
    ("cores", "memory", "disk", "classes"),
    [
        (60, 65536, 1000, ["bar", "bar bar-high", "bar"]),
        (240, 60000, 900, ["bar", "bar bar-high", "bar"]),
        (241, 50000, 1100, ["bar bar-high", "bar", "bar bar-high"]),
        (999, 66000, 9999, ["bar bar-high", "bar bar-full", "bar bar-high"]),
    ],
)
async def test_what_is_given_is_coloured_by_what_it_means(
    browser: Browser, still: Host, cores: int, memory: int, disk: int, classes: list[str]
) -> None:
    """Cores are shared: more than there are is usual, amber beyond four times. Memory beyond 100 % is red."""
    await Vm.all().update(cpu_count=0, memory_mib=0, disk_gib=0)
    await Vm.filter(name="vm-0001").update(cpu_count=cores, memory_mib=memory, disk_gib=disk)
    await browser.get("/")
    row = browser.html.partition(f'<tr id="host-{still.id}"')[2].partition("</tr>")[0]
    assert re.findall(r'<progress class="([^"]*)"', row) == classes


async def test_each_kind_leads_to_its_mend(
    browser: Browser, still: Host, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = await vm_named("vm-0001")
    place = "/hosts/alpha/vms/vm-0001"
    await Host.all().update(health=HostHealth.UNREACHABLE, problem=WHY, ports_start=20000, ports_close=20000)
    await Task.create(id="a" * 32, kind="vm.power", status=TaskStatus.FAILED, ended_at=now(), vm_name="vm-0001")
    await Vm.filter(id=vm.id).update(state=PowerState.MISSING)
    row = await forward(vm, 20000, state=RuleState.FAILED, problem=WHY)
    await ForwardPort.create(forward=row, host_id=vm.host_id, protocol="tcp", port=20000)
    await domain(vm, "gone.example", state=RuleState.FAILED, problem=WHY)
    await domain(vm, "soon.example", certificate_expires=now() + timedelta(days=3))
    await domain(vm, "over.example", certificate_state=CertificateState.EXPIRED)
    await domain(vm, "none.example", certificate_state=CertificateState.FAILED, certificate_problem=WHY)
    await Network.filter(host=still, mode=NicMode.NAT).update(reserved=[["192.168.1.3", "192.168.1.254"]])
    nic = await Nic.filter(vm=vm).first()
    await Address.filter(network__host=still).delete()
    await Address.create(network=await Network.get(host=still, mode=NicMode.NAT), nic=nic, ip="192.168.1.2")
    await Host.all().update(leftovers=[{"path": "/x.qcow2", "size_bytes": 1}])
    drift = Text("Rules differ: its host only reports.")
    monkeypatch.setattr(type(services.gateways), "notices", lambda _self, _host: [drift])
    await browser.get("/")
    network = f"{place}?tab=network"
    for url, words in (
        ("/hosts/alpha", "The host does not answer"),
        ("/hosts/alpha?tab=settings", "its host only reports"),
        ("/tasks/" + "a" * 32, "vm-0001"),
        (place, "Machine vm-0001 is not on its host alpha any more"),
        (network, "TCP 20000 of alpha does not lead to Machine vm-0001"),
        (network, "gone.example does not lead to Machine vm-0001"),
        (network, "The certificate of soon.example ends soon"),
        (network, "The certificate of over.example has expired"),
        (network, "none.example has no certificate"),
        ("/hosts/alpha?tab=networks", "192.168.1.0/24"),
        ("/hosts/alpha?tab=settings", "Its TCP ports for forwards are nearly used up"),
        ("/hosts/alpha?tab=images", "1 file that no VM uses"),
    ):
        assert any(href == url and words in text for href, text in lines(browser)), (url, words, lines(browser))
    assert browser.text.count("It refuses.") == 4
    for url, _words in lines(browser):
        await browser.get(url)
        assert browser.status == 200, url


async def test_many_of_a_kind_are_counted(browser: Browser, still: Host) -> None:
    await Vm.all().update(state=PowerState.MISSING)
    await browser.get("/")
    found = lines(browser)
    assert len(found) == MOST + 1
    assert found[-1] == ("/vms?state=missing", f"Virtual machines: and {30 - MOST} more")


async def test_in_chinese(browser: Browser, still: Host) -> None:
    await Host.all().update(health=HostHealth.UNREACHABLE)
    browser.headers["Accept-Language"] = "zh-CN"
    await browser.get("/")
    assert "需要关注" in browser.text
    assert "Needs attention" not in browser.text


async def test_query_count_does_not_grow(browser: Browser, still: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty of everything on ten hosts cost as many queries as one of each."""
    from tortoise.backends.sqlite.client import SqliteClient

    counted: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            counted.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)

    async def least() -> int:
        counts = []
        for _again in range(3):
            counted.clear()
            await browser.get("/")
            counts.append(len(counted))
        return min(counts)

    async def trouble(first: int, last: int) -> None:
        for number, vm in enumerate((await Vm.all())[first:last], first):
            await Vm.filter(id=vm.id).update(state=PowerState.MISSING)
            await forward(vm, 20000 + number, state=RuleState.FAILED)
            await domain(vm, f"d{number}.example", state=RuleState.FAILED, certificate_state=CertificateState.FAILED)
            await Task.create(id=f"{number:032x}", kind="vm.power", status=TaskStatus.FAILED, ended_at=now(),
                              vm_id=vm.id, host_id=vm.host_id)  # fmt: skip

    await trouble(0, 1)
    before = await least()
    await trouble(1, 30)
    for number in range(9):
        host = await Host.create(name=f"h{number}", engine="fake", address=f"h{number}", enabled=False,
                                 health=HostHealth.UNREACHABLE)  # fmt: skip
        await Vm.create(host=host, name="v", ref="v", cpu_count=1, memory_mib=1)
        await Network.create(host=host, name="n", mode=NicMode.NAT, subnet4="10.0.0.0/24")
    assert await least() == before <= 45, counted
