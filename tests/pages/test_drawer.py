"""The drawer at the foot of every page: what is at work and what has ended, live, for few queries."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from quart import Quart
from tortoise.backends.sqlite.client import SqliteClient

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import PowerAction
from panel.models import Task, TaskStatus
from panel.pages.drawer import ENDED_SHOWN
from panel.security import PANEL
from panel.services.clock import now
from panel.services.container import Services
from tests.pages.conftest import Browser, vm_named
from tests.pages.test_live import Events

SLOW = Behaviour(manner=Manner.SLOW, delay=30, only=frozenset({"power"}))
ROW = re.compile(r'<li class="drawer-row" id="drawer-(\w+)">(.*?)</li>', re.S)


async def old(number: int, **columns: object) -> Task:
    """A task that ended ``number`` minutes ago."""
    at = now() - timedelta(minutes=number)
    return await Task.create(
        **{"id": f"{number:032x}", "kind": "host.scan", "status": TaskStatus.SUCCEEDED, "host_name": "alpha",
           "created_at": at, "ended_at": at} | columns
    )  # fmt: skip


def rows(browser: Browser) -> dict[str, str]:
    """The drawer's rows by task, as the page has them."""
    return dict(ROW.findall(browser.html))


async def test_every_page_has_it(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """What is at work first, with its progress, its VM and a way to stop it; then the last that ended."""
    alpha.behaviour = SLOW
    task = await services.power.act(PANEL, await vm_named("vm-0004"), PowerAction.START)
    for number in range(1, 9):
        await old(number)
    for path in ("/", "/vms", "/logs", "/hosts/new", "/settings", f"/tasks/{task.id}", "/nowhere"):
        await browser.get(path)
        shown = rows(browser)
        assert next(iter(shown)) == task.id, path
        assert len(shown) == 1 + ENDED_SHOWN
        assert '<details class="drawer" id="drawer">' in browser.html
        first = shown[task.id]
        for piece in ("<progress", f'href="/tasks/{task.id}"', 'href="/hosts/alpha/vms/vm-0004"',
                      f'action="/tasks/{task.id}/cancel"'):  # fmt: skip
            assert piece in first, piece
        if path != "/nowhere":
            assert 'sse-connect="/events?' in browser.html, path
    await browser.post(f"/tasks/{task.id}/cancel")
    assert (await services.tasks.wait(task.id, 10)).status is TaskStatus.CANCELLED
    await browser.get("/logs")
    assert "Cancelled" in rows(browser)[task.id]
    assert "<progress" not in rows(browser)[task.id]


async def test_in_the_order_of_their_ends(browser: Browser, alpha: FakeWorld) -> None:
    """One that began long ago and ended just now is the first; a VM that is gone has no link."""
    long = await old(50, ended_at=now(), vm_id=999_999, vm_name="gone", kind="vm.create")
    for number in range(1, 20):
        await old(number)
    await browser.get("/logs")
    shown = rows(browser)
    assert next(iter(shown)) == long.id
    assert "gone" in shown[long.id]
    assert "/vms/gone" not in shown[long.id]


async def test_strangers_have_none(stranger: Browser) -> None:
    await stranger.get("/login")
    assert 'id="drawer"' not in stranger.html
    assert "sse-connect" not in stranger.html


async def test_it_is_cheap(
    browser: Browser, alpha: FakeWorld, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tasks are at work: one query of tasks (the number on the top bar too), and one of their VMs."""
    await services.observer.stop()
    asked: list[str] = []
    for name in ("execute_query", "execute_query_dict"):
        original = getattr(SqliteClient, name)

        async def counting(self: SqliteClient, query: str, *args: object, _original: object = original) -> object:
            asked.append(query)
            return await _original(self, query, *args)  # type: ignore[operator]

        monkeypatch.setattr(SqliteClient, name, counting)
    alpha.behaviour = SLOW
    costs = []
    for names in (["vm-0004"], [], ["vm-0008", "vm-0012", "vm-0016"]):
        for name in names:
            await services.power.act(PANEL, await vm_named(name), PowerAction.START)
        asked.clear()
        await browser.get("/docs")
        costs.append([sum(f'FROM "{table}"' in query for query in asked) for table in ("task", "vm")])
    assert [tasks for tasks, _vms in costs] == [1, 1, 1], "on a page that asks for no tasks itself"
    assert {vms for _tasks, vms in costs} == {1}


async def test_it_is_live(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """On a page that wants nothing else."""
    alpha.behaviour = Behaviour(manner=Manner.SLOW, delay=0.5, only=frozenset({"power"}))
    async with Events(app, browser, "nothing") as events:
        task = await services.power.act(PANEL, await vm_named("vm-0004"), PowerAction.START)
        await events.until('id="drawer-body" hx-swap-oob="morph"', f'id="drawer-{task.id}"')
        await events.until('id="drawer-body"', f'id="drawer-{task.id}"', "Done")
        assert any('id="drawer-head" hx-swap-oob="morph"' in event for event in events.seen)
        assert not any("<details" in event for event in events.seen), "open or closed is the reader's"


async def test_closed_it_says_how_the_last_ended(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """And why it failed, live: whoever asked for it is still on the page where that was."""
    await Task.all().delete()
    await browser.get("/logs")
    assert "No running tasks" in browser.text
    alpha.behaviour = Behaviour(manner=Manner.FAILING, fail_at={"power": 1})
    async with Events(app, browser, "nothing") as events:
        await services.power.act(PANEL, await vm_named("vm-0004"), PowerAction.START)
        await events.until('id="drawer-head"', "Failed", "vm-0004", "The fake host failed at step 1")
    await browser.get("/logs")
    head = browser.html[browser.html.index('id="drawer-head"') : browser.html.index('id="drawer-body"')]
    for piece in ("Failed", "Change a VM", "vm-0004", "The fake host failed at step 1", "<time"):
        assert piece in head, piece
    alpha.behaviour = None
    done = await services.power.act(PANEL, await vm_named("vm-0004"), PowerAction.START)
    assert (await services.tasks.wait(done.id, 10)).status is TaskStatus.SUCCEEDED
    await browser.get("/logs")
    head = browser.html[browser.html.index('id="drawer-head"') : browser.html.index('id="drawer-body"')]
    assert ("Done" in head, "is Running" in head) == (True, False), "the page itself shows what was done"
