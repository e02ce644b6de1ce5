"""The event stream: changed fragments, in the reader's language, until the login ends."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial
from html import unescape
from typing import Any

import pytest
from quart import Quart

from panel.engines.fake.behaviour import Behaviour, Manner
from panel.engines.fake.world import FakeWorld
from panel.engines.types import EngineKind, PowerAction, PowerState
from panel.events import VmChanged
from panel.i18n import catalogue
from panel.models import Session, Vm
from panel.pages import live
from panel.pages.topics import parse_topics
from panel.security import PANEL
from panel.services.clock import now
from panel.services.container import Services
from panel.services.hosts import HostRequest
from panel.services.vms import VmRequest
from tests.pages.conftest import Browser, until, vm_named


class Events:
    """A browser's event stream."""

    def __init__(
        self, app: Quart, browser: Browser, topics: str, language: str = "en", since: int = 0, last: str = ""
    ) -> None:
        jar = {cookie.name: cookie.value for cookie in browser.client.cookie_jar}
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
        headers = {"Cookie": cookies, "Accept-Language": language} | ({"Last-Event-ID": last} if last else {})
        path, _question, query = f"/events?topics={topics}&since={since or int(time.time())}".partition("?")
        self._connection: Any = app.test_client().request(path, headers=headers, query_string=dict(
            part.split("=", 1) for part in query.split("&")))  # fmt: skip
        self._buffer = ""
        self.seen: list[str] = []

    async def __aenter__(self) -> Events:
        await self._connection.__aenter__()
        await self._connection.send_complete()
        assert (await self.next()).startswith("retry:")
        assert self._connection.status_code == 200
        assert self._connection.headers["Content-Type"].startswith("text/event-stream")
        assert self._connection.headers["Cache-Control"] == "no-store"
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self._connection.disconnect()
        with suppress(Exception):  # the disconnect itself
            await self._connection.__aexit__(*problem)

    async def next(self) -> str:
        """The next event."""
        async with asyncio.timeout(10):
            while "\n\n" not in self._buffer:
                piece = await self._connection.receive()
                if not piece:
                    raise EOFError
                self._buffer += piece.decode()
        event, _blank, self._buffer = self._buffer.partition("\n\n")
        self.seen.append(event)
        return event

    async def until(self, *words: str) -> str:
        """The first event with all these words."""
        while True:
            event = await self.next()
            if all(word in event for word in words):
                return event

    async def all_of(self, *words: str) -> None:
        """Wait until each of these words came, in any event and order."""
        wanted = set(words)
        while wanted:
            event = await self.next()
            wanted -= {word for word in wanted if word in event}


