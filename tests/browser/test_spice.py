"""The screen of a virtual machine of Incus' in a real browser: a double of its API, before a real QEMU's SPICE server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
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
SHIFTED = '~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ'
PRINTABLE = "".join(map(chr, range(32, 127)))


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
    page.goto("/hosts/cloud/vms/desk-1?tab=console")
    card = page.locator("[id^=vm-][id$=-console]")
    assert card.get_by_role("link").all_inner_texts() == ["Screen", "Text"]
    page.goto("/hosts/cloud/vms/box-1?tab=console")
    assert card.get_by_role("link").all_inner_texts() == ["Open the console"]
    expect(card).to_contain_text("A container has no screen.")
    page.goto("/console/cloud/box-1?kind=spice")
    expect(page.locator("#console")).to_have_attribute("data-kind", "text")
    expect(page.get_by_role("navigation", name="Screen or text")).to_have_count(0)


def serial(world: Incus) -> str:
    return world.instances["desk-1"].serial.read_text(errors="replace")


def boots(world: Incus) -> int:
    """How often the guest has asked for a login on its serial port; its screen asks then, too."""
    return serial(world).count("login:")


def type_on(page: Page, text: str) -> None:
    """As people do: with Shift held where it must be, which ``keyboard.type`` leaves out."""
    for character in text:
        page.keyboard.press(f"Shift+{character}" if character in SHIFTED else character, delay=30)
        page.wait_for_timeout(30)
    page.keyboard.press("Enter")


def test_one_sees_the_screen_logs_in_and_types(page: Page, world: Incus) -> None:
    """By no road that the security policy forbids. Four channels: what is not seen or typed is not opened."""
    found = problems(page)
    until(lambda: boots(world), 90, "a guest that has started")
    page.goto(CONSOLE)
    wait_connected(page)
    prompt = settled(page)
    (console,) = world.consoles.values()
    assert console.channels == 4
    page.locator("canvas").click()
    type_on(page, "root")
    until(lambda: difference(prompt, screen(page)) > 300, 30, "the login name on the screen")
    settled(page)
    type_on(page, "openidcs")
    shell = settled(page)
    type_on(page, "seq 1 200; uname -a")
    until(lambda: difference(shell, screen(page)) > 2000, 30, "the output of a command")
    type_on(page, "echo an'sw'er-$((6*7)) > /dev/ttyS0")
    until(lambda: "answer-42" in serial(world), 30, "what was typed, by its serial port")
    assert found == []


def test_a_paste_types_every_character_of_a_us_keyboard(page: Page, world: Incus) -> None:
    page.goto(CONSOLE)
    wait_connected(page)
    page.get_by_role("button", name="Paste as keystrokes").click()
    page.locator("#console-paste-text").fill(f"cat > /dev/ttyS0\n<{PRINTABLE}>\n虚\n")
    page.get_by_role("button", name="Type it").click()
    expect(page.locator("#console-paste")).to_be_hidden(timeout=20_000)
    expect(page.locator("#console-note")).to_have_text("Characters that no key makes were left out.")
    until(lambda: f"<{PRINTABLE}>" in serial(world), 20, "the text")
    page.get_by_role("button", name="Keys", exact=True).click()
    page.get_by_role("button", name="Ctrl+C").click()
    page.keyboard.press("Escape")
    page.locator("canvas").click()
    type_on(page, "echo be'for'e; echo aft'er' > /dev/ttyS0")
    until(lambda: "\nafter" in serial(world), 20, "a shell again")


def test_the_pointer_moves_in_the_vm(page: Page, world: Incus) -> None:
    """This guest drives no tablet, so that QEMU asks for steps, not places."""
    page.goto(CONSOLE)
    wait_connected(page)
    settled(page)
    page.mouse.move(300, 300)
    page.wait_for_timeout(300)
    before = moved(world)
    page.mouse.move(420, 350)
    until(lambda: moved(world) - before == 120 + 50j, 10, "the step in the VM")


def moved(world: Incus) -> complex:
    """All steps of the mouse together."""
    text = world.instances["desk-1"].pointed.read_text()
    steps = {axis: sum(map(int, re.findall(rf"axis {axis}, value (-?\d+)", text))) for axis in "xy"}
    return complex(steps["x"], steps["y"])


def test_views_and_a_screenshot(page: Page) -> None:
    page.goto(CONSOLE)
    wait_connected(page)
    canvas = page.locator("canvas")
    size = page.evaluate("(canvas => [canvas.width, canvas.height])(document.querySelector('canvas'))")
    fitted = canvas.bounding_box()
    page.get_by_role("button", name="View").click()
    expect(page.locator("[data-view]")).to_have_count(2)
    page.get_by_role("button", name="Actual size").click()
    plain = canvas.bounding_box()
    assert fitted
    assert plain
    assert fitted["width"] > plain["width"]
    assert [plain["width"], plain["height"]] == size
    with page.expect_download() as download:
        page.get_by_role("button", name="Screenshot").click()
    with Image.open(download.value.path()) as picture:
        assert list(picture.size) == size


def test_the_second_waits_or_takes_over(panel: PanelProcess, login: Login, world: Incus) -> None:
    first, second = login(panel), login(panel)
    first.goto(CONSOLE)
    wait_connected(first)
    second.goto(CONSOLE)
    expect(second.locator("#console-message")).to_contain_text("Somebody else has the screen of desk-1 open.")
    second.get_by_role("button", name="Take over").click()
    wait_connected(second)
    expect(first.locator("#console")).to_have_attribute("data-state", "closed")
    first.get_by_role("button", name="Connect now").click()
    expect(first.locator("#console-message")).to_contain_text("Somebody else")


def test_it_waits_for_a_vm_that_is_off(page: Page, world: Incus) -> None:
    page.goto(CONSOLE)
    wait_connected(page)
    page.get_by_role("button", name="Power", exact=True).click()
    page.get_by_role("button", name="Force off").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator("#console")).to_have_attribute("data-state", "off", timeout=20_000)
    assert not world.instances["desk-1"].on
    page.locator("#console-message").get_by_role("button", name="Start").click()
    wait_connected(page)
    assert settled(page)


def test_ctrl_alt_del_restarts_the_guest(page: Page, world: Incus) -> None:
    until(lambda: boots(world), 90, "a guest that has started")
    page.goto(CONSOLE)
    wait_connected(page)
    before = boots(world)
    page.get_by_role("button", name="Ctrl+Alt+Del").click()
    until(lambda: boots(world) > before, 90, "another start")
    assert page.locator("#console").get_attribute("data-state") == "connected"


def test_no_secret_of_the_hosts_is_told(page: Page, panel: PanelProcess, world: Incus) -> None:
    page.goto(CONSOLE)
    wait_connected(page)
    told = panel.log.read_text() + page.content()
    assert len(world.told) > 4
    assert not any(secret in told for secret in world.told)
