"""The network of all hosts: its lists, the room that is left, and what a VM publishes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from quart import Quart

from panel.engines.fake.world import FakeWorld
from panel.engines.types import NicMode, PowerState
from panel.events import VmChanged
from panel.gateways.reach import ImaginaryConnector, Reach
from panel.i18n import Text
from panel.models import Address, CertificateState, Forward, ForwardPort, Host, Network, Proxy, RuleState, Vm
from panel.pages import live
from panel.services.clock import now
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named
from tests.pages.test_live import Events

ROW = re.compile(r'<tr id="(?:forward|domain|address)-(\d+)"')
VM = "/hosts/alpha/vms/vm-0001"


@pytest.fixture
async def network(alpha: FakeWorld, services: Services) -> None:
    """Each of alpha's thirty VMs with a forward, a domain and an address; nobody looks or probes."""
    await services.observer.stop()
    await services.probes.stop()
    await services.gateways.stop()
    host = await Host.get(name="alpha")
    net = await Network.filter(host_id=host.id, mode=NicMode.NAT).first()
    assert net is not None
    for number, vm in enumerate(await Vm.all().order_by("name").prefetch_related("nics")):
        same = {"host_id": host.id, "vm_id": vm.id, "state": RuleState.APPLIED, "applied_at": now(), "probe_at": now()}
        port, ip = 20000 + number, f"192.168.1.{100 + number}"
        rule = await Forward.create(
            **same, protocol="tcp", external_start=port, external_end=port, internal_ip=ip, internal_start=80,
            probe_open=True,
        )  # fmt: skip
        await ForwardPort.create(forward=rule, host=host, protocol="tcp", port=port)
        await Proxy.create(
            **same, domain=f"d{number}.example", target_ip=ip, target_port=8080, ssl=True, probe_open=False,
            certificate_state=CertificateState.VALID, certificate_expires=now(),
        )  # fmt: skip
        await Address.create(network=net, nic=next(iter(vm.nics)), ip=ip)


async def rows(browser: Browser, path: str) -> list[str]:
    await browser.get(path)
    assert browser.status == 200, path
    return ROW.findall(browser.html)


async def test_lists_search_and_pages(browser: Browser, network: None) -> None:
    for path in ("/network", "/network/domains", "/network/addresses"):
        assert len(await rows(browser, path)) == 25
        assert "30 entries" in browser.text
        assert len(await rows(browser, f"{path}?page=2")) == 5
        assert len(await rows(browser, f"{path}?size=50&sort=vm&dir=desc")) == 30
        assert len(await rows(browser, f"{path}?find=vm-0007")) == 1
        assert f"{VM[:-1]}7?tab=network" in browser.html
        assert len(await rows(browser, f"{path}?find=192.168.1.107")) == 1
        assert len(await rows(browser, f"{path}?host=nope")) == 0
        assert "Nothing matches" in browser.text
        for nonsense in ("?find=%25", "?find='", "?sort=x;drop", "?page=99999999999999999999", "?find=" + "9" * 300):
            await rows(browser, path + nonsense)
    assert len(await rows(browser, "/network?find=20007")) == 1
    assert len(await rows(browser, "/network?find=192.0.2.80:20007")) == 1
    assert len(await rows(browser, "/network/domains?find=D7.example")) == 1
    mac = (await Vm.get(name="vm-0007").prefetch_related("nics")).nics[0].mac
    assert len(await rows(browser, f"/network/addresses?find={mac.upper().replace(':', '-')}")) == 1


async def test_room(browser: Browser, network: None) -> None:
    await browser.get("/network")
    assert "30 of 10000" in browser.text
    assert "0 of 10000" in browser.text
    await Host.filter(name="alpha").update(ports_start=20010, ports_close=20019)
    await browser.get("/network")
    assert "10 of 10" in browser.text, "only what is of the range counts"
    await browser.get("/network/addresses")
    assert "30 of 253" in browser.text


async def test_query_count_does_not_grow(
    browser: Browser, network: None, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    """25 rows cost as many queries as one."""
    from tortoise.backends.sqlite.client import SqliteClient

    counted: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            counted.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)
    for path in ("/network", "/network/domains", "/network/addresses"):
        counts = []
        for query in ("?find=vm-0001", "?find=vm-0"):
            least = 1000
            for _again in range(3):
                counted.clear()
                await rows(browser, path + query)
                least = min(least, len(counted))
            counts.append(least)
        assert counts[0] == counts[1] <= 14, (path, counted)


