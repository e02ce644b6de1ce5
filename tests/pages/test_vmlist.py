"""The VM list as an operator keeps it: columns, saved filters, tags, the last hour, creations, and why it is empty."""

from __future__ import annotations

import gzip
import re
import time
from html import unescape
from urllib.parse import urlencode

import pytest
from quart import Quart

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import EngineKind
from panel.models import SavedFilter, Task, Vm, VmMetrics
from panel.pages.spark import spark_of
from panel.pages.topics import PLAIN, parse_topics
from panel.security import PANEL
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser, until, vm_named
from tests.pages.test_live import Events
from tests.services import history

ROW = re.compile(r'<tr id="vm-(\d+)"')
HOSTILE = "<img src=x onerror=alert(1)>\"'}}{{7*7}}"
NEXT_PAGE = 15 * 1024  # bytes of compressed HTML


def heads(html: str) -> list[str]:
    """What the columns are called."""
    table = html[html.index('<table class="table table-cards vm-table">') :]
    found = re.findall(r"<th [^>]*>(.*?)</th>", table[: table.index("</thead>")], re.DOTALL)
    return [word for cell in found if (word := re.sub(r"<[^>]*>", "", cell).strip()) and word != "Actions"]


USUAL = ["Name", "State", "Host", "Addresses", "CPU", "CPU, last hour", "Memory", "Tags"]


# -- columns ---------------------------------------------------------------------------------------------------


async def test_columns_and_size_are_remembered(browser: Browser, alpha: FakeWorld) -> None:
    """In the browser; the address wins, and what it says is not remembered."""
    await browser.get("/vms?q=vm")
    assert heads(browser.html) == USUAL
    chosen = [("column", key) for key in ("tags", "engine", "image", "nonsense")]
    form = urlencode([*chosen, ("columns", "1"), ("size", "50"), ("back", "/vms?q=vm"), ("csrf_token", browser.csrf)])
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await browser.client.post("/vms/look", data=form, headers=kind)
    assert (response.status_code, response.headers["Location"]) == (303, "/vms?q=vm")
    await browser.get("/vms?q=vm")
    assert heads(browser.html) == ["Name", "Engine", "Image", "Tags"]
    assert len(ROW.findall(browser.html)) == 30
    await browser.get("/vms?columns=disk.created&size=25&sort=disk")
    assert heads(browser.html) == ["Name", "Disk", "Known since"]
    assert len(ROW.findall(browser.html)) == 25
    assert "/vms?columns=disk.created&size=25&sort=disk&dir=asc&page=2" in unescape(browser.html).replace("%2C", ",")
    await browser.get("/vms?columns=none")
    assert heads(browser.html) == ["Name"]
    await browser.post("/vms/look", size="100", back="/vms")
    assert heads(browser.html) == ["Name", "Engine", "Image", "Tags"]
    assert re.search(r'value="100" aria-current="true"', browser.html)
    await browser.post("/vms/look", columns="1", usual="1", back="https://evil.example/")
    assert browser.path == "/vms"
    assert heads(browser.html) == USUAL
    assert len(ROW.findall(browser.html)) == 25


@pytest.mark.parametrize("cookie", ["", "~", "nonsense~7", "x" * 3000, "state~99999999999", "~50~50", "\x7f.."])
async def test_a_cookie_of_nonsense_is_none(browser: Browser, alpha: FakeWorld, cookie: str) -> None:
    browser.client.set_cookie("localhost", "openidcs_vm_list", cookie)
    await browser.get("/vms")
    assert browser.status == 200
    assert len(ROW.findall(browser.html)) == 25


