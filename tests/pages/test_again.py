"""Trying a task again: only where it is safe to repeat and all that it needs was kept."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerAction, VmChange
from panel.errors import Conflict
from panel.models import Host, Task, TaskLine, TaskStatus, Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser, vm_named


async def failed(services: Services, alpha: FakeWorld, begin: Any, what: str, step: int = 1) -> Task:
    """A task that the host let fail."""
    alpha.behaviour = Behaviour(manner=Manner.FAILING, fail_at={what: step})
    task = await services.tasks.wait((await begin).id, 10)
    alpha.behaviour = None
    assert task.status is TaskStatus.FAILED
    return task


async def press(browser: Browser, services: Services, task: Task) -> Task:
    """Press the button on the task's page, as a browser without JavaScript; the new task when it has ended."""
    await browser.get(f"/tasks/{task.id}")
    assert f'action="/tasks/{task.id}/again"' in browser.html
    await browser.post(f"/tasks/{task.id}/again")
    assert "Trying again, as a new task." in browser.text
    new = browser.path.rpartition("/")[2]
    assert new != task.id
    ended = await services.tasks.wait(new, 10)
    assert (ended.kind, ended.vm_id, ended.host_id) == (task.kind, task.vm_id, task.host_id)
    assert (ended.actor, ended.source) == ("admin", "page"), "of whoever pressed"
    first = await TaskLine.filter(task_id=new).first()
    assert first is not None
    assert first.message["params"] == {"task": task.id}
    return ended


async def test_power_change_and_delete(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """With what was asked for the first time; what succeeded or is gone has no button."""
    vm = await vm_named("vm-0004")
    power = await failed(services, alpha, services.power.act(PANEL, vm, PowerAction.START), "power")
    assert (await press(browser, services, power)).result == {"action": "start", "state": "running"}
    await browser.post(f"/tasks/{power.id}/again")
    instead = "start is not possible. Possible now: Force off, Shut down, Suspend, Reset."
    assert instead in browser.text, "all checks are made again, and told in the words of the buttons"

    change = services.vms.update(PANEL, vm, VmChange(memory_mib=3072), limits={})
    update = await failed(services, alpha, change, "update")
    assert (await press(browser, services, update)).status is TaskStatus.SUCCEEDED
    assert "3072" in services.box.unseal((await Task.get(id=update.id)).params)

    delete = await failed(services, alpha, services.vms.delete(PANEL, await vm_named("vm-0004")), "delete")
    await browser.get("/tasks")
    assert f'action="/tasks/{delete.id}/again"' in browser.html, "in the list too"
    again = await press(browser, services, delete)
    assert again.params == ""
    assert not await Vm.exists(id=vm.id)
    for task in (delete, power, again):
        await browser.get(f"/tasks/{task.id}")
        assert "/again" not in browser.html
    await browser.post(f"/tasks/{delete.id}/again")
    assert "There is no VM vm-0004 on host alpha." in browser.text


async def test_cancelled_scan(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A scan has no parameters at all."""
    alpha.behaviour = Behaviour(manner=Manner.SLOW, delay=30, only=frozenset({"observe"}))
    scan = await services.vms.scan(PANEL, await Host.get(name="alpha"))
    await services.tasks.cancel(PANEL, scan.id)
    scan = await services.tasks.wait(scan.id, 10)
    alpha.behaviour = None
    assert scan.status is TaskStatus.CANCELLED
    assert (await press(browser, services, scan)).status is TaskStatus.SUCCEEDED


async def test_secrets_do_not_outlive_their_task(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """So a creation and a password have no button, nor a task whose parameters were not kept."""
    alpha.behaviour = Behaviour(manner=Manner.FAILING, fail_at={"create": 2})
    request = VmRequest("new-1", "", "Debian 12", 1, 512, 10)
    _vm, task = await services.vms.create(PANEL, await services.hosts.get("alpha"), request)
    ended = await services.tasks.wait(task.id, 10)
    password = services.power.set_password(PANEL, await vm_named("vm-0001"), "correct-horse-9")
    secret = await failed(services, alpha, password, "password")
    older = await failed(
        services, alpha, services.power.act(PANEL, await vm_named("vm-0004"), PowerAction.START), "power"
    )
    await Task.filter(id=older.id).update(params="")
    for each in (ended, secret, older):
        assert (await Task.get(id=each.id)).params == ""
        await browser.get(f"/tasks/{each.id}")
        assert "/again" not in browser.html
        with pytest.raises(Conflict, match="cannot be tried again"):
            await services.tasks.again(PANEL, each.id)


async def test_what_is_asked_for_is_said_while_it_is_at_work(
    browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """And when it failed or was cancelled. The VM's first button stays what it was, pressed and resting."""
    vm = await vm_named("vm-0001")
    alpha.behaviour = Behaviour(manner=Manner.SLOW, delay=30, only=frozenset({"power"}))
    task = await services.power.act(PANEL, vm, PowerAction.SHUTDOWN)
    for path in ("/hosts/alpha/vms/vm-0001", "/tasks", f"/tasks/{task.id}", "/logs"):
        await browser.get(path)
        assert "Change a VM's power: shut down" in html.unescape(browser.text), path
    await browser.get("/hosts/alpha/vms/vm-0001")
    first = re.search(r'name="action" value="(\w+)"', browser.html)
    assert first is not None
    assert first[1] == "shutdown"
    await services.tasks.cancel(PANEL, task.id)
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.CANCELLED
    await browser.get(f"/tasks/{task.id}")
    assert "Change a VM's power: shut down" in html.unescape(browser.text)
    alpha.behaviour = None
    await Task.filter(id=task.id).update(params="", kind="of.before")
    await browser.get("/tasks")
    assert "of.before" in browser.text, "what nobody knows any more has its name"
