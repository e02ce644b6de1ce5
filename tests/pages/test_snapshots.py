"""The snapshots of a VM's page: taken, shown, rolled back to, removed; what cannot be is told."""

from __future__ import annotations

import re

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.models import Task, TaskStatus
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named

OFF = "/hosts/alpha/vms/vm-0004"
TAB = f"{OFF}?tab=snapshots"


async def ended(services: Services) -> TaskStatus:
    """How the latest task about a snapshot ended."""
    task = await Task.filter(kind="vm.snapshot").order_by("-created_at").first()
    assert task is not None
    return (await services.tasks.wait(task.id, 10)).status


async def test_they_are_taken_rolled_back_to_and_removed(
    browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    await browser.get(TAB)
    assert "No snapshots seen." in browser.text
    for name in ("before", "after"):
        await browser.post(f"{OFF}/snapshot", action="take", snapshot=name)
        assert await ended(services) is TaskStatus.SUCCEEDED
    await browser.get(TAB)
    names = re.findall(r'class="row-name mono">([^<]+)<', browser.html)
    assert names == ["after", "before"], "the newest first"
    assert "after before" in browser.text
    assert browser.text.count("the VM is on this one") == 1
    ref = (await vm_named("vm-0004")).ref
    alpha.vms[ref].memory_mib += 512
    await browser.post(f"{OFF}/snapshot", action="rollback", snapshot="before")
    assert await ended(services) is TaskStatus.SUCCEEDED
    vm = await vm_named("vm-0004")
    assert vm.memory_mib == alpha.vms[ref].memory_mib
    assert [one["name"] for one in (vm.hardware or {})["snapshots"] if one["current"]] == ["before"]
    for name in ("before", "after"):
        await browser.post(f"{OFF}/snapshot", action="remove", snapshot=name)
        assert await ended(services) is TaskStatus.SUCCEEDED
    assert (await vm_named("vm-0004")).hardware["snapshots"] == []  # type: ignore[index]


async def test_what_cannot_be_is_told(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    await browser.get(TAB)
    for name in ("", "a", "current", "<script>alert(1)</script>"):
        await browser.post(f"{OFF}/snapshot", action="take", snapshot=name)
        assert browser.status == 400
        assert 'id="snapshot-error"' in browser.html
        assert "<script>alert" not in browser.html
    assert not await Task.exists(kind="vm.snapshot")
    await browser.post(f"{OFF}/snapshot", action="rollback", snapshot="absent")
    assert await ended(services) is TaskStatus.FAILED
    before = await Task.filter(kind="vm.snapshot").count()
    await browser.post(f"{OFF}/snapshot", action="explode", snapshot="before")
    assert await Task.filter(kind="vm.snapshot").count() == before


async def test_a_hypervisor_that_lies_is_found_out(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    alpha.behaviour = Behaviour(Manner.LYING, lies=frozenset({"snapshot"}))
    await browser.get(TAB)
    await browser.post(f"{OFF}/snapshot", action="take", snapshot="before")
    assert await ended(services) is TaskStatus.FAILED
