"""One tag for several VMs, without JavaScript: select, name it, results."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from panel.engines.fake.world import FakeWorld
from panel.models import LogEntry, VmTag
from panel.security import PANEL
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named
from tests.pages.test_bulk import ids, rows

HIDDEN = re.compile(r'<input type="hidden" name="(way|vm|back)" value="([^"]*)">')


async def name_it(browser: Browser, tag: str) -> None:
    """Send the form of the page that asks, with this tag."""
    form: dict[str, list[str]] = {"csrf_token": [browser.csrf], "tag": [tag]}
    for name, value in HIDDEN.findall(browser.html):
        form.setdefault(name, []).append(value)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode(form, doseq=True)
    await browser.arrive("/vms/bulk/tags", await browser.client.post("/vms/bulk/tags", data=body, headers=headers))


def asked(way: str, *selected: int) -> str:
    return f"/vms/bulk/tags?way={way}" + "".join(f"&vm={one}" for one in selected) + "&back=/vms?q=vm"


async def tags(name: str) -> list[str]:
    vm = await vm_named(name)
    return [str(tag) for tag in await VmTag.filter(vm_id=vm.id).order_by("name").values_list("name", flat=True)]


async def test_the_list_offers_it(browser: Browser, alpha: FakeWorld) -> None:
    """In the same form as the power actions, to an address of its own."""
    await browser.get("/vms")
    form = browser.html[browser.html.index('id="bulk"') :]
    form = form[: form.index("</form>")]
    assert re.findall(r'formaction="/vms/bulk/tags" name="way" value="(\w+)"', form) == ["add", "remove"]


async def test_add_and_remove(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The page names the VMs; each result is told; other tags stay; the log says who did it."""
    one, two, gone = await ids("vm-0001", "vm-0002", "vm-0003")
    await services.labels.write(PANEL, await vm_named("vm-0002"), ["prod", "web"], "")
    await browser.get(asked("add", one, two, gone, one))
    assert browser.status == 200
    assert [row.split()[1] for row in rows(browser.html)[1:]] == ["vm-0001", "vm-0002", "vm-0003"]
    assert "Add to 3 VMs" in browser.text
    await services.tasks.wait((await services.vms.delete(PANEL, await vm_named("vm-0003"))).id, 10)
    await name_it(browser, "  Prod ")
    assert browser.status == 200
    assert "“prod”: changed on 1 of 3 VMs." in browser.text
    assert 'href="/vms?q=vm"' in browser.html
    first, _head, second, third = rows(browser.html)[1:]
    assert first.endswith("Added")
    assert second.endswith("It has this tag already.")
    assert third == "vm-0003 – – This VM is no longer there."
    assert (await tags("vm-0001"), await tags("vm-0002")) == (["prod"], ["prod", "web"])
    assert await LogEntry.filter(action="vm.labels", object_name="alpha/vm-0001", actor="admin").count() == 1
    await browser.get(asked("remove", one, two))
    assert re.findall(r'<option value="(\w+)"', browser.html[browser.html.index('name="tag"') :]) == ["prod", "web"]
    await name_it(browser, "web")
    assert "“web”: changed on 1 of 2 VMs." in browser.text
    assert "It does not have this tag." in browser.text
    assert (await tags("vm-0001"), await tags("vm-0002")) == (["prod"], ["prod"])


async def test_what_is_no_tag(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """The page comes back with the field, what was typed and the selection; nothing was written."""
    [one] = await ids("vm-0001")
    for wrong, said in (("", "This is needed."), ("no spaces please", "is not a tag"), ("-x", "is not a tag")):
        await browser.get(asked("add", one))
        await name_it(browser, wrong)
        assert browser.status == 400
        assert said in browser.text
        assert f'name="vm" value="{one}"' in browser.html
        assert f'value="{wrong}"' in browser.html
    assert await tags("vm-0001") == []
    await services.labels.write(PANEL, await vm_named("vm-0001"), [f"t{number}" for number in range(16)], "")
    await browser.get(asked("add", one))
    await name_it(browser, "more")
    assert "at most 16 tags on a VM" in browser.text
    assert len(await tags("vm-0001")) == 16


async def test_nothing_selected_or_nothing_to_remove(browser: Browser, alpha: FakeWorld) -> None:
    await browser.get(asked("add"))
    assert browser.path == "/vms?q=vm"
    assert "Select VMs in the list first." in browser.text
    [one] = await ids("vm-0001")
    await browser.get(asked("remove", one))
    assert "None of these VMs has a tag." in browser.text
    assert 'name="tag"' not in browser.html[browser.html.index("<main") :]
    await browser.get(asked("paint", one))
    assert browser.status == 400
