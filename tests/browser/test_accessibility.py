"""No page breaks a rule of WCAG 2.0, 2.1 or 2.2, level A or AA, that axe-core can test: both themes, languages, widths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from scripts.screenshots import furnish
from tests.browser.conftest import NARROW, WIDE
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
RUN = """rules => axe.run(document, {runOnly: rules, resultTypes: ["violations"], preload: false})"""
VM = "/hosts/berlin/vms/web-1"
PAGES = (
    "/",
    "/vms",
    "/vms?q=nothing-is-called-this",
    "/vms/bulk/tags?way=add&vm=1&vm=2",
    VM,
    *(f"{VM}?tab={tab}" for tab in ("console", "hardware", "network", "snapshots", "tasks", "danger")),
    "/vms/new",
    "/hosts",
    "/hosts/berlin",
    "/hosts/lab",
    *(f"/hosts/berlin?tab={tab}" for tab in ("vms", "networks", "images", "settings", "tasks")),
    "/hosts/new",
    "/network",
    "/network/domains",
    "/network/addresses",
    "/tasks",
    "/logs",
    "/settings",
    "/console/berlin/web-1",
    "/console/berlin/web-1?kind=text",
    "/there-is-no-such-page",
)
WAYS = {
    "wide-light-en": (WIDE, "light", "en-US"),
    "narrow-dark-zh": (NARROW, "dark", "zh-CN"),
    "wide-dark-en": (WIDE, "dark", "en-US"),
    "narrow-light-zh": (NARROW, "light", "zh-CN"),
}


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PanelProcess, str]]:
    """A panel with something on every page, and the id of a task."""
    process = PanelProcess(tmp_path_factory.mktemp("furnished"), fake_engine="1")
    process.start()
    try:
        yield process, furnish(process)
    finally:
        process.stop()


def reader(chromium: Browser, panel: PanelProcess, way: str) -> BrowserContext:
    """A browser into which axe-core may be put: the policy against foreign scripts is lifted, animations rest."""
    viewport, scheme, locale = WAYS[way]
    context = chromium.new_context(
        viewport=viewport,  # type: ignore[arg-type]
        color_scheme=scheme,  # type: ignore[arg-type]
        locale=locale,
        base_url=panel.url,
        bypass_csp=True,
        reduced_motion="reduce",
    )
    context.add_init_script(AXE)
    return context


def broken(page: Page, where: str) -> list[str]:
    """The rules that the page breaks as it is now, each with the element and how to mend it."""
    found: dict[str, Any] = page.evaluate(RUN, RULES)
    return [
        f"{where}: {rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def go(page: Page, path: str) -> None:
    """Open a page at its whole height: what sticks to the window's foot lies over nothing then."""
    page.goto(path)
    at_whole_height(page)


def at_whole_height(page: Page) -> None:
    """A window as high as the page."""
    width, height = page.evaluate("[window.innerWidth, document.documentElement.scrollHeight]")
    page.set_viewport_size({"width": width, "height": max(height, 900)})


def log_in(page: Page, panel: PanelProcess) -> None:
    page.fill("input[name=token]", panel.token)
    page.keyboard.press("Enter")
    page.wait_for_url(panel.url + "/")


@pytest.mark.parametrize("way", ["wide-light-en", "narrow-dark-zh"])
def test_no_page_breaks_a_rule(chromium: Browser, furnished: tuple[PanelProcess, str], way: str) -> None:
    panel, task = furnished
    context = reader(chromium, panel, way)
    page = context.new_page()
    page.goto("/login")
    problems = broken(page, "/login")
    log_in(page, panel)
    for path in (*PAGES, f"/tasks/{task}"):
        go(page, path)
        problems += broken(page, path)
    context.close()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("way", ["wide-dark-en", "narrow-light-zh"])
