"""One action for several VMs, without JavaScript: select, look through, confirm, results."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerAction, PowerState
from panel.models import Task, Vm
from panel.models.host import HostHealth
from panel.security import PANEL
from panel.services.container import Services
from tests.pages.conftest import Browser, until, vm_named

HIDDEN = re.compile(r'<input type="hidden" name="(vm|left|action|back)" value="([^"]*)">')
ROW = re.compile(r"<tr[^>]*>(.*?)</tr>", re.S)


async def ids(*names: str) -> list[int]:
    """The ids of VMs of ``alpha``."""
    return [(await vm_named(name)).id for name in names]


def asked(action: str, *selected: int) -> str:
    """The address that the form of the list leads to."""
    return f"/vms/bulk?action={action}" + "".join(f"&vm={one}" for one in selected)


def rows(html: str) -> list[str]:
    """The rows of all tables, without tags."""
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in ROW.findall(html)]


async def confirm(browser: Browser, **changes: list[str]) -> None:
    """Send the form of the page that asks."""
    form: dict[str, list[str]] = {"csrf_token": [browser.csrf]}
    for name, value in HIDDEN.findall(browser.html):
        form.setdefault(name, []).append(value)
    body = urlencode(form | changes, doseq=True)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    await browser.arrive("/vms/bulk", await browser.client.post("/vms/bulk", data=body, headers=headers))


async def test_the_list_is_a_form(browser: Browser, alpha: FakeWorld) -> None:
    """A labelled box per row and a button per action, all of one form; the host's page, which has no form, has no box."""
    await browser.get("/vms?state=stopped")
    boxes = re.findall(
        r'<input[^>]*type="checkbox" name="vm" value="(\d+)" form="bulk"[^>]*aria-label="([^"]*)"', browser.html
    )
    assert len(boxes) == 7
    assert "Select Machine vm-0004" in {label for _value, label in boxes}
    form = browser.html[browser.html.index('id="bulk"') :]
    form = form[: form.index("</form>")]
    assert set(re.findall(r'name="action" value="(\w+)"', form)) == set(PowerAction)
    assert 'name="back" value="/vms?state=stopped"' in form
    await browser.get("/hosts/alpha")
    assert 'name="vm"' not in browser.html


