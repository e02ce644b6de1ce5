"""The command palette: what is found for a text, in a bounded answer and a fixed number of queries."""

from __future__ import annotations

import json
import re
import time
from html import unescape

import pytest

from panel.engines.fake.world import FakeWorld
from panel.engines.types import EngineKind, PowerState
from panel.models import Host, Vm
from panel.pages.palette import HOSTS_SHOWN, VMS_SHOWN
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named

HTMX = {"HX-Request": "true"}
OPTION = re.compile(r'<(a|button|div) class="menu-item"[^>]*role="option".*?</\1>', re.S)


async def found(browser: Browser, text: str) -> list[tuple[str, list[str]]]:
    """The groups and the labels of their options."""
    response = await browser.client.get("/palette", query_string={"q": text}, headers=browser.headers | HTMX)
    assert response.status_code == 200
    browser.html = (await response.get_data()).decode()
    told = json.loads(response.headers["HX-Trigger-After-Settle"])["palette"]
    groups = []
    for part in browser.html.split('<div role="group"')[1:]:
        title = re.search(r'role="presentation">(.*?)<', part)
        assert title
        labels = re.findall(r'<span class="palette-label">(.*?)</span>', part)
        assert len(labels) == len(OPTION.findall(part)), "each line is an option"
        groups.append((unescape(title[1]), [unescape(label) for label in labels]))
    count = sum(len(labels) for _title, labels in groups)
    assert told["q"] == " ".join(text.split())
    assert re.search(r"\d+", told["said"])[0] == str(count)  # type: ignore[index]
    return groups


def one(browser: Browser, label: str) -> str:
    """The markup of an option, with its form."""
    parts = re.findall(r"<form.*?</form>|<a class=.*?</a>|<div class=\"menu-item\".*?</div>", browser.html, re.S)
    return str(next(part for part in parts if f">{label}<" in part))


async def test_nothing_is_typed_yet(browser: Browser, alpha: FakeWorld) -> None:
    """What there is always: actions without a VM, and pages."""
    (_actions, actions), (pages_title, pages) = await found(browser, "")
    assert actions == ["Create VM", "Add host", "Light theme", "Dark theme", "Language: 中文"]
    assert pages_title == "Pages"
    assert pages[:3] == ["Dashboard", "Virtual machines", "Hosts"]
    for link in re.findall(r'tabindex="-1" href="([^"]+)"', browser.html):
        await browser.get(unescape(link))
        assert browser.status == 200, link


async def test_a_vm_and_what_can_be_done_with_it(browser: Browser, alpha: FakeWorld) -> None:
    """The closest first; of it, the actions that are possible now."""
    await Vm.filter(name="vm-0004").update(title="shop")
    await Vm.filter(name="vm-0009").update(title="A shop and more")
    groups = dict(await found(browser, "shop"))
    assert groups["Virtual machines"] == ["shop", "A shop and more"]
    assert groups["Actions"] == ["Open console of shop", "Start shop"]
    assert 'href="/hosts/alpha/vms/vm-0004"' in browser.html
    assert 'href="/console/alpha/vm-0004"' in one(browser, "Open console of shop")
    both = dict(await found(browser, "SHOP alpha more"))
    assert both["Virtual machines"] == ["A shop and more"]
    assert await found(browser, "no such thing") == []
    assert "Nothing matches" in browser.html


@pytest.mark.parametrize("text", ["start vm-0004", "Start  vm-0004", "vm-0004 start", "启动vm-0004"])
async def test_an_action_by_its_name(browser: Browser, alpha: FakeWorld, text: str) -> None:
    """Before or after the VM's name, in the reader's language or in English."""
    if "启" in text:
        browser.headers["Accept-Language"] = "zh"
    title, labels = (await found(browser, text))[0]
    assert title in {"Actions", "操作"}
    assert labels[0] in {"Start Machine vm-0004", "启动 Machine vm-0004"}
    form = one(browser, labels[0])
    assert 'action="/hosts/alpha/vms/vm-0004/power" hx-post="/hosts/alpha/vms/vm-0004/power"' in form
    assert '<input type="hidden" name="action" value="start">' in form
    token = re.search(r'name="csrf_token" value="([^"]+)"', form)
    assert token
    answer = await browser.client.post(
        "/hosts/alpha/vms/vm-0004/power", form={"action": "start", "csrf_token": token[1]}, headers=HTMX
    )
    assert answer.status_code == 204
    assert "toast" in answer.headers["HX-Trigger"]


