"""The console page in a real browser, over the fake host's moving picture."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, Login
from tests.console.tls_proxy import tls_proxy
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

RUNNING, STOPPED, FOLLOWED = "vm-0001", "vm-0004", "vm-0009"


def screen(page: Page) -> Image.Image:
    """The VM's pixels, one for one, as they were drawn."""
    data = page.evaluate("document.querySelector('#console-screen canvas').toDataURL('image/png')")
    return Image.open(BytesIO(b64decode(data.partition(",")[2]))).convert("RGB")


def changed(one: Image.Image, other: Image.Image) -> bool:
    return one.size != other.size or ImageChops.difference(one, other).getbbox() is not None


def wait_connected(page: Page) -> None:
    """Until the console is connected and has drawn its first picture."""
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=15_000)
    until(page, lambda: len(screen(page).getcolors(1 << 20) or []) >= 2, "a picture")


def until(page: Page, holds: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Looks again and again: a slow machine draws late."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        page.wait_for_timeout(50)


def problems(page: Page) -> list[str]:
    """What the browser complains about from now on: refused by the security policy, broken scripts."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    return found


@pytest.fixture
def page(fake_panel: PanelProcess, login: Login) -> Page:
    return login(fake_panel)


def test_the_picture_moves_and_keys_reach_the_vm(page: Page) -> None:
    found = problems(page)
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    before = screen(page)
    until(page, lambda: changed(before, screen(page)), "movement")
    typed = typed_blocks(page)
    page.locator("#console-screen canvas").first.click(position={"x": 5, "y": 5})
    page.keyboard.type("ab")
    until(page, lambda: typed_blocks(page) > typed, "key in the picture")
    assert found == []


def typed_blocks(page: Page) -> int:
    """How many keys the fake screen shows: a block for each, 16 pixels apart and 110 down."""
    picture = screen(page)
    ground = picture.getpixel((319, 110))
    return sum(picture.getpixel((x, 110)) != ground for x in range(4, 320, 16))


def test_paste_types_and_the_menu_sends_keys(page: Page) -> None:
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    page.get_by_role("button", name="Paste as keystrokes").click()
    page.locator("#console-paste-text").fill("hi!")
    page.get_by_role("button", name="Type it").click()
    expect(page.locator("#console-paste")).to_be_hidden()
    until(page, lambda: typed_blocks(page) >= 3, "pasted text")
    pasted = typed_blocks(page)
    page.get_by_role("button", name="Keys", exact=True).click()
    page.get_by_role("button", name="Ctrl+Alt+F2").click()
    until(page, lambda: typed_blocks(page) > pasted, "key in the picture")
    hold = page.get_by_role("button", name="Ctrl", exact=True)
    hold.click()
    expect(hold).to_have_attribute("aria-pressed", "true")


def test_views_and_a_screenshot(page: Page) -> None:
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    canvas = page.locator("#console-screen canvas").first
    fitted = canvas.bounding_box()
    page.get_by_role("button", name="View").click()
    page.get_by_role("button", name="Actual size").click()
    assert fitted
    assert fitted["width"] > 320

    def size() -> tuple[int, int]:
        box = canvas.bounding_box()
        assert box
        return round(box["width"]), round(box["height"])

    until(page, lambda: size() == (320, 200), "actual size")
    with page.expect_download() as download:
        page.get_by_role("button", name="Screenshot").click()
    assert download.value.suggested_filename.startswith(RUNNING)
    assert Image.open(Path(download.value.path())).size == (320, 200)


def test_it_connects_again_with_a_fresh_ticket(page: Page) -> None:
    tickets: list[str] = []
    page.on("request", lambda request: tickets.append(request.url) if request.url.endswith("/ticket") else None)
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    page.get_by_role("button", name="Power").click()
    page.get_by_role("button", name="Force off").click()
    page.locator("#console-sure button[value=ok]").click()
    expect(page.locator("#console")).to_have_attribute("data-state", "off", timeout=15_000)
    expect(page.locator("#console-message")).to_contain_text("The VM is off")
    page.locator("#console-message").get_by_role("button", name="Start").click()
    wait_connected(page)
    assert len(tickets) >= 2
    assert page.evaluate("location.search") == ""


def test_a_short_stop_is_followed(fake_panel: PanelProcess, page: Page) -> None:
    """By somebody else: the console does not say for another ten seconds that a VM that runs again is off."""
    page.goto(f"/console/host1/{FOLLOWED}")
    wait_connected(page)
    page.wait_for_timeout(3000)  # it has looked, saw that all is well, and looks seldom from now on
    fake_panel.ok("POST", f"/api/client/powers/host1/{FOLLOWED}?wait=20", {"action": "stop"})
    expect(page.locator("#console")).to_have_attribute("data-state", "off")
    fake_panel.ok("POST", f"/api/client/powers/host1/{FOLLOWED}?wait=20", {"action": "start"})
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=8_000)


def test_a_vm_that_is_off_says_so(page: Page) -> None:
    page.goto(f"/console/host1/{STOPPED}")
    expect(page.locator("#console")).to_have_attribute("data-state", "off", timeout=10_000)
    expect(page.locator("#console-message").get_by_role("button", name="Start")).to_be_visible()


def test_a_link_works_without_a_login(fake_panel: PanelProcess, chromium: Browser) -> None:
    url = fake_panel.ok("GET", f"/api/client/remote/host1/{RUNNING}")["url"]
    context = chromium.new_context()
    page = context.new_page()
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(url)
    wait_connected(page)
    assert "ticket" not in page.url + "".join(sockets)
    assert page.locator("[data-power]").count() == 0
    page.reload()
    wait_connected(page)
    context.close()
    again = chromium.new_page()
    answer = again.goto(url)
    assert answer is not None
    assert answer.status == 401
    again.close()


def test_a_logout_ends_it(page: Page) -> None:
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    other = page.context.new_page()
    other.goto("/")
    other.evaluate(
        """async () => {
            const token = document.querySelector('meta[name="csrf-token"]').content;
            await fetch('/logout', {method: 'POST', body: new URLSearchParams({csrf_token: token})});
        }"""
    )
    expect(page.locator("#console")).to_have_attribute("data-state", "ended")


def test_a_phone(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, viewport=NARROW)
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ["Ctrl+Alt+Del", "Keys", "On-screen keyboard", "Paste as keystrokes", "View", "Screenshot", "Power"]:
        box: Any = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert box, name
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 390, name
    page.get_by_role("button", name="On-screen keyboard").click()
    before = typed_blocks(page)
    page.keyboard.insert_text("x")
    until(page, lambda: typed_blocks(page) > before, "key in the picture")


def test_it_speaks_chinese(fake_panel: PanelProcess, login: Login) -> None:
    page = login(fake_panel, language="zh")
    page.goto(f"/console/host1/{RUNNING}")
    wait_connected(page)
    assert page.evaluate("document.documentElement.lang").startswith("zh")


@pytest.mark.parametrize("strip", ["", "/panel"], ids=["keeps the prefix", "strips the prefix"])
def test_behind_tls_under_a_sub_path(chromium: Browser, tmp_path: Path, strip: str) -> None:
    settings = {"fake_engine": "1", "observe_seconds": "0.5", "base_path": "/panel", "trusted_proxies": "127.0.0.1"}
    panel = PanelProcess(tmp_path, **settings)
    panel.start()
    try:
        with tls_proxy(tmp_path, panel.port, strip=strip) as base:
            _look_through(chromium, panel, base)
    finally:
        panel.stop()


def _look_through(chromium: Browser, panel: PanelProcess, base: str) -> None:
    context = chromium.new_context(ignore_https_errors=True, base_url=base)
    page = context.new_page()
    page.goto("/panel/login")
    page.fill("input[name=token]", panel.token)
    page.click("main form button:not([type=button])")
    page.wait_for_url(base + "/panel/")
    panel.url += "/panel"
    panel.ok("POST", "/api/server/create", {"server_name": "host1", "engine_type": "FakeEngine", "vms": "4"})
    panel.until("/api/server/status/host1", lambda status: status["seen_at"])
    panel.ok("POST", "/api/client/scaner/host1")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.goto(f"/panel/console/host1/{RUNNING}")
    wait_connected(page)
    assert sockets == [f"{base.replace('https', 'wss')}/panel/console/host1/{RUNNING}/socket"]
    assert all(cookie["secure"] for cookie in context.cookies())
    context.close()