def test_what_opens_breaks_none_either(chromium: Browser, furnished: tuple[PanelProcess, str], way: str) -> None:
    """The navigation, the reader's menu, a VM's menu, a dialog that asks, a toast."""
    panel, _task = furnished
    context = reader(chromium, panel, way)
    page = context.new_page()
    page.goto("/login")
    log_in(page, panel)
    go(page, "/vms")
    problems = broken(page, "/vms")
    go(page, VM)
    problems += broken(page, VM)
    openers = ['[popovertarget="user-menu"]', '[popovertarget$="-power"]']
    if way.startswith("narrow"):
        openers.append('[popovertarget="side"]')
    for opener in openers:
        page.click(opener)
        page.locator(":popover-open").wait_for()
        problems += broken(page, opener)
        page.keyboard.press("Escape")
    page.click('[popovertarget$="-power"]')
    page.click(":popover-open .menu-item.is-danger:enabled >> nth=0")
    page.locator("#confirm-dialog[open]").wait_for()
    problems += broken(page, "dialog")
    page.click("#confirm-dialog button[value=ok]")
    page.locator(".toast-item").wait_for()
    problems += broken(page, "toast")
    context.close()
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("way", WAYS)
def test_the_list_as_it_is_kept(chromium: Browser, furnished: tuple[PanelProcess, str], way: str) -> None:
    """Tags, a saved filter, every column, the menu of columns, and the form of tags with a mistake in it."""
    panel, _task = furnished
    context = reader(chromium, panel, way)
    page = context.new_page()
    page.goto("/login")
    log_in(page, panel)
    problems: list[str] = []
    for tags in ("prod, web, shop-frontend, rack-7, eu", "-wrong"):
        go(page, VM)
        page.click("#labels summary")
        page.fill("#tags", tags)
        page.fill("#notes", "Ask Li.")
        page.click("#labels button[type=submit]")
        page.locator("#tags-error" if tags == "-wrong" else "#labels .tag >> nth=0").wait_for()
        at_whole_height(page)
        problems += broken(page, f"labels {tags}")
    go(page, "/vms?tag=prod")
    problems += broken(page, "/vms?tag=prod")
    page.fill("#filter-name", "Production")
    page.click(".chip-save button")
    page.locator(".chip [aria-current]").wait_for()
    problems += broken(page, "saved")
    go(page, "/vms?columns=state.host.engine.addresses.image.cpu.history.memory.disk.tags.created")
    page.locator("#vm-rows .spark").first.wait_for(state="attached")  # on phones it is not shown
    problems += broken(page, "all columns")
    page.click('[popovertarget="vms-look"]')
    page.locator("#vms-look:popover-open").wait_for()
    problems += broken(page, "columns")
    page.keyboard.press("Escape")
    page.click(".chip button")
    page.locator(".chip").wait_for(state="detached")
    context.close()
    assert not problems, "\n".join(problems)


def test_axe_sees_what_is_broken(chromium: Browser, furnished: tuple[PanelProcess, str]) -> None:
    """The check itself works: a name taken away and a colour made faint are found."""
    panel, _task = furnished
    context = reader(chromium, panel, "wide-light-en")
    page = context.new_page()
    page.goto("/login")
    page.evaluate(
        "document.querySelector('label').style.color = '#ddd'; document.documentElement.removeAttribute('lang')"
    )
    problems = "\n".join(broken(page, "/login"))
    context.close()
    assert "color-contrast" in problems
    assert "html-has-lang" in problems


def test_motion_rests_for_whoever_asks(chromium: Browser, furnished: tuple[PanelProcess, str]) -> None:
    """``prefers-reduced-motion``: nothing is animated, of Tabler's or of ours."""
    panel, _task = furnished
    context = reader(chromium, panel, "wide-light-en")
    page = context.new_page()
    page.goto("/login")
    log_in(page, panel)
    page.goto("/vms")
    moving = page.evaluate(
        """() => [...document.querySelectorAll("*")].filter(each => {
            const style = getComputedStyle(each);
            return style.animationName !== "none" || style.transitionDuration.split(", ").some(s => parseFloat(s) > 0);
        }).map(each => each.outerHTML.slice(0, 120))"""
    )
    context.close()
    assert moving == []
