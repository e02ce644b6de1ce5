"""The VM list, a VM's page, and the form that makes one, without JavaScript."""

from __future__ import annotations

import json
import re

import pytest

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerState
from panel.models import Task, TaskStatus, Vm
from panel.models.host import HostHealth
from panel.security import PANEL
from panel.services.container import Services
from tests.pages.conftest import Browser, until, vm_named

ROW = re.compile(r'<tr id="vm-(\d+)"')
HOSTILE = "<img src=x onerror=alert(1)>\"'}}{{7*7}}"


async def test_list_filters_and_sorts(browser: Browser, alpha: FakeWorld) -> None:
    """Search, host, state, sort: by the server, in the address."""
    await browser.get("/vms")
    assert len(ROW.findall(browser.html)) == 25
    assert "30 entries" in browser.text
    await browser.get("/vms?q=VM-001")
    assert len(ROW.findall(browser.html)) == 10
    await browser.get("/vms?q=52:54:01:00:00:07")
    assert "vm-0007" in browser.text
    assert len(ROW.findall(browser.html)) == 1
    await browser.get("/vms?state=stopped&size=100")
    assert len(ROW.findall(browser.html)) == 7
    await browser.get("/vms?host=nope")
    assert "Nothing matches" in browser.text
    await browser.get("/vms?sort=name&dir=desc&size=50")
    ids = [int(found) for found in ROW.findall(browser.html)]
    assert len(ids) == 30
    names = [await Vm.get(id=one).values_list("name", flat=True) for one in ids]
    assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("query", "rows"),
    [("page=0", 25), ("page=-1", 25), ("page=9999", 5), ("page=99999999999999999999", 25), ("page=abc", 25), ("page=2", 5),
     ("page=%C2%B2", 25), ("size=10000", 25), ("size=50", 30), ("sort=host__secret", 25), ("sort=id;drop", 25),
     ("dir=sideways", 25), ("state=nonsense", 25), ("q=%25", 0), ("q=_", 0), ("q='", 0), ("q=" + "x" * 5000, 0),
     ("page=1&page=2", 25)],
)  # fmt: skip
async def test_list_bounds(browser: Browser, alpha: FakeWorld, query: str, rows: int) -> None:
    """What makes no sense in an address counts as not given."""
    await browser.get(f"/vms?{query}")
    assert browser.status == 200
    assert len(ROW.findall(browser.html)) == rows


async def test_query_count_does_not_grow(
    browser: Browser, alpha: FakeWorld, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    """25 rows cost as many queries as one."""
    from tortoise.backends.sqlite.client import SqliteClient

    await services.observer.stop()
    counted: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            counted.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)
    kinds = ("vm.update", "vm.delete", "vm.create")
    rows = [Task(id=f"{n:032x}", kind=kinds[n % 3], status=TaskStatus.FAILED, vm_id=n, host_id=1) for n in range(40)]
    await Task.bulk_create(rows)
    for one, many, most in (
        ("/vms?q=vm-0001", "/vms?q=vm-0", 14),
        (f"/tasks?find={rows[5].id}", "/tasks?status=failed", 10),
        ("/vms?page=2", "/vms?size=100", 14),
        ("/vms?page=2&columns=state", "/vms?size=100&columns=state", 13),  # the line of the last hour is not read
    ):
        counts = []
        for path in (one, many):
            least = 1000
            for _again in range(3):  # what the panel does in the background must not count
                counted.clear()
                await browser.get(path)
                least = min(least, len(counted))
            counts.append(least)
        assert counts[0] == counts[1] <= most, (one, counted)