async def test_rows_that_arrive_have_the_pages_columns(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """Those of the first load and those that are pushed are the same, in each way of looking."""
    await services.observer.stop()
    vm = await vm_named("vm-0004")
    for query in ("", "&columns=tags.engine", "&columns=none", "&columns=state.history"):
        await browser.get(f"/vms?q=vm-0004{query}")
        found = re.search(r'topics=([^"&]*)&', unescape(browser.html))
        assert found
        async with Events(app, browser, found[1].replace("%3A", ":").replace("%2C", ",")) as events:
            await services.labels.write(PANEL, vm, [f"t{len(query)}"], "")
            event = await events.until(f'<tr id="vm-{vm.id}"')
        pushed = re.findall(r'data-label="([^"]*)"', event)
        assert pushed == heads(browser.html)[1:]
    assert parse_topics("vms:1").columns == PLAIN
    assert parse_topics("vms:1,columns:state.bad").columns == ("state",)


# -- saved filters ---------------------------------------------------------------------------------------------


async def test_filters_are_saved_shown_and_deleted(browser: Browser, alpha: FakeWorld) -> None:
    await browser.get("/vms")
    assert "Save filter" not in browser.text, "there is nothing to save"
    await browser.get("/vms?state=stopped&sort=cpu&dir=desc&size=50")
    hidden = dict(re.findall(r'<input type="hidden" name="(state|sort|dir)" value="(\w+)">', browser.html))
    await browser.post("/vms/filters", name=" Off & " + HOSTILE[:20], **hidden, next="x")
    assert browser.path == "/vms?state=stopped&sort=cpu&dir=desc"
    assert "Saved the filter" in browser.text
    assert "<img src=x" not in browser.html
    assert "Save filter" not in browser.text, "it is saved already"
    assert len(ROW.findall(browser.html)) == 7
    row = await SavedFilter.get()
    assert row.query == {"state": "stopped", "sort": "cpu", "dir": "desc"}
    chip = r'<a href="/vms\?state=stopped&amp;sort=cpu&amp;dir=desc"( aria-current="true")?>'
    found = re.search(chip, browser.html)
    assert found
    assert found[1]
    await browser.get("/vms")
    found = re.search(chip, browser.html)
    assert found
    assert not found[1]
    browser.headers["Referer"] = "http://localhost/vms?q=vm-0001"
    await browser.post("/vms/filters", name="nothing")
    assert "Nothing is filtered or sorted." in browser.text
    await browser.post("/vms/filters", name="", q="x")
    assert "Name must be 1 to 40 characters." in browser.text
    await browser.post(f"/vms/filters/{row.id}/delete")
    assert browser.path == "/vms?q=vm-0001"
    assert not await SavedFilter.exists()
    await browser.post("/vms/filters/99999999999999999999/delete")
    assert browser.status == 404


# -- tags and notes --------------------------------------------------------------------------------------------


async def test_tags_and_notes_are_edited_and_filtered(browser: Browser, alpha: FakeWorld) -> None:
    path = "/hosts/alpha/vms/vm-0003"
    await browser.get(path)
    assert "Nothing is written about this VM yet." in browser.text
    await browser.post(f"{path}/labels", tags="Web， prod;web", notes=f"Ask Li.\n{HOSTILE}")
    assert browser.path == path
    assert "Saved the tags and notes of Machine vm-0003." in browser.text
    assert '<a class="tag" href="/vms?tag=prod">prod</a><a class="tag" href="/vms?tag=web">web</a>' in browser.html
    assert "<img src=x" not in browser.html
    assert "In use: prod, web" in browser.text
    await browser.get("/vms?tag=web")
    assert len(ROW.findall(browser.html)) == 1
    assert "<option selected>web</option>" in browser.html
    await browser.get("/vms?tag=nope&state=running")
    assert "Nothing matches" in browser.text
    await browser.post(f"{path}/labels", tags="web, -x", notes="new words")
    assert browser.status == 400
    assert "Tags: -x is not a tag." in browser.text
    assert "new words</textarea>" in browser.html
    assert '<details class="labels-edit" open>' in browser.html
    await browser.post(f"{path}/labels", tags="web", notes="x" * 2001)
    assert "Notes must be at most 2000 printable characters." in browser.text
    await browser.post(f"{path}/labels", tags="prod web", notes=f"Ask Li.\n{HOSTILE}")
    assert "Nothing was changed." in browser.text
    await browser.post(f"{path}/labels", tags="", notes="")
    assert "Nothing is written about this VM yet." in browser.text
    response = await browser.client.post(f"{path}/labels", form={"tags": "x"})
    assert response.status_code == 403


# -- the last hour ---------------------------------------------------------------------------------------------


def test_a_line_of_the_last_hour() -> None:
    assert spark_of([None] * 60) is None
    line = spark_of([0.0] * 30 + [None] * 9 + [100.0] * 3 + [None] * 3 + [50.0] * 15)
    assert line
    assert line.path == "M0 14h0" + "l3 0" * 9 + "M39 0h0" + "M45 7h0" + "l3 0" * 4
    assert line.label == "CPU in the last hour: 0% to 100%"


async def test_a_list_with_history_is_light(browser: Browser, services: Services) -> None:
    """Fifty rows with everything: tags, and an hour that was measured."""
    await services.hosts.create(PANEL, "many", HostRequest(EngineKind.FAKE, address="many", options={"vms": "60"}))
    task = await services.vms.scan(PANEL, await services.hosts.get("many"))
    assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
    await services.observer.stop()
    ids = await Vm.all().order_by("id").values_list("id", flat=True)
    for place, vm_id in enumerate(ids):
        await VmMetrics.bulk_create(
            VmMetrics(vm_id=vm_id, step_seconds=step, slot=slot, start=start, points=points)
            for step, slot, start, points in history.rows(int(time.time()), gap=range(60 * place, 70 * place))
            if step == 60
        )
    for vm in await Vm.all().prefetch_related("host").limit(30):
        await services.labels.write(PANEL, vm, ["prod", f"rack-{vm.id}"], "")
    response = await browser.client.get("/vms?size=50", headers={"Accept-Encoding": "gzip"})
    packed = await response.get_data(as_text=False)
    html = gzip.decompress(packed).decode()
    assert len(ROW.findall(html)) == 50
    assert html.count('<svg class="spark"') == 50
    assert "style=" not in html
    assert len(packed) <= NEXT_PAGE, f"{len(packed)} bytes"


# -- creations -------------------------------------------------------------------------------------------------


async def test_a_creation_is_a_row_and_arrives(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """With its task, once the list is made anew; the list that is open tells that there is one, also after a break."""
    alpha.behaviour = Behaviour(manner=Manner.SLOW, delay=0.6, only=frozenset({"create"}))
    await browser.get("/vms")
    found = re.search(r'topics=([^"&]*)&', unescape(browser.html))
    assert found
    topics = found[1].replace("%3A", ":").replace("%2C", ",")
    assert re.search(r"(^|,)new_vms:\d+(,|$)", topics)
    async with Events(app, browser, topics) as events:
        host = await services.hosts.get("alpha")
        vm, task = await services.vms.create(PANEL, host, VmRequest("new-1", "", "Debian 12", 1, 512, 10))
        event = await events.until('id="new-vms"', "1 new VM – show")
        assert 'href="/vms?sort=created&amp;dir=desc"' in event
        await browser.get("/vms?state=creating")
        assert ROW.findall(browser.html) == [str(vm.id)]
        assert f'class="row-task" href="/tasks/{task.id}"' in browser.html
        assert "<progress" in browser.html
        async with Events(app, browser, topics) as again:
            await again.until('id="new-vms"', "1 new VM – show")
        assert (await services.tasks.wait(task.id, 20)).status == "succeeded"
        async with Events(app, browser, f"vms:{vm.id}") as shown:
            await shown.until(f'<tr id="vm-{vm.id}" hx-swap-oob="morph">', "Stopped")
    assert not [event for event in events.seen if f'<tr id="vm-{vm.id}"' in event], "no row is put into it"
    await browser.get("/vms?sort=created&dir=desc")
    assert ROW.findall(browser.html)[0] == str(vm.id)
    await browser.get("/vms?q=vm-0001")
    assert 'id="new-vms"' not in browser.html, "a list that is filtered shows some only: a count would be wrong"


# -- nothing there ---------------------------------------------------------------------------------------------


async def test_no_host(browser: Browser) -> None:
    await browser.get("/vms")
    assert "No hosts yet" in browser.text
    assert '<a class="btn btn-primary" href="/hosts/new">' in browser.html
    assert "Nothing matches" not in browser.text
    assert 'class="filters"' not in browser.html


async def test_no_vm(browser: Browser, services: Services) -> None:
    """A host, but no VM: make one, or find those that are there."""
    request = HostRequest(EngineKind.FAKE, address="one", options={"vms": "3"})
    await services.hosts.create(PANEL, "one", request)
    await browser.get("/vms")
    assert "No virtual machines yet" in browser.text
    assert "No hosts yet" not in browser.text
    assert '<a class="btn btn-primary" href="/vms/new">' in browser.html
    assert 'class="filters"' not in browser.html
    await browser.post("/hosts/one/scan")
    assert browser.path.startswith("/tasks/")

    async def there() -> bool:
        return await Vm.all().count() == 3 and not await Task.filter(status="running").exists()

    await until(there)
    await browser.get("/vms")
    assert len(ROW.findall(browser.html)) == 3


async def test_no_match(browser: Browser, alpha: FakeWorld) -> None:
    """VMs, but none of these: the filters stay, and can be cleared; a filter can be saved before it finds anything."""
    await browser.get("/vms?q=nothing-like-it&state=running")
    assert "Nothing matches" in browser.text
    assert "No virtual machines yet" not in browser.text
    assert 'value="nothing-like-it"' in browser.html
    assert '<a class="btn" href="/vms">' in browser.html
    assert "Save filter" in browser.text
