"""A VM's traffic on its page: how much, of how much, and what came of it."""

from __future__ import annotations

from panel.engines.fake.world import FakeWorld
from panel.gateways.kernel import Traffic as Count
from panel.gateways.memory import MemoryGateway
from panel.gateways.types import Protocol, RuleSet
from panel.models import Host
from panel.models.host import AtLimit
from panel.security import PANEL
from panel.services.container import Services
from panel.services.forwards import ForwardRequest
from panel.services.traffic import GIB, this_month
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser

TAB = "/hosts/alpha/vms/web?tab=network"


async def test_what_it_used_and_what_came_of_it(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    host = await services.hosts.get("alpha")
    limits = {"flu_num": 2, "speed_u": 50}
    vm, task = await services.vms.create(PANEL, host, VmRequest("web", "Web", "Debian 12", 1, 256, 4, limits=limits))
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    _machine, gateway = services.gateways.of(host)
    assert isinstance(gateway, MemoryGateway)
    gateway.traffic[f"vm{vm.id}"] = Count(GIB, GIB // 2)
    await services.gateways.converge(host, look=True)
    await browser.get(TAB)
    for words in ("1.5 GiB", "1 GiB", "512 MiB", "slowed to 1 Mbit/s", this_month()):
        assert words in browser.text, words
    assert 'name="speed_u" value="50"' in browser.html
    assert "has used its traffic" not in browser.text
    await Host.filter(id=host.id).update(at_limit=AtLimit.CUT, report_only=True)
    gateway.traffic[f"vm{vm.id}"] = Count(GIB, GIB)
    await services.gateways.converge(host)
    await browser.get("/hosts/alpha/vms/web")
    assert "is cut off until the next one" in browser.text


async def test_drift_that_stays_is_on_the_hosts_page(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    host = await services.hosts.get("alpha")
    await Host.filter(id=host.id).update(report_only=True)
    _vm, task = await services.vms.create(PANEL, host, VmRequest("web", "Web", "Debian 12", 1, 256, 4))
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    vm = await services.vms.get("alpha", "web")
    await services.forwards.add(PANEL, vm, ForwardRequest(Protocol.TCP, 80, 8080))
    _machine, gateway = services.gateways.of(host)
    assert isinstance(gateway, MemoryGateway)
    gateway.applied = RuleSet(guests=gateway.applied.guests, revision=gateway.applied.revision)
    await services.gateways.converge(host, look=True)
    for path in ("/hosts/alpha", TAB, "/"):
        await browser.get(path)
        assert "its host only reports" in browser.text