async def test_pages_call_no_hypervisor(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A host that never answers costs pages nothing."""
    alpha.behaviour = Behaviour(manner=Manner.HUNG)
    for path in ("/", "/vms", "/hosts", "/hosts/alpha", "/hosts/alpha/vms/vm-0001", "/vms/new"):
        await browser.get(path)
        assert browser.status == 200


async def test_power_without_javascript(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The button on the page is a form; after it, the page says what was begun, and then what is so."""
    await browser.get("/hosts/alpha/vms/vm-0004")
    assert "Stopped" in browser.text
    await browser.post("/hosts/alpha/vms/vm-0004/power", action="start")
    assert browser.path == "/hosts/alpha/vms/vm-0004"
    assert "Starting Machine vm-0004." in browser.text

    async def running() -> bool:
        return (await vm_named("vm-0004")).state is PowerState.RUNNING

    await until(running)
    await browser.get("/hosts/alpha/vms/vm-0004")
    assert "Running" in browser.text
    assert "Starting Machine" not in browser.text, "a message is said once"


async def test_power_from_a_list_leads_back_to_it(browser: Browser, alpha: FakeWorld) -> None:
    """With its filters; not to another site."""
    await browser.get("/vms")
    form = {"action": "start", "csrf_token": browser.csrf}
    for name, referer, target in (
        ("vm-0004", "http://localhost/vms?state=stopped", "/vms?state=stopped"),
        ("vm-0008", "http://evil.example/vms", "/hosts/alpha/vms/vm-0008"),
        ("vm-0012", "http://[", "/hosts/alpha/vms/vm-0012"),
        ("vm-0001", "http://localhost/hosts/alpha", "/hosts/alpha"),
    ):
        response = await browser.client.post(f"/hosts/alpha/vms/{name}/power", form=form, headers={"Referer": referer})
        assert (response.status_code, response.headers["Location"]) == (303, target)


async def test_impossible_power_is_told(browser: Browser, alpha: FakeWorld) -> None:
    """As a message on the page, as a toast, as the envelope, by who asks."""
    await browser.get("/hosts/alpha/vms/vm-0004")
    token = browser.csrf
    await browser.post("/hosts/alpha/vms/vm-0004/power", action="stop")
    assert "VM vm-0004 is stopped: force off is not possible." in browser.text
    path, form = "/hosts/alpha/vms/vm-0004/power", {"action": "stop", "csrf_token": token}
    fragment = await browser.client.post(path, form=form, headers={"HX-Request": "true"})
    assert fragment.status_code == 409
    assert "data-error" in (body := (await fragment.get_data()).decode())
    assert "<html" not in body
    answer = await browser.client.post(path, form=form, headers={"Accept": "application/json"})
    assert answer.status_code == 409
    assert "vm-0004" in (await answer.get_json())["msg"]
    await browser.post("/hosts/alpha/vms/vm-0004/power", action="explode")
    assert "must be one of" in browser.text
    await browser.post("/hosts/alpha/vms/nope/power", action="start")
    assert browser.status == 404


async def test_power_by_program(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The console page's buttons: JSON in, envelope out; htmx: a toast."""
    await browser.get("/")
    headers = {"Accept": "application/json", "X-CSRF-Token": browser.csrf}
    response = await browser.client.post("/hosts/alpha/vms/vm-0008/power", json={"action": "start"}, headers=headers)
    answer = await response.get_json()
    assert (response.status_code, answer["code"]) == (200, 200)
    await services.tasks.wait(answer["data"]["task_id"], 10)
    headers = {"HX-Request": "true", "X-CSRF-Token": browser.csrf}
    response = await browser.client.post("/hosts/alpha/vms/vm-0008/power", form={"action": "suspend"}, headers=headers)
    assert response.status_code == 204
    toast = json.loads(response.headers["HX-Trigger"])["toast"]
    assert toast == {"level": "success", "text": "Suspending Machine vm-0008."}


async def test_disabled_buttons_say_why(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """By state, by host, by task."""
    await browser.get("/hosts/alpha/vms/vm-0004")
    assert re.search(
        r"<button[^>]* disabled[^>]*>(?:(?!</button>).)*Suspend(?:(?!</button>).)*is not possible", browser.html, re.S
    )
    await browser.get("/hosts/alpha/vms/vm-0004?tab=console")
    assert "The VM is not running. Start it first." in browser.text
    await services.hosts.set_enabled(PANEL, "alpha", False)
    await browser.get("/hosts/alpha/vms/vm-0001")
    assert "Host alpha is disabled. Enable it first." in browser.text
    assert "Last known: Running" in browser.text


async def test_unreachable_host_is_said(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Unknown, what it was, when that was seen, and why."""
    alpha.behaviour = Behaviour(manner=Manner.REFUSING)

    async def unreachable() -> bool:
        return (await services.hosts.get("alpha")).health is HostHealth.UNREACHABLE

    await until(unreachable)
    await browser.get("/hosts/alpha/vms/vm-0001")
    for words in ("Unknown", "Last known: Running", "Host alpha does not answer", "refuses connections"):
        assert words in browser.text
    assert "data-stale-after" in browser.html
    await browser.get("/")
    assert "Needs attention" in browser.text


async def test_hostile_names_are_only_text(browser: Browser, alpha: FakeWorld) -> None:
    """A title of somebody else's VM is shown as it is."""
    vm = next(iter(alpha.vms.values()))
    vm.title = HOSTILE
    alpha.changed(vm.ref, "title")

    async def known() -> bool:
        return (await vm_named("vm-0001")).title == HOSTILE

    await until(known)
    for path in (
        "/vms",
        "/hosts/alpha",
        "/hosts/alpha/vms/vm-0001",
        "/hosts/alpha/vms/vm-0001?tab=hardware",
        "/hosts/alpha/vms/vm-0001?tab=danger",
        "/hosts/alpha/vms/vm-0001?tab=console",
        "/vms?q=<b>\"'",
    ):
        await browser.get(path)
        assert browser.status == 200
        assert "<img src=x" not in browser.html
        assert "<b>\"'" not in browser.html
    await browser.get("/hosts/alpha/vms/vm-0001")
    assert "{{7*7}}" in browser.html.replace("&#39;", "'")


async def test_create_is_name_image_create(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The form's own values are enough besides the name; the VM's page shows it being made, then running."""
    await browser.get("/vms/new")
    fields = form_values(browser.html)
    assert fields["os_name"] == "Debian 12"
    assert fields["start"] == "1"
    await browser.post("/vms/new", **(fields | {"vm_uuid": "web-1"}))
    assert browser.path == "/hosts/alpha/vms/web-1"
    assert "Creating web-1." in browser.text
    task = await Task.get(kind="vm.create")
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.SUCCEEDED
    vm = await vm_named("web-1")
    assert (vm.state, vm.cpu_count, vm.memory_mib, vm.disk_gib, vm.title) == (PowerState.RUNNING, 2, 2048, 20, "web-1")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("vm_uuid", "", "This is needed."), ("vm_uuid", "a b", "Name must be 1 to 63"), ("vm_uuid", "vm-0001", "already"),
     ("cpu_num", "two", "whole number"), ("cpu_num", "0", "CPUs must be between"),
     ("ram_num", "1", "Memory must be between 16 and 16777216 MiB."),
     ("hdd_num", "1", "too small"), ("mac_addr", "zz", "unicast MAC"), ("os_name", "Plan 9", "No image Plan 9"),
     ("net_mode", "carrier-pigeon", "Choose one of the list"), ("host", "nope", "Choose one of the list"),
     ("vm_name", "x" * 201, "Title must be one line"), ("os_pass", "x" * 129, "Password must be"),
     ("mac_addr", "52:54:01:00:00:01", "belongs to VM vm-0001"), ("ram_num", "9" * 40, "whole number")],
)  # fmt: skip
async def test_create_form_keeps_what_was_typed(
    browser: Browser, alpha: FakeWorld, field: str, value: str, words: str
) -> None:
    """400, the message beside its field, everything else as it was."""
    await browser.get("/vms/new")
    typed = form_values(browser.html) | {
        "vm_uuid": "web-1",
        "vm_name": "My <web>",
        "cpu_num": "3",
        "hdd_num": "33",
        "os_pass": "p w",
    }
    typed |= {field: value}
    await browser.post("/vms/new", **typed)
    assert browser.status == 400
    assert f'id="{field}-error"' in browser.html, browser.text
    error = re.search(rf'id="{field}-error">(.*?)</div>', browser.html, re.S)
    assert error is not None
    assert words in error[1]
    kept = form_values(browser.html)
    assert kept["vm_name"] == typed["vm_name"].replace("<", "&lt;").replace(">", "&gt;")
    assert (kept["cpu_num"], kept["hdd_num"]) == (typed["cpu_num"], typed["hdd_num"])
    assert "p w" not in browser.html, "a password is never written back"
    assert not await Vm.exists(name="web-1")


async def test_settings_of_a_vm(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Change, refuse to shrink, set a password, delete with the name typed."""
    base = "/hosts/alpha/vms/vm-0004"
    await browser.get(f"{base}?tab=hardware")
    fields = {"vm_name": "Renamed", "cpu_num": "2", "ram_num": "3072", "hdd_num": "25"}
    await browser.post(f"{base}/update", **(fields | {"hdd_num": "5"}))
    assert browser.status == 400
    assert 'id="hdd_num-error"' in browser.html
    assert 'value="Renamed"' in browser.html
    await browser.post(f"{base}/update", **fields)
    assert browser.path == f"{base}?tab=hardware"
    await done(services, "vm.update")
    vm = await vm_named("vm-0004")
    assert (vm.title, vm.cpu_count, vm.memory_mib, vm.disk_gib) == ("Renamed", 2, 3072, 25)
    await browser.post(f"{base}/update", **fields)
    assert "Nothing was changed." in browser.text
    await browser.get("/hosts/alpha/vms/vm-0001?tab=console")
    await browser.post("/hosts/alpha/vms/vm-0001/password", user="root", password="")
    assert (browser.status, 'id="password-error"' in browser.html) == (400, True)
    await browser.post("/hosts/alpha/vms/vm-0001/password", user="root", password="n3w pass")
    await done(services, "vm.password")
    assert next(iter(alpha.vms.values())).passwords == {"root": "n3w pass"}
    await browser.get(f"{base}?tab=danger")
    await browser.post(f"{base}/delete", confirm="vm-0005")
    assert (browser.status, 'id="confirm-error"' in browser.html) == (400, True)
    await browser.post(f"{base}/delete", confirm="vm-0004")
    assert browser.path.startswith("/tasks/")
    await done(services, "vm.delete")
    assert not await Vm.exists(name="vm-0004")


async def done(services: Services, kind: str) -> None:
    """Wait for the latest task of a kind, which must succeed."""
    task = await Task.filter(kind=kind).order_by("-created_at").first()
    assert task is not None
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.SUCCEEDED


def form_values(html: str) -> dict[str, str]:
    """What a browser would send of the page's form."""
    values: dict[str, str] = {}
    html = html[html.index('action="/vms/new"') :]
    html = html[: html.index("</form>")]
    for tag in re.findall(r"<input[^>]*>", html):
        name = re.search(r'name="([^"]*)"', tag)
        value = re.search(r'value="([^"]*)"', tag)
        if name and (not re.search("checkbox|radio", tag) or " checked" in tag):
            values[name[1]] = value[1] if value else ""
    for name, options in re.findall(r'<select[^>]*name="([^"]*)".*?>(.*?)</select>', html, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        values[name] = chosen[1] if chosen else ""
    values.pop("csrf_token", None)
    return values
