"""Script in names: a VM's, its guest's, its tags, what a host or a VNC server calls itself. It is shown as text, never run."""

from __future__ import annotations

import asyncio
import html
import re
from typing import Any

import pytest
from quart import Quart

from panel.engines.types import NicMode
from panel.models import Host, LogEntry, Vm
from panel.security import Actor, Source
from panel.services.container import Services
from tests.browser.conftest import Login, chromium, login
from tests.pages.conftest import Browser, vm_named
from tests.process import PanelProcess

__all__ = ["chromium", "login"]

HOSTILE = "<img src=x onerror=alert(1)>\"'}}{{7*7}}</script><script>alert(2)</script>"
MARKS = ("<img src=x", "<script>alert", "onerror=alert(1)>\"'")


async def poison(services: Services) -> None:
    """Everything that a guest, a hypervisor or an operator can put a name into, put into the rows as the observer would."""
    vm = await vm_named("vm-0001")
    await Vm.filter(id=vm.id).update(title=HOSTILE, os_name=HOSTILE, user=HOSTILE[:60], notes=HOSTILE)
    await Host.filter(name="alpha").update(version=HOSTILE, address=HOSTILE)
    for nic in vm.nics:  # type: ignore[attr-defined]
        nic.network, nic.addresses, nic.mode = HOSTILE[:60], [HOSTILE], NicMode.BRIDGE
        await nic.save()
    actor = Actor(HOSTILE[:60], Source.API, HOSTILE[:60])
    from panel.i18n import Text

    await services.audit.write(actor, "login.failed", "vm", HOSTILE, Text("{name}", {"name": HOSTILE}), level="warning")
    assert await LogEntry.filter(object_name=HOSTILE[:160]).exists()


async def test_no_page_has_it_as_markup(app: Quart, services: Services, browser: Browser, alpha: Any) -> None:
    await services.observer.stop()
    await poison(services)
    values = {"host": "alpha", "name": "alpha", "vm": "vm-0001"}
    shown = opened = 0
    for rule in app.url_map.iter_rules():
        if (
            rule.websocket
            or "GET" not in (rule.methods or set())
            or rule.rule.startswith(("/api/", "/assets/", "/events"))
        ):
            continue
        path = re.sub(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>", lambda m: values.get(m[2], "1"), rule.rule)
        for query in ("", f"?q={html.escape('<script>alert')}"):
            async with asyncio.timeout(10):
                response = await browser.client.get(path + query, headers={"Accept": "text/html"})
                text = await response.get_data(as_text=True) if response.mimetype == "text/html" else ""
            assert response.status_code < 500, path
            assert not [mark for mark in MARKS if mark in text], path
            opened += response.status_code == 200
            shown += "&lt;img src=x" in text
    assert opened > 20
    assert shown >= 5, "the names were on the pages, as text"


@pytest.mark.browser
def test_a_vnc_server_that_calls_itself_a_script(login: Login, tmp_path: Any) -> None:
    """The fake VM's screen announces the VM's title as its desktop's name: a real browser shows it and runs nothing."""
    panel = PanelProcess(tmp_path / "panel", fake_engine="1", observe_seconds="0.5")
    panel.start()
    try:
        _make_vm(panel)
        page = login(panel)
        ran: list[str] = []
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        for path in ("/console/host1/vm-1", "/console/host1/vm-1?kind=text", "/vms", "/hosts/host1/vms/vm-1"):
            page.goto(path)
            page.wait_for_timeout(1500)
            assert page.locator("img[src=x]").count() == 0, path
            assert "<img src=x" in page.content() or "&lt;img" in page.content() or "<img src=x" in page.title(), path
        assert ran == []
    finally:
        panel.kill()


def _make_vm(panel: PanelProcess) -> None:
    panel.ok("POST", "/api/server/create", {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "w"})
    panel.until("/api/server/detail/host1", lambda host: host["health"] == "online", 30)
    body = {"vm_uuid": "vm-1", "vm_name": HOSTILE, "cpu_num": 1, "ram_num": 512, "hdd_num": 4, "start": True}
    panel.ok("POST", "/api/client/create/host1?wait=20", body)
