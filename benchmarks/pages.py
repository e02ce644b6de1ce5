"""Weight and requests of each page in Chromium, with an empty cache and with a warm one."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import BrowserContext, Page, sync_playwright

from benchmarks.harness import Table
from benchmarks.site import Site, hosts_of
from tests.browser.conftest import CHROMIUM, FLAGS, WIDE

FIRST_KIB, NEXT_KIB = 150, 15
PATHS = {
    "login": "/login",
    "dashboard": "/",
    "VM list, 25 rows": "/vms",
    "VM list, 100 rows": "/vms?size=100",
    "VM": "/hosts/h001/vms/vm-0001",
    "VM, network": "/hosts/h001/vms/vm-0001?tab=network",
    "create": "/vms/new",
    "hosts": "/hosts",
    "host": "/hosts/h001",
    "tasks": "/tasks",
    "logs": "/logs",
    "settings": "/settings",
}


def measure() -> Table:
    """The table. What a page loads until ``load`` counts, headers too; its event stream does not end, and is not counted."""
    table = Table("pages", "Weight of pages")
    with Site(hosts_of(2, 100), clock=False) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        site.until_seen("h001")
        for name, path in PATHS.items():
            context = browser.new_context(viewport=WIDE, base_url=f"http://127.0.0.1:{site.port}")  # type: ignore[arg-type]
            if path != "/login":
                key, _equals, value = site.cookie.partition("=")
                context.add_cookies([{"name": key, "value": value, "url": f"http://127.0.0.1:{site.port}"}])
            first, again = _twice(context, path)
            context.close()
            table.add(f"{name}: first load", "KiB", first[0] / 1024, FIRST_KIB)
            table.add(f"{name}: first load", "requests", first[1])
            table.add(f"{name}: next load", "KiB", again[0] / 1024, None if "100" in name else NEXT_KIB)
            table.add(f"{name}: next load", "requests", again[1])
        browser.close()
    table.notes.append("Bytes on the wire, headers too. A list of 100 rows is beyond the 15 KiB of a page as it comes.")
    return table


def _twice(context: BrowserContext, path: str) -> list[tuple[int, int]]:
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    weights: list[int] = []
    network.on("Network.loadingFinished", lambda event: weights.append(int(event["encodedDataLength"])))
    found = []
    for _ in range(2):
        weights.clear()
        _open(page, path)
        sent = [weight for weight in weights if weight]  # what the cache gave weighs nothing
        found.append((sum(sent), len(sent)))
    return found


def _open(page: Page, path: str) -> Any:
    page.goto(path, wait_until="load")
    page.wait_for_timeout(500)
