"""What a VM may use, on its network page: shown, changed, taken away, and refused in words beside the field."""

from __future__ import annotations

import re

import pytest

from panel.engines.fake.world import FakeWorld
from panel.gateways.memory import MemoryGateway
from panel.models import Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.gateways import GatewayService
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser

TAB = "/hosts/alpha/vms/web?tab=network"
PATH = "/hosts/alpha/vms/web/limits"
FIELDS = ("speed_u", "speed_d", "flu_num", "nat_num", "web_num")


@pytest.fixture
async def vm(alpha: FakeWorld, services: Services) -> Vm:
    host = await services.hosts.get("alpha")
    limits = {"speed_u": 50, "nat_num": 0, "flu_num": 0}
    vm, task = await services.vms.create(PANEL, host, VmRequest("web", "Web", "Debian 12", 1, 256, 4, limits=limits))
    assert (await services.tasks.wait(task.id, 5)).status == "succeeded"
    assert (await Vm.get(id=vm.id)).limits == {"speed_u": 50, "nat_num": 0}, "a rate of 0 is none"
    await Vm.filter(id=vm.id).update(limits=limits)  # as it was kept once
    return await Vm.get(id=vm.id)


def held(browser: Browser, name: str) -> str:
    """What the field holds."""
    (tag,) = re.findall(rf'<input [^>]*name="{name}"[^>]*>', browser.html)
    found = re.search(r' value="([^"]*)"', tag)
    return found[1] if found else ""


def shown(browser: Browser) -> list[str]:
    return [held(browser, name) for name in FIELDS]


async def test_shown_changed_and_taken_away(browser: Browser, vm: Vm, services: Services) -> None:
    await browser.get(TAB)
    assert shown(browser) == ["50", "", "", "0", ""], "0 is no limit of a rate, and no forward at all"
    await browser.post(PATH, speed_u="", speed_d="30", flu_num="0", nat_num="", web_num="2")
    assert "Changing Web." in browser.text
    assert shown(browser) == ["", "30", "", "", "2"]
    await vm.refresh_from_db()
    assert vm.limits == {"speed_d": 30, "web_num": 2}
    _machine, gateway = services.gateways.of(await services.hosts.get("alpha"))
    assert isinstance(gateway, MemoryGateway)
    assert set(gateway.limits.values()) == {(0, 30)}
    await browser.post(PATH, speed_u="", speed_d="30", flu_num="", nat_num="", web_num="2")
    assert "Nothing was changed." in browser.text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("speed_u", "fast", "whole number"),
        ("nat_num", "-1", "whole number"),
        ("flu_num", "99999999999", "Traffic a month must be between 0 and 2147483647."),
    ],
)
async def test_what_is_wrong_stands_beside_its_field(
    browser: Browser, vm: Vm, field: str, value: str, words: str
) -> None:
    await browser.get(TAB)
    await browser.post(PATH, **(dict.fromkeys(FIELDS, "7") | {field: value}))
    assert browser.status == 400
    assert words in browser.text
    assert f'id="{field}-error"' in browser.html
    assert held(browser, field) == value
    assert (await Vm.get(id=vm.id)).limits == {"speed_u": 50, "nat_num": 0, "flu_num": 0}


async def test_rates_are_not_offered_where_nothing_sees_them(
    browser: Browser, vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GatewayService, "limits", lambda _self, _host: False)
    await browser.get(TAB)
    assert 'name="nat_num"' in browser.html
    assert 'name="speed_u"' not in browser.html
    await browser.post(PATH, nat_num="3", web_num="")
    await vm.refresh_from_db()
    assert vm.limits == {"speed_u": 50, "flu_num": 0, "nat_num": 3}, "what is not shown is left alone"
