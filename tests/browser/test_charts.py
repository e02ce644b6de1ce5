"""Usage over time in a real browser: charts with data on them, spans without a reload, both themes, narrow and wide."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Login
from tests.process import PanelProcess
from tests.services import history

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

GAP = range(1000, 1500)  # seconds before now
PAGES = ("/hosts/host1/vms/vm-0001", "/hosts/host1")


@pytest.fixture(scope="module")
def written() -> float:
    """When the history was laid down: the gap moves on from then."""
    return time.time()


@pytest.fixture(scope="module")
def panel(fake_panel: PanelProcess, written: float) -> PanelProcess:
    """A panel whose first VM and host have a full history, with a gap in the last hour."""
    with closing(sqlite3.connect(fake_panel.folder / "data/panel.sqlite3", timeout=20)) as database, database:
        vm_id, host_id = database.execute("SELECT id, host_id FROM vm WHERE name = 'vm-0001'").fetchone()
        for table, column, owner in (("vm_metrics", "vm_id", vm_id), ("host_metrics", "host_id", host_id)):
            database.execute(f"DELETE FROM {table} WHERE {column} = ?", (owner,))
            database.executemany(
                f"INSERT INTO {table} ({column}, step_seconds, slot, start, points) VALUES ({owner}, ?, ?, ?, ?)",
                history.rows(int(written), GAP),
            )
    return fake_panel


def drawn(page: Page, place: int) -> set[tuple[int, int, int]]:
    """The strong colours on a chart."""
    image = Image.open(BytesIO(page.locator(".chart-plot").nth(place).screenshot())).convert("RGB")
    found = image.getcolors(1 << 20) or []
    return {colour for count, colour in found if count > 5 and max(colour) - min(colour) > 90}  # type: ignore[misc,arg-type]


def shown(page: Page, span: str) -> None:
    expect(page.locator(f"#usage[data-shown='{span}']")).to_be_visible(timeout=15_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_charts_are_drawn(panel: PanelProcess, login: Login, path: str, scheme: str) -> None:
    page = login(panel, scheme=scheme)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path)
    shown(page, "1h")
    expect(page.locator(".chart-plot canvas")).to_have_count(4)
    for place in range(4):
        assert drawn(page, place), f"chart {place} is blank"
    assert problems == []  # the Content-Security-Policy would complain here


def test_a_gap_is_a_gap(panel: PanelProcess, login: Login, written: float) -> None:
    page = login(panel)
    page.goto(PAGES[0])
    shown(page, "1h")
    image = Image.open(BytesIO(page.locator(".chart-plot").first.screenshot())).convert("RGB")
    left, right = 74, image.width - 12  # the axis, and the padding
    strong = [
        any(max(pixel) - min(pixel) > 90 for y in range(image.height) if (pixel := image.getpixel((x, y))))  # type: ignore[arg-type,type-var]
        for x in range(left, right)
    ]
    empty = [place / len(strong) for place, is_drawn in enumerate(strong) if not is_drawn]
    middle = 1 - ((GAP.start + GAP.stop) / 2 + time.time() - written) / 3600
    assert any(abs(place - middle) < 0.02 for place in empty), empty
    assert not any(0.1 < place < 0.5 for place in empty), empty


def test_spans_switch_without_a_reload(panel: PanelProcess, login: Login) -> None:
    page = login(panel)
    page.goto(PAGES[0])
    shown(page, "1h")
    page.evaluate("window.notReloaded = true")
    heights = page.evaluate("document.querySelector('#usage').offsetHeight")
    for label, span in (("24 hours", "24h"), ("7 days", "7d"), ("1 hour", "1h")):
        page.locator("#usage").get_by_role("link", name=label).click()
        shown(page, span)
        assert page.url.endswith(f"range={span}")
        assert drawn(page, 0)
        expect(page.locator("#usage a[aria-current]")).to_have_text(label)
        expect(page.locator("[data-field=cpu_percent] [data-number=highest]")).to_have_text("80%")
    assert page.evaluate("window.notReloaded") is True
    assert page.evaluate("document.querySelector('#usage').offsetHeight") == heights


def test_it_fits_a_phone_and_follows_the_window(panel: PanelProcess, login: Login) -> None:
    page = login(panel, viewport=NARROW, language="zh")
    page.goto(PAGES[0])
    shown(page, "1h")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    page.wait_for_function("[...document.querySelectorAll('.uplot')].every((e) => e.clientWidth > 420)")
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.wait_for_function("[...document.querySelectorAll('.uplot')].every((e) => e.clientWidth < 390)")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_a_hidden_tab_asks_for_nothing(panel: PanelProcess, login: Login) -> None:
    page = login(panel)
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/metrics/" in request.url else None)
    page.goto(PAGES[0])
    shown(page, "1h")
    page.evaluate("delete document.querySelector('#usage').dataset.shown")
    page.clock.run_for(11_000)
    shown(page, "1h")
    assert len(asked) >= 2
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    before = len(asked)
    page.clock.run_for(60_000)
    assert len(asked) == before
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_function("document.querySelector('#usage').dataset.shown === '1h'")
    assert len(asked) == before + 1


def test_without_javascript_the_numbers_are_there(panel: PanelProcess, login: Login) -> None:
    page = login(panel, javascript=False)
    page.goto(PAGES[0])
    assert page.locator(".chart-plot canvas").count() == 0
    assert page.locator("[data-field=cpu_percent] [data-number=highest]").text_content() == "80%"
    page.locator("#usage").get_by_role("link", name="7 days").click()
    expect(page.locator("#usage")).to_have_attribute("data-span", "7d")
    assert page.locator("[data-field=net_rx_bytes_per_second] [data-number=highest]").text_content() == "3.8 MiB/s"
