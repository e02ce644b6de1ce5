"""The stream of live changes in a browser: one, none while the tab is hidden, honest when it is gone; nothing jumps."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

# Counts the streams that a page opens, and lets a test hide the tab: Chromium without a window never does.
WATCH = """
window.streams = [];
window.EventSource = class extends EventSource {
  constructor(...given) { super(...given); window.streams.push(this); }
};
let hidden = false;
Object.defineProperty(Document.prototype, "hidden", { get: () => hidden });
window.hide = (yes) => { hidden = yes; document.dispatchEvent(new Event("visibilitychange")); };
"""
OPEN = "() => window.streams.filter(stream => stream.readyState !== EventSource.CLOSED).length"
JUMPS = """
window.jumps = [];
window.since = 0; // what was moved before is told of later
const box = ({ x, y, width, height }) => [x, y, width, height].join(" ");
new PerformanceObserver((list) => {
  const news = list.getEntries().filter((one) => one.startTime > window.since);
  const inPlace = ({ node }) => node?.parentElement?.closest(".drawer-when"); // words of another length that end at the edge
  for (const entry of news) window.jumps.push(...entry.sources.filter((source) => !inPlace(source)).map((source) =>
    `${entry.value.toFixed(5)} ${source.node?.nodeName} ${source.node?.id ?? ""} ${source.node?.className ?? ""}` +
      ` "${source.node?.textContent.trim().slice(0, 40)}" in ${source.node?.parentElement?.className}` +
      ` from ${box(source.previousRect)} to ${box(source.currentRect)}`));
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture
def panel(fake_panel: PanelProcess) -> PanelProcess:
    """The panel with a VM that runs."""
    power(fake_panel, "vm-0003", "running")
    return fake_panel


def power(panel: PanelProcess, vm: str, state: str) -> None:
    """Bring a VM into a state, from outside of the page."""
    status = f"/api/client/status/host1/{vm}"
    if panel.ok("GET", status)["state"] != state:
        panel.ok("POST", f"/api/client/powers/host1/{vm}", {"action": "start" if state == "running" else "stop"})
        panel.until(status, lambda seen: seen["state"] == state)


def watched(login: Login, panel: PanelProcess, path: str, **ways: object) -> Page:
    page = login(panel, **ways)
    page.add_init_script(WATCH)
    page.goto(path)
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    return page


def row(page: Page, state: str) -> Locator:
    return page.locator("#vm-rows > tr", has_text="vm-0003").locator(f".state-{state}")


def test_a_hidden_tab_has_no_stream_and_catches_up(panel: PanelProcess, login: Login) -> None:
    page = watched(login, panel, "/vms?q=vm-000")
    expect(row(page, "running")).to_be_visible()
    assert page.evaluate(OPEN) == 1
    assert page.evaluate("window.streams.length") == 1
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("hide(true)")
    assert page.evaluate(OPEN) == 0
    power(panel, "vm-0003", "stopped")
    expect(row(page, "running")).to_be_visible()
    assert asked == []
    page.evaluate("hide(false)")
    expect(row(page, "stopped")).to_be_visible()
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    assert page.evaluate(OPEN) == 1
    assert len(asked) == 1
    power(panel, "vm-0003", "running")
    expect(row(page, "running")).to_be_visible(timeout=30_000)


def test_a_tab_that_is_opened_hidden_waits(panel: PanelProcess, login: Login) -> None:
    page = login(panel)
    page.add_init_script(WATCH + "hidden = true;")
    page.goto("/vms?q=vm-000")
    page.wait_for_function("() => document.readyState === 'complete' && window.htmx")
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert page.evaluate("window.streams.length") == 0
    power(panel, "vm-0003", "stopped")
    page.evaluate("hide(false)")
    expect(row(page, "stopped")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.streams.length") == 1


def test_a_break_is_told_and_mended(login: Login, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The panel is killed and comes back: the page says so, and shows what happened, without being loaded again."""
    panel = PanelProcess(tmp_path_factory.mktemp("breaks"), fake_engine="1", observe_seconds="0.5")
    panel.start()
    try:
        panel.ok("POST", "/api/server/create", {"server_name": "host1", "engine_type": "FakeEngine",
                                                "server_addr": "one", "vms": "5"})  # fmt: skip
        panel.until("/api/server/status/host1", lambda status: status["seen_at"])
        panel.ok("POST", "/api/client/scaner/host1")
        page = watched(login, panel, "/vms")
        page.evaluate("window.notReloaded = true")
        mark = page.locator("#live-state")
        expect(row(page, "running")).to_be_visible(timeout=30_000)
        panel.kill()
        expect(mark).to_have_attribute("data-state", "reconnecting", timeout=30_000)
        expect(mark).to_have_text("Reconnecting…")
        panel.start()
        power(panel, "vm-0003", "stopped")
        expect(mark).to_have_attribute("data-state", "live", timeout=60_000)
        expect(row(page, "stopped")).to_be_visible(timeout=30_000)
        assert page.evaluate("window.notReloaded") is True
    finally:
        panel.kill()


def test_a_connection_that_is_dead_is_told(login: Login, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A panel that hangs closes no connection. After 40 s of silence the page says so."""
    panel = PanelProcess(tmp_path_factory.mktemp("hangs"), fake_engine="1")
    panel.start()
    process = panel._process
    assert process is not None
    try:
        page = login(panel)
        page.clock.install()
        page.goto("/vms")
        mark = page.locator("#live-state")
        expect(mark).to_have_attribute("data-state", "live")
        os.kill(process.pid, signal.SIGSTOP)
        page.clock.fast_forward(50_000)
        expect(mark).to_have_attribute("data-state", "reconnecting")
        os.kill(process.pid, signal.SIGCONT)
        expect(mark).to_have_attribute("data-state", "live", timeout=30_000)
    finally:
        os.kill(process.pid, signal.SIGCONT)
        panel.kill()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_longer_words_move_no_column(panel: PanelProcess, login: Login, language: str) -> None:
    """Of the dashboard's hosts: seen a while ago, as on a busy machine, and many VMs."""
    page = login(panel, viewport=WIDE, language=language)
    page.goto("/")
    moved = page.evaluate("""() => {
        const row = document.querySelector("#host-rows tr");
        const places = () => JSON.stringify([...row.children].map((cell) => cell.getBoundingClientRect().x));
        const before = places();
        const ago = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto", style: "short" });
        const seen = row.querySelector(".cell-state time"), count = row.querySelector(".cell-running");
        const words = count.textContent;
        const moved = [];
        for (const change of [
            () => (seen.textContent = ago.format(-59, "second")), () => (seen.textContent = ago.format(-59, "minute")),
            () => (count.textContent = words.replaceAll(/\\d+/g, "9")),
            () => (count.textContent = words.replaceAll(/\\d+/g, "1000")),
        ]) {
            change();
            if (places() !== before) moved.push(row.innerText);
        }
        return moved;
    }""")
    assert moved == []


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("path", ["/", "/hosts", "/hosts/host1", "/network"])
def test_nothing_jumps(panel: PanelProcess, login: Login, path: str, viewport: dict[str, int]) -> None:
    """A VM is stopped and started, numbers and bars change, a task begins and ends: no element moves by itself."""
    page = login(panel, viewport=viewport)
    page.add_init_script(WATCH + JUMPS)
    power(panel, "vm-0003", "running")
    page.goto(path)
    expect(page.locator("#live-state")).to_have_attribute("data-state", "live")
    page.evaluate("""() => {
        window.jumps.length = 0;
        window.since = performance.now();
        document.addEventListener("htmx:sseMessage", () => window.changes++);
    }""")
    for state in ("stopped", "running"):
        page.evaluate("window.changes = 0")
        power(panel, "vm-0003", state)
        page.wait_for_function("() => window.changes >= 1")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("window.jumps") == []