async def test_what_is_not_possible_says_why_and_what_is_grave_asks(browser: Browser, alpha: FakeWorld) -> None:
    await found(browser, "start vm-0001")
    option = one(browser, "Start Machine vm-0001")
    assert 'aria-disabled="true"' in option
    assert "VM vm-0001 is running: start is not possible." in option
    await found(browser, "force off vm-0001")
    option = one(browser, "Force off Machine vm-0001")
    assert "data-confirm=" in option
    assert "pulling the plug" in option


async def test_an_action_without_a_name(browser: Browser, alpha: FakeWorld) -> None:
    """Some VMs for which it makes sense; the beginning of its word is enough when it is of no other."""
    for text in ("start", "sta"):
        title, labels = (await found(browser, text))[0]
        assert title == "Actions"
        assert 1 <= len(labels) <= 5
        assert all(label.startswith("Start Machine") for label in labels)
    for label in labels:
        vm = await vm_named(label.rpartition(" ")[2])
        assert vm.state is PowerState.STOPPED


async def test_hosts_and_places(browser: Browser, alpha: FakeWorld) -> None:
    groups = dict(await found(browser, "alpha"))
    assert groups["Hosts"] == ["alpha", "Create VM on alpha"]
    assert len(groups["Virtual machines"]) == VMS_SHOWN
    assert dict(await found(browser, "theme"))["Actions"] == ["Light theme", "Dark theme", "System theme"][:2]
    browser.headers["Accept-Language"] = "zh"
    assert len(dict(await found(browser, "logs"))) == 1, "English words find pages in Chinese too"


async def test_theme_comes_back_to_where_it_was_asked(browser: Browser, alpha: FakeWorld) -> None:
    browser.headers["Referer"] = "http://localhost/hosts?size=50"
    await found(browser, "dark theme")
    assert '<input type="hidden" name="next" value="/hosts?size=50">' in browser.html


async def test_for_whom(browser: Browser, stranger: Browser, alpha: FakeWorld) -> None:
    """Without htmx it is the search of the list; nobody sees it who is not logged in."""
    answer = await browser.client.get("/palette?q=vm-0001")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/vms?q=vm-0001")
    await browser.post("/logout")
    assert (await stranger.client.get("/palette?q=vm", headers=HTMX)).status_code == 401


async def test_wild_texts(browser: Browser, alpha: FakeWorld) -> None:
    """Nothing of a text is a pattern or markup, and it has an end."""
    for text in ("%", "_", "\\", "<b>", "'\"", "x " * 300, "%s %(num)s {name}"):
        response = await browser.client.get("/palette", query_string={"q": text}, headers=HTMX)
        assert response.status_code == 200, text
        assert "<b>" not in (await response.get_data()).decode()


@pytest.mark.slow
async def test_ten_thousand_vms(browser: Browser, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded answer, as many queries as with few, and soon enough for each letter that is typed."""
    from tortoise.backends.sqlite.client import SqliteClient

    counted: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            counted.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)

    hosts = [
        await Host.create(name=f"h{number}", engine=EngineKind.FAKE, address="x", enabled=False) for number in range(10)
    ]

    async def fill(first: int, last: int) -> None:
        await Vm.bulk_create(
            Vm(host=hosts[n % 10], name=f"vm-{n}", ref=str(n), cpu_count=1, memory_mib=1, state=PowerState.STOPPED)
            for n in range(first, last)
        )

    async def costs(text: str) -> tuple[int, float]:
        queries, times = [], []
        for _again in range(3):
            counted.clear()
            began = time.monotonic()
            groups = dict(await found(browser, text))
            times.append(time.monotonic() - began)
            queries.append(len(counted))
        assert len(groups["Virtual machines"]) <= VMS_SHOWN
        assert len(groups.get("Hosts", [])) <= 2 * HOSTS_SHOWN
        return min(queries), min(times)

    await fill(0, 20)
    few = {text: (await costs(text))[0] for text in ("vm-1", "start vm-1", "h1 vm")}
    await fill(20, 10_000)
    for text, before in few.items():
        queries, seconds = await costs(text)
        assert queries <= before <= 8, counted
        assert seconds < 0.6, (text, seconds)
    assert (await found(browser, "vm-77"))[0][1][0] == "vm-77"
