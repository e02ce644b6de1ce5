"""The screen of a virtual machine of Incus' in a real browser: a double of its API, before a real QEMU's SPICE server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Login
from tests.browser.test_console import problems
from tests.browser.test_operator import difference, screen, settled, until
from tests.doubles.incus import incus
from tests.doubles.incus_world import Incus
from tests.doubles.serving import served
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.timeout(300)]

CONSOLE = "/console/cloud/desk-1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, demo_image: Path) -> Iterator[Incus]:
    made = Incus(tmp_path_factory.mktemp("incus"))
    made.add("desk-1", disk=demo_image).start()
    made.add("box-1", "container").start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def panel(world: Incus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    process = PanelProcess(tmp_path_factory.mktemp("panel"))
    with served(incus(world), socket=world.folder / "unix.socket") as address:
        process.start()
        process.ok(
            "POST", "/api/server/create", {"server_name": "cloud", "engine_type": "LxContainer", "server_addr": address}
        )
        process.until("/api/server/status/cloud", lambda status: status["seen_at"])
        process.ok("POST", "/api/client/scaner/cloud")
        process.until("/api/client/status/cloud/desk-1", lambda status: status["state"] == "running")
        process.until("/api/client/status/cloud/box-1", lambda status: status["state"] == "running")
        yield process
        process.stop()


@pytest.fixture
def page(panel: PanelProcess, login: Login) -> Page:
    return login(panel)


def wait_connected(page: Page) -> None:
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=20_000)


def test_a_vm_has_a_screen_and_a_terminal_and_a_container_a_terminal(page: Page) -> None:
    page.goto(CONSOLE)
    wait_connected(page)
    kinds = page.get_by_role("navigation", name="Screen or text").get_by_role("link")
    assert kinds.all_inner_texts() == ["Screen", "Text"]
    page.goto("/console/cloud/box-1?kind=spice")
    expect(page.locator("#console")).to_have_attribute("data-kind", "text")
    expect(page.get_by_role("navigation", name="Screen or text")).to_have_count(0)


def test_one_sees_the_screen_logs_in_and_types(page: Page, tmp_path: Path) -> None:
    found = problems(page)
    page.goto(CONSOLE)
    wait_connected(page)
    prompt = settled(page)
    page.locator("canvas").first.click()
    page.keyboard.type("root", delay=120)
    page.keyboard.press("Enter")
    until(lambda: difference(prompt, screen(page)) > 300, 30, "the login name on the screen")
    page.screenshot(path=tmp_path / "console.png")
    assert found == []
