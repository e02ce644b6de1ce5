"""The terminal page in a real browser, over the fake host's shell."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, Login
from tests.browser.test_console import problems, until
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

VM = "vm-0001"
TERMINAL = f"/console/host1/{VM}?kind=text"
PASTE = "".join(f"{number:07d} {'x' * 70}\n" for number in range(1300))  # over 100 KB


def shown(page: Page) -> str:
    """What the terminal shows, without its line ends."""
    rows = page.evaluate("[...document.querySelectorAll('.xterm-rows > div')].map(row => row.textContent).join('')")
    return str(rows).replace("\xa0", " ")


def wait_for(page: Page, text: str, seconds: float = 20) -> None:
    until(page, lambda: text in shown(page), f"{text!r} in the terminal", seconds)


def wait_connected(page: Page) -> None:
    """Until the shell's prompt is there."""
    expect(page.locator("#console")).to_have_attribute("data-state", "connected", timeout=20_000)
    wait_for(page, "~# ")


def run(page: Page, command: str) -> None:
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type(command)
    page.keyboard.press("Enter")


@pytest.fixture
def page(fake_panel: PanelProcess, login: Login) -> Page:
    return login(fake_panel)


def test_what_is_typed_is_answered(page: Page) -> None:
    found = problems(page)
    page.goto(TERMINAL)
    wait_connected(page)
    run(page, "echo an''swer 虚拟 é")
    wait_for(page, "answer 虚拟 é")
    colour = page.evaluate(
        "getComputedStyle([...document.querySelectorAll('.xterm-rows span')].find(s => s.textContent.includes('root@'))).color"
    )
    assert colour != page.evaluate("getComputedStyle(document.querySelector('.xterm-rows')).color")
    assert found == []


def test_a_long_paste_loses_nothing(page: Page) -> None:
    page.goto(TERMINAL)
    wait_connected(page)
    run(page, "stty -echo")
    run(page, "sha256sum")
    page.get_by_role("button", name="Paste", exact=True).click()
    page.locator("#console-paste-text").fill(PASTE)
    page.locator("#console-paste").get_by_role("button", name="Paste").click()
    page.keyboard.press("Control+d")
    wait_for(page, hashlib.sha256(PASTE.encode()).hexdigest(), 60)


def test_the_shell_follows_the_window(page: Page) -> None:
    page.goto(TERMINAL)
    wait_connected(page)

    def rows() -> int:
        return int(page.evaluate("document.querySelectorAll('.xterm-rows > div').length"))

    before = rows()
    run(page, "stty size")
    wait_for(page, f"{before} ")
    page.set_viewport_size({"width": 900, "height": 500})
    until(page, lambda: rows() < before, "fewer rows")

    def told() -> bool:
        run(page, "stty size")
        page.wait_for_timeout(200)
        return f"size{rows()} " in shown(page).replace("size ", "size")

    until(page, told, "the new size in the shell")
    smaller = rows()
    page.get_by_role("button", name="View").click()
    page.get_by_role("button", name="Larger text").click()
    until(page, lambda: rows() < smaller, "larger text")


def test_a_flood_is_drawn_and_ended(page: Page) -> None:
    page.goto(TERMINAL)
    wait_connected(page)
    run(page, "yes")
    wait_for(page, "yyyyyyyyyy")
    page.wait_for_timeout(1000)
    page.keyboard.press("Control+c")
    wait_for(page, "^C")
    run(page, "echo af''ter")
    wait_for(page, "after")


def test_an_ended_shell_stays_until_asked_for(page: Page) -> None:
    page.goto(TERMINAL)
    wait_connected(page)
    run(page, "exit")
    expect(page.locator("#console")).to_have_attribute("data-state", "closed")
    page.get_by_role("button", name="Connect now").click()
    wait_connected(page)


def test_it_connects_again_by_itself(page: Page) -> None:
    page.add_init_script(
        "window.sockets = []; const Real = WebSocket;"
        "window.WebSocket = class extends Real { constructor(...a) { super(...a); window.sockets.push(this); } }"
    )
    page.goto(TERMINAL)
    wait_connected(page)
    page.evaluate("window.sockets.at(-1).close()")
    until(page, lambda: page.evaluate("window.sockets.length") == 2, "another connection")
    wait_connected(page)
    run(page, "echo aga''in")
    wait_for(page, "again")


def test_who_has_it_is_not_disturbed_unless_asked(fake_panel: PanelProcess, login: Login) -> None:
    first, second = login(fake_panel), login(fake_panel)
    first.goto(TERMINAL)
    wait_connected(first)
    second.goto(TERMINAL)
    expect(second.locator("#console-message")).to_contain_text("Somebody else", timeout=15_000)
    second.get_by_role("button", name="Take over").click()
    wait_connected(second)
    expect(first.locator("#console")).to_have_attribute("data-state", "closed", timeout=15_000)


def test_keys_of_a_phone(fake_panel: PanelProcess, login: Login, tmp_path: Path) -> None:
    page = login(fake_panel, viewport=NARROW)
    page.goto(TERMINAL)
    wait_connected(page)
    run(page, "cat")
    ctrl = page.get_by_role("button", name="Ctrl", exact=True)
    ctrl.click()
    expect(ctrl).to_have_attribute("aria-pressed", "true")
    page.keyboard.type("d")
    expect(ctrl).to_have_attribute("aria-pressed", "false")
    run(page, "echo en''ded")
    wait_for(page, "ended")
    page.get_by_role("button", name="Up").click()
    page.get_by_role("button", name="Esc").click()
    run(page, "echo ali''ve")
    wait_for(page, "alive")


def test_screen_and_text_are_a_click_apart(page: Page) -> None:
    page.goto(f"/console/host1/{VM}")
    page.get_by_role("link", name="Text").click()
    wait_connected(page)
    expect(page.get_by_role("link", name="Text")).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Screen").click()
    expect(page.locator("#console-screen canvas").first).to_be_visible(timeout=15_000)


def test_a_link_opens_the_terminal_without_a_login(fake_panel: PanelProcess, chromium: Browser) -> None:
    url = fake_panel.ok("GET", f"/api/client/remote/host1/{VM}")["url"]
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(url)
        page.get_by_role("link", name="Text").click()
        wait_connected(page)
        expect(page.get_by_role("button", name="Power")).to_have_count(0)
    finally:
        context.close()
