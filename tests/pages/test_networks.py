"""A host's networks: how full they are, what is kept back, and the pools of bridges."""

from __future__ import annotations

import re

from panel.engines.fake.world import FakeWorld
from panel.engines.types import NicMode
from panel.models import Address, Network, Pool
from panel.security import PANEL
from panel.services.container import Services
from panel.services.specs import NicRequest
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser

TAB = "/hosts/alpha?tab=networks"
BASE = "/hosts/alpha/networks"
POOL = {
    "subnet": "203.0.113.0/28",
    "gateway": "203.0.113.1",
    "dns": "9.9.9.9\n2620:fe::fe",
    "ranges": "203.0.113.2 - 203.0.113.9",
    "reserved": "203.0.113.4\n203.0.113.6 – 203.0.113.7",
}


async def make(services: Services, name: str, mode: NicMode) -> None:
    host = await services.hosts.get("alpha")
    request = VmRequest(name, name.title(), "Debian 12", 1, 256, 4, nics=(NicRequest("eth0", mode),), start=True)
    _vm, task = await services.vms.create(PANEL, host, request)
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"


async def test_a_pool_from_beginning_to_end(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await browser.get(TAB)
    assert "No pool" in browser.text
    await browser.get(f"{TAB}&network=fake-bridge&edit=new")
    await browser.post(f"{BASE}/fake-bridge/pools", **POOL)
    assert (browser.status, browser.path) == (200, TAB)
    pool = await Pool.get()
    assert pool.ranges == [["203.0.113.2", "203.0.113.9"]]
    assert pool.reserved == [["203.0.113.4", "203.0.113.4"], ["203.0.113.6", "203.0.113.7"]]
    assert pool.dns == ["9.9.9.9", "2620:fe::fe"]
    await make(services, "web", NicMode.BRIDGE)
    await browser.get(TAB)
    assert "1 / 8" in browser.text
    assert "203.0.113.2" in browser.text
    assert "has it" in browser.text
    assert 'href="/hosts/alpha/vms/web?tab=network"' in browser.html
    await browser.post(f"{BASE}/fake-bridge/pools/{pool.id}/remove")
    assert "VM web has the address 203.0.113.2" in browser.text
    await browser.get(f"{TAB}&network=fake-bridge&edit={pool.id}")
    assert "203.0.113.6 - 203.0.113.7" in browser.html
    await browser.post(f"{BASE}/fake-bridge/pools/{pool.id}", **(POOL | {"ranges": "203.0.113.5-203.0.113.9"}))
    assert browser.status == 400
    assert re.search(r'id="ranges-error".*VM web has 203.0.113.2', browser.html.replace("\n", ""))
    await browser.post(f"{BASE}/fake-bridge/pools/{pool.id}", **(POOL | {"reserved": "203.0.113.2"}))
    assert "203.0.113.2 is reserved now; VM web keeps it." in browser.text
    await Address.all().delete()
    await browser.post(f"{BASE}/fake-bridge/pools/{pool.id}/remove")
    assert "Removed the pool 203.0.113.0/28" in browser.text


async def test_reserved_addresses(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await make(services, "web", NicMode.NAT)
    await browser.get(f"{TAB}&network=fake-nat&edit=reserved")
    await browser.post(f"{BASE}/fake-nat/reserved", reserved="192.168.1.2 - 192.168.1.9\n\n192.168.1.200")
    assert "192.168.1.2 is reserved now; VM web keeps it." in browser.text
    assert (await Network.get(name="fake-nat")).reserved == [
        ["192.168.1.2", "192.168.1.9"],
        ["192.168.1.200", "192.168.1.200"],
    ]
    assert "1 / 253" in browser.text
    assert " 244 9 " in browser.text
    for typed in ("10.0.0.1", "192.168.1.9 - 192.168.1.2", "nonsense", "192.168.1.9 - fd00::1"):
        await browser.post(f"{BASE}/fake-nat/reserved", reserved=typed)
        assert browser.status == 400
        assert 'id="reserved-error"' in browser.html, typed
        assert typed in browser.html


async def test_what_is_not_there(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    for arguments in ("&network=nope&edit=new", "&network=fake-bridge&edit=7"):
        await browser.get(TAB + arguments)
        assert browser.status == 404
    await browser.get(TAB)
    await browser.post(f"{BASE}/fake-nat/pools", **POOL)
    assert "pools are for bridges" in browser.text
    await browser.post(f"{BASE}/fake-bridge/reserved", reserved="203.0.113.2")
    assert "has pools" in browser.text
    await browser.post(f"{BASE}/fake-bridge/pools", subnet="")
    assert (browser.status, 'id="subnet-error"' in browser.html) == (400, True)


async def test_all_that_is_wrong_is_told_at_once(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await browser.get(TAB)
    wrong = POOL | {"gateway": "198.51.100.1", "dns": "nine", "ranges": "203.0.113.9-203.0.113.2", "reserved": "x"}
    await browser.post(f"{BASE}/fake-bridge/pools", **wrong)
    assert browser.status == 400
    for field in ("gateway", "dns", "ranges", "reserved"):
        assert f'id="{field}-error"' in browser.html, field
    assert 'id="subnet-error"' not in browser.html
    await browser.post(f"{BASE}/fake-bridge/pools", **(wrong | {"subnet": "203.0.113.0"}))
    assert all(f'id="{field}-error"' in browser.html for field in ("subnet", "dns")), "the others need a subnet"
    assert not await Pool.exists()