async def test_mixed(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """What is possible is begun, each VM as a task; what is not, says why, before and after."""
    selected = await ids("vm-0001", "vm-0002", "vm-0004")
    await browser.get(asked("stop", *selected, selected[0]) + "&back=/vms?q=vm")
    assert browser.status == 200
    assert "Possible for 2 of 3 selected VMs." in browser.text
    assert "like pulling the plug" in browser.text
    assert "Force off 2 VMs" in browser.text
    first, _second, third = rows(browser.html)[1:]
    assert first == "Machine vm-0001 vm-0001 alpha Running Possible"
    assert third.startswith("Machine vm-0004 vm-0004 alpha Stopped VM vm-0004 is stopped: force off is not possible.")
    assert not await Task.exists(kind="vm.power"), "nothing is done before it is confirmed"
    await confirm(browser)
    assert browser.status == 200
    assert "Begun for 2 of 3 VMs." in browser.text
    assert "VM vm-0004 is stopped: force off is not possible." in browser.text
    assert 'href="/vms?q=vm"' in browser.html
    tasks = await Task.filter(kind="vm.power")
    assert {task.vm_name for task in tasks} == {"vm-0001", "vm-0002"}
    for task in tasks:
        assert f'href="/tasks/{task.id}"' in browser.html
        assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
    assert (await vm_named("vm-0002")).state is PowerState.STOPPED


async def test_what_changed_meanwhile(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A VM that vanished and one that changed are results; one that was shown as impossible is left alone."""
    gone, changed, woken, fine = await ids("vm-0001", "vm-0002", "vm-0004", "vm-0005")
    await browser.get(asked("shutdown", gone, changed, woken, fine))
    assert "Possible for 3 of 4 selected VMs." in browser.text
    vm = await vm_named("vm-0001")
    await services.tasks.wait((await services.vms.delete(PANEL, vm)).id, 10)
    for name, action in (("vm-0002", PowerAction.SUSPEND), ("vm-0004", PowerAction.START)):
        task = await services.power.act(PANEL, await vm_named(name), action)
        assert (await services.tasks.wait(task.id, 10)).status == "succeeded"
    await confirm(browser)
    assert browser.status == 200
    assert "Begun for 1 of 4 VMs." in browser.text
    refused = rows(browser.html)[-3:]
    assert refused[0] == "vm-0001 – – This VM is no longer there."
    assert "VM vm-0002 is suspended: shut down is not possible." in refused[1]
    assert "It was not possible when you were asked, so it was left alone." in refused[2]
    assert (await vm_named("vm-0004")).state is PowerState.RUNNING
    await browser.get(asked("start", gone, 2_000_000_000))
    assert browser.status == 200
    assert "VM number 2000000000" in browser.text
    assert "This is not possible for any of the selected VMs now." in browser.text
    assert 'class="btn btn-primary"' not in browser.html[browser.html.index("<main") :]


async def test_hypervisor_that_refuses_is_a_result(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """What only the act itself finds out, and a VM that is busy; the page that asks reads the database only."""
    await services.observer.stop()
    selected = await ids("vm-0001", "vm-0002")
    alpha.behaviour = Behaviour(manner=Manner.REFUSING)
    await browser.get(asked("stop", *selected))
    assert "Possible for 2 of 2 selected VMs." in browser.text
    await Task.create(id="f" * 32, kind="vm.update", status="running", lock=f"vm:{selected[1]}", vm_id=selected[1])
    await confirm(browser)
    assert browser.status == 200
    assert "Begun for 0 of 2 VMs." in browser.text
    assert "refuses connections" in rows(browser.html)[1]
    assert "Busy: Change a VM" in rows(browser.html)[2]
    await Task.filter(id="f" * 32).delete()
    host = await services.hosts.get("alpha")
    host.health = HostHealth.UNREACHABLE
    await host.save(update_fields=["health"])
    await services.hosts.set_enabled(PANEL, "alpha", False)
    await browser.get(asked("stop", *selected))
    assert browser.text.count("Host alpha is disabled. Enable it first.") == 2


async def test_csrf(browser: Browser, alpha: FakeWorld) -> None:
    """Without the token nothing happens."""
    await browser.get(asked("stop", *(await ids("vm-0001"))))
    token = browser.csrf
    for wrong in ([], ["x" * len(token)]):
        await confirm(browser, csrf_token=wrong)
        assert browser.status == 403
        assert "This form is out of date." in browser.text
        await browser.get(asked("stop", *(await ids("vm-0001"))))
    assert not await Task.exists(kind="vm.power")


async def test_strangers(stranger: Browser, alpha: FakeWorld) -> None:
    """They log in first."""
    for response in (await stranger.client.get("/vms/bulk?action=stop&vm=1"), await stranger.client.post("/vms/bulk")):
        assert response.status_code in {302, 303}
        assert response.headers["Location"].startswith("/login?next=")


async def test_too_many_none_and_nonsense(browser: Browser, alpha: FakeWorld) -> None:
    """Told, and nothing done."""
    await browser.get(asked("stop", *range(1, 202)))
    assert (browser.status, "At most 200 VMs at once; 201 are selected." in browser.text) == (400, True)
    await browser.get(asked("stop", *range(1, 201)))
    assert browser.status == 200
    await confirm(browser, vm=[str(one) for one in range(1, 150)], left=[str(one) for one in range(150, 300)])
    assert "At most 200 VMs at once; 299 are selected." in browser.text
    await browser.get("/vms/bulk?action=stop&back=/vms?q=vm")
    assert browser.path == "/vms?q=vm"
    assert "Select VMs in the list first." in browser.text
    await browser.get(asked("explode", 1))
    assert (browser.status, "must be one of" in browser.text) == (400, True)
    await browser.get(
        "/vms/bulk?action=stop&vm=%C2%B2&vm=-1&vm=0&vm=99999999999&vm=9999999999&vm=')&back=//evil.example"
    )
    assert browser.path == "/vms"
    await confirm(browser, vm=["abc"], action=["stop"])
    assert "Select VMs in the list first." in browser.text
    assert not await Task.exists(kind="vm.power")


async def test_hostile_title(browser: Browser, alpha: FakeWorld) -> None:
    """Somebody else's title is text on both pages."""
    await until(lambda: Vm.exists(name="vm-0004"))
    await Vm.filter(name="vm-0004").update(title="<b>\"'{{7*7}}")
    await browser.get(asked("start", *(await ids("vm-0004"))))
    assert "<b>\"'" not in browser.html
    await browser.get("/vms?q=vm-0004")
    assert "<b>\"'" not in browser.html
