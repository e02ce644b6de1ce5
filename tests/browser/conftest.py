"""Chromium, and panels for it to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess, proxy_settings

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}

expect.set_options(timeout=15_000)  # for a machine that also runs VMs


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless. Not for the session: Playwright's loop would be in the way of async tests."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def fake_panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel with two fake hosts, one of thirty VMs and one that refuses."""
    process = PanelProcess(tmp_path_factory.mktemp("fake-panel"), fake_engine="1", observe_seconds="0.5")
    process.start()
    process.ok(
        "POST",
        "/api/server/create",
        {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "one", "vms": "30"},
    )
    process.until("/api/server/status/host1", lambda status: status["seen_at"])
    process.ok("POST", "/api/client/scaner/host1")
    yield process
    process.stop()


@pytest.fixture(scope="module")
def site(demo_image: Path) -> Iterator[LibvirtSite]:
    """A place on this machine's libvirt, with the demo image."""
    made = LibvirtSite(demo_image, "Demo")
    yield made
    made.clean()


@pytest.fixture(scope="module")
def real_panel(site: LibvirtSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanelProcess]:
    """A panel with real libvirt as host ``local``. It serves domains."""
    process = PanelProcess(tmp_path_factory.mktemp("real-panel"), **proxy_settings())
    process.start()
    process.ok("POST", "/api/server/create", {"server_name": "local"} | site.host)
    process.until("/api/server/status/local", lambda status: status["seen_at"])
    yield process
    process.stop()


Login = Callable[..., Page]


@pytest.fixture
def login(chromium: Browser) -> Iterator[Login]:
    """``login(panel, javascript=True, language="en", viewport=WIDE)``: a page of a new browser that is logged in."""
    contexts: list[BrowserContext] = []

    def enter(
        panel: PanelProcess,
        *,
        javascript: bool = True,
        language: str = "en",
        viewport: dict[str, int] | None = None,
        scheme: str = "light",
    ) -> Page:
        context = chromium.new_context(
            java_script_enabled=javascript,
            locale="zh-CN" if language == "zh" else "en-US",
            viewport=viewport or WIDE,  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            base_url=panel.url,
        )
        contexts.append(context)
        page = context.new_page()
        page.goto("/login")
        page.fill("input[name=token]", panel.token)
        page.click("main button[type=submit], main form button:not([type=button])")
        page.wait_for_url(panel.url + "/")
        return page

    yield enter
    for context in contexts:
        context.close()
