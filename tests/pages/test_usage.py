"""Usage over time on the pages of a VM and of a host: numbers without JavaScript, links of the spans, and its weight."""

from __future__ import annotations

import gzip
import re
from datetime import UTC, datetime

import pytest

from panel.engines.fake.world import FakeWorld
from panel.models import VmMetrics
from panel.web import STATIC
from tests.pages.conftest import Browser, vm_named
from tests.services import history

FIRST_PAGE = 150 * 1024  # bytes, compressed: issue 4


async def test_a_vm_without_history(alpha: FakeWorld, browser: Browser) -> None:
    await browser.get("/hosts/alpha/vms/vm-0003")
    assert browser.html.count('class="chart"') == 4
    assert "Usage over time" in browser.text


async def test_numbers_without_javascript(alpha: FakeWorld, browser: Browser) -> None:
    vm = await vm_named("vm-0003")
    await VmMetrics.filter(vm_id=vm.id).delete()
    await VmMetrics.bulk_create(
        [
            VmMetrics(vm_id=vm.id, step_seconds=step, slot=slot, start=start, points=points)
            for step, slot, start, points in history.rows(int(datetime.now(UTC).timestamp()))
        ]
    )
    for span in ("1h", "24h", "7d"):
        await browser.get(f"/hosts/alpha/vms/vm-0003?range={span}")
        row = re.search(r'data-field="cpu_percent".*?</tr>', browser.html, re.DOTALL)
        assert row
        assert re.search(r'data-number="highest">(79|80)%<', row[0])
        assert re.search(rf'data-span="{span}" aria-current="true"', browser.html)
    await browser.get("/hosts/alpha/vms/vm-0003?range=nonsense")
    assert browser.status == 200
    assert 'data-span="1h" aria-current="true"' in browser.html


@pytest.mark.parametrize("path", ["/hosts/alpha", "/hosts/alpha/vms/vm-0003"])
async def test_charts_are_loaded_where_they_are_shown(alpha: FakeWorld, browser: Browser, path: str) -> None:
    await browser.get(path)
    assert "uplot.min.js" in browser.html
    assert "js/charts.js" in browser.html
    for other in (f"{path}?tab=tasks", "/vms", "/"):
        await browser.get(other)
        assert "uplot" not in browser.html, other


async def test_the_page_with_charts_is_light_enough(alpha: FakeWorld, browser: Browser) -> None:
    await browser.get("/hosts/alpha/vms/vm-0003")
    parts = re.findall(r'(?:src|href)="/assets/\w+/([^"#]+)', browser.html)
    total = len(gzip.compress(browser.html.encode())) + sum(
        len(gzip.compress((STATIC / part).read_bytes(), 9)) for part in set(parts)
    )
    assert total <= FIRST_PAGE, f"{total / 1024:.0f} KiB"


async def test_it_speaks_chinese(alpha: FakeWorld, browser: Browser) -> None:
    browser.headers["Accept-Language"] = "zh-CN"
    await browser.get("/hosts/alpha")
    assert "用量变化" in browser.text
    assert "各虚拟机之和" in browser.text