async def test_what_a_vm_publishes(browser: Browser, network: None, services: Services) -> None:
    vm = await vm_named("vm-0001")
    await Vm.filter(id=vm.id).update(state=PowerState.RUNNING)
    refused = Text("It refuses.")
    await Proxy.filter(vm_id=vm.id).update(probe_problem={"msgid": refused.msgid, "params": {}})
    await browser.get(VM)
    assert 'data-copy="192.0.2.80:20000"' in browser.html
    assert 'href="https://d0.example"' in browser.html
    assert "open" in browser.text
    assert "closed" in browser.text
    assert "It refuses." in browser.text
    assert "valid" in browser.text
    connector = services.probes._imaginary
    assert isinstance(connector, ImaginaryConnector)
    connector.found[20000] = Reach(False, Text("Nobody is there."))
    await browser.post(f"{VM}/probe")
    assert "Checked what Machine vm-0001 publishes." in browser.text
    assert "Nobody is there." in browser.text
    assert "It refuses." not in browser.text
    await Vm.filter(id=vm.id).update(state=PowerState.STOPPED)
    await browser.get(VM)
    assert "The VM is not running." in browser.text
    await browser.post(f"{VM}/probe")
    assert "VM vm-0001 is not running" in browser.text


async def test_nothing_is_published(browser: Browser, alpha: FakeWorld) -> None:
    await browser.get(VM)
    assert "Nothing is published" in browser.text
    for path, words in (("/network", "No port forwards yet"), ("/network/domains", "No domains yet")):
        await browser.get(path)
        assert words in browser.text


async def test_settings_of_a_hosts_network(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await browser.get("/hosts/alpha?tab=settings")
    fields = {
        "outside": "VPS.example", "ports_start": "30000", "ports_close": "30099", "at_limit": "cut", "at_limit_mbit": "5",
        "report_only": "1",
    }  # fmt: skip
    await browser.post("/hosts/alpha/network", **fields)
    assert "Changed the settings of alpha." in browser.text
    host = await Host.get(name="alpha")
    assert (host.outside, host.ports_start, host.ports_close) == ("vps.example", 30000, 30099)
    assert (host.at_limit, host.at_limit_mbit, host.report_only, host.strict_reports) == ("cut", 5, True, False)
    for field, value in (
        ("outside", "vps.example:80"), ("outside", "127.0.0.1"), ("outside", "http://x"), ("outside", "-x"),
        ("ports_start", "0"), ("ports_start", "65536"), ("ports_start", "x"), ("ports_close", "29999"),
        ("at_limit", "explode"), ("at_limit_mbit", "0"), ("at_limit_mbit", "400001"),
    ):  # fmt: skip
        await browser.post("/hosts/alpha/network", **(fields | {field: value}))
        assert browser.status == 400
        assert f'id="{field}-error"' in browser.html, (field, value)
    assert (await Host.get(name="alpha")).ports_start == 30000


async def test_what_changes_arrives(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applying, not applied, applied, open: each as a list without its form, which somebody may be filling in."""
    monkeypatch.setattr(live, "PAUSE", 0.05)
    await services.probes.stop()
    await services.gateways.stop()
    await services.observer.stop()
    vm = await vm_named("vm-0001")
    same: dict[str, Any] = {"host_id": vm.host_id, "vm_id": vm.id, "internal_ip": "192.168.1.9", "internal_start": 80}
    rule = await Forward.create(**same, protocol="tcp", external_start=20000, external_end=20000)
    async with Events(app, browser, f"vm:{vm.id},network") as events:
        event = await events.until(f'id="vm-{vm.id}-forwards" hx-swap-oob="morph"', "being applied")
        for values, words in (
            (
                {"state": RuleState.FAILED, "problem": {"msgid": "nft broke.", "params": {}}},
                ("not applied", "nft broke."),
            ),
            ({"state": RuleState.APPLIED, "applied_at": now(), "problem": None}, ("being checked",)),
        ):
            await Forward.filter(id=rule.id).update(**values)
            services.events.publish(VmChanged(vm.id, vm.host_id))
            event = await events.until(f'id="vm-{vm.id}-forwards"', *words)
        assert await services.probes.check_due() == 1
        event = await events.until(f'id="vm-{vm.id}-forwards"', "state-online", "open")
        assert 'name="csrf_token"' in event, "its buttons work"
        assert 'name="internal_port"' not in event
        assert any(f'id="vm-{vm.id}-addresses" hx-swap-oob="morph"' in event for event in events.seen)
    async with Events(app, browser, f"vm:{vm.id}") as events:
        await events.until(f'id="vm-{vm.id}-published" hx-swap-oob="morph"', "192.0.2.80:20000")
    assert not any("-forwards" in event for event in events.seen)