async def test_a_changed_row_arrives(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """As the row that the list shows, addressed by its id."""
    vm = await vm_named("vm-0004")
    async with Events(app, browser, f"vms:{vm.id}") as events:
        await services.power.act(PANEL, vm, PowerAction.START)
        event = await events.until(f'<tr id="vm-{vm.id}" hx-swap-oob="morph">', "Running")
        assert re.match(r"event: fragment\nid: \d+\ndata: ", event)
        assert all(line.startswith("data: ") for line in event.splitlines()[2:])
        session = await Session.first()
        assert session is not None
        assert session.csrf in event, "the forms of a row that was pushed work"
    others = [event for event in events.seen if "<tr" in event and f'id="vm-{vm.id}"' not in event]
    assert others == [], "only what the page shows"


async def test_in_the_readers_language(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A stream speaks what its page speaks."""
    vm = await vm_named("vm-0004")
    async with Events(app, browser, f"vm:{vm.id}", "zh") as events:
        event = await events.until(f'id="vm-{vm.id}-head" hx-swap-oob="morph"')
        assert catalogue("zh").get("Stopped", "Stopped") in event


async def test_at_most_one_update_per_second(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services
) -> None:
    """However often a VM changes."""
    vm = await vm_named("vm-0004")
    async with Events(app, browser, f"vms:{vm.id}") as events:
        began = time.monotonic()
        for _n in range(100):
            services.events.publish(VmChanged(vm.id, vm.host_id))
            await asyncio.sleep(0.012)
        await events.until(f'<tr id="vm-{vm.id}"')
        await events.until(f'<tr id="vm-{vm.id}"')
        assert time.monotonic() - began < 15
        rows = [event for event in events.seen if f'<tr id="vm-{vm.id}"' in event]
        assert len(rows) == 2


async def test_only_what_changed_is_sent(
    app: Quart, browser: Browser, alpha: FakeWorld, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thing that was touched and looks as before is not told again; one that looks otherwise is, and again when it is
    as it was at first."""
    monkeypatch.setattr(live, "PAUSE", 0.05)
    await services.hosts.set_enabled(PANEL, "alpha", False)  # nobody else writes
    vm, other = await vm_named("vm-0004"), await vm_named("vm-0005")
    async with Events(app, browser, f"vms:{vm.id}.{other.id}") as events:

        async def touch(title: str) -> None:
            await Vm.filter(id=vm.id).update(title=title)
            services.events.publish(VmChanged(vm.id, vm.host_id))
            await Vm.filter(id=other.id).update(title=f"after {title}")
            services.events.publish(VmChanged(other.id, vm.host_id))
            await events.until(f'<tr id="vm-{other.id}"', f"after {title}<")

        for title in ("one", "two", "one"):
            await touch(title)
            await Vm.filter(id=other.id).update(title="")
            services.events.publish(VmChanged(other.id, vm.host_id))
            await events.until(f'<tr id="vm-{other.id}"', ">vm-0005<")
            await touch(title)
        rows = [event for event in events.seen if f'<tr id="vm-{vm.id}"' in event]
        assert [re.search(r">(one|two)<", row)[1] for row in rows] == ["one", "two", "one"]  # type: ignore[index]


async def test_goes_on_after_a_break(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """What happened in between is told: from the last event on, and when that is not known from the page on."""
    vm, still = await vm_named("vm-0004"), await vm_named("vm-0008")
    assert still.state == PowerState.STOPPED, "no round finds it at work"
    for _again in range(2):  # a round that had read the row may write what it read
        await Vm.filter(id=still.id).update(state_since=now() - timedelta(hours=1))
        moment = now()
        await until(partial(Vm.exists, id=still.id, seen_at__gt=moment))
    gone, _info = await services.hosts.create(PANEL, "gone", HostRequest(EngineKind.FAKE, address="gone"))
    topics = f"hosts,overview,tasks,hosts:{gone.id},vms:{vm.id}.{still.id}"
    began = int(time.time())
    async with Events(app, browser, topics) as events:
        event = await events.until("event: fragment")
        last = re.search(r"^id: (\d+)$", event, re.M)
        assert last
        assert abs(int(last[1]) - time.time()) < 30
    task = await services.power.act(PANEL, vm, PowerAction.START)
    await services.tasks.wait(task.id, 10)
    await services.hosts.delete(PANEL, "gone")
    for way in ({"last": last[1]}, {"since": began}):
        async with Events(app, browser, topics, **way) as events:
            await events.all_of(f'<tr id="vm-{vm.id}"', "Running", f'<tr id="task-{task.id}"', 'id="running-tasks"',
                                'id="tiles"', f'<div id="host-{gone.id}" hx-swap-oob="gone">',
                                f'id="vm-{still.id}-seen"')  # fmt: skip
            assert not [event for event in events.seen if f'<tr id="vm-{still.id}"' in event], "it did not change"


async def test_a_removed_host(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Its row goes."""
    gone, _info = await services.hosts.create(PANEL, "gone", HostRequest(EngineKind.FAKE, address="gone"))
    async with Events(app, browser, "hosts") as events:
        await services.hosts.delete(PANEL, "gone")
        await events.until(f'<div id="host-{gone.id}" hx-swap-oob="gone">')


async def test_tasks_and_removed_vms(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A new task is counted, and put into no list that is looked at; what is shown changes; a VM that is gone is told."""
    alpha.behaviour = Behaviour(manner=Manner.FAILING, fail_at={"create": 2}, delay=0.4, only=frozenset({"create"}))
    host = await services.hosts.get("alpha")
    await browser.get("/tasks")
    found = re.search(r"topics=(tasks(?:,|%2C)new_tasks(?::|%3A)\d+)&", unescape(browser.html))
    assert found
    topics = found[1].replace("%3A", ":").replace("%2C", ",")
    elsewhere = re.sub(r"\d+$", lambda number: str(int(number[0]) + 60_000_000), topics)
    async with Events(app, browser, topics) as events, Events(app, browser, elsewhere) as later:
        await events.until('id="new-tasks"', "No new tasks")
        vm, task = await services.vms.create(PANEL, host, VmRequest("new-1", "", "Debian 12", 1, 512, 10))
        async with Events(app, browser, f"vms:{vm.id},vm:{vm.id}") as other:
            await events.until('id="new-tasks"', 'hx-swap-oob="morph"', "1 new task – show")
            await later.until(f'<tr id="task-{task.id}" hx-swap-oob="morph">', "Failed")
            assert not [event for event in events.seen if f'<tr id="task-{task.id}"' in event]
            await other.until(f'<div id="vm-{vm.id}" hx-swap-oob="gone">')
        async with Events(app, browser, f"vm:{vm.id}") as late:
            await late.until("This VM is no longer there.", f"/tasks/{task.id}")
        async with Events(app, browser, f"task:{task.id}") as page:
            await page.until('id="task-body"', "The fake host failed at step 2")


async def test_hosts_and_freshness(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """A round that changes nothing of a VM still says that it was seen."""
    vm, host = await vm_named("vm-0004"), await services.hosts.get("alpha")
    async with Events(app, browser, f"hosts,overview,host:{host.id},vms:{vm.id}") as events:
        await events.until(f'id="vm-{vm.id}-seen" hx-swap-oob="morph"')
        await events.until(f'<tr id="host-{host.id}" hx-swap-oob="morph">')
        await events.until('id="host-capacity" hx-swap-oob="morph"')


async def test_dashboard(app: Quart, browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Its numbers, its own rows of hosts, what needs attention and what was done last."""
    async with Events(app, browser, "hosts,overview") as events:
        alpha.behaviour = Behaviour(manner=Manner.REFUSING)
        await events.all_of(*(f'id="{part}" hx-swap-oob="morph"' for part in ("tiles", "vm-states", "activity")),
                            "The host does not answer", "Cores allocated")  # fmt: skip


async def test_ends_with_the_login(app: Quart, browser: Browser, alpha: FakeWorld) -> None:
    """Logging out ends the streams of that login."""
    await browser.get("/")
    async with Events(app, browser, "hosts") as events:
        await browser.post("/logout")
        with pytest.raises(EOFError):
            await events.until("never sent")


async def test_ends_when_the_panel_stops(app: Quart, browser: Browser, alpha: FakeWorld) -> None:
    """Nobody waits for a stream that has no end."""
    async with Events(app, browser, "hosts") as one, Events(app, browser, "tasks") as two:
        await one.until("host-")
        live.end_streams()
        for events in (one, two):
            with pytest.raises(EOFError):
                await events.until("never sent")


async def test_keep_alive_looks_whether_the_login_is_good(
    app: Quart, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quiet stream says that it lives, so that proxies do not cut it."""
    monkeypatch.setattr(live, "KEEP_ALIVE", 0.1)
    async with Events(app, browser, "vm:1") as events:
        assert await events.until("event: beat")


def test_topics() -> None:
    """What makes no sense is left out."""
    topics = parse_topics("vms:1.2.x.3,vm:7,host:-1,task:zz,hosts,hosts:4.y,nonsense:5,,:,vms", "abc")
    assert topics.vms == {1, 2, 3}
    assert topics.shown_hosts == {4}
    assert (topics.vm, topics.host, topics.task, topics.hosts, topics.since) == (7, None, None, True, None)
    assert len(parse_topics("vms:" + ".".join(map(str, range(1, 5000)))).vms) <= 200
