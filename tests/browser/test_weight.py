"""What a browser with an empty cache downloads, as the server sends it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import WIDE
from tests.process import PanelProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

FIRST_PAGE = 150 * 1024  # bytes on the wire, headers too: login, dashboard, all that they load


def test_the_first_pages_are_light(chromium: Browser, fake_panel: PanelProcess) -> None:
    """The next page loads no asset again. The stream of live changes does not end, and is not counted."""
    context = chromium.new_context(viewport=WIDE, base_url=fake_panel.url)  # type: ignore[arg-type]
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    urls: dict[str, str] = {}
    weights: list[tuple[int, str]] = []

    def sent(event: dict[str, Any]) -> None:
        urls[event["requestId"]] = event["request"]["url"]
        if "redirectResponse" in event:
            weights.append((int(event["redirectResponse"]["encodedDataLength"]), event["redirectResponse"]["url"]))

    network.on("Network.requestWillBeSent", sent)
    network.on(
        "Network.loadingFinished",
        lambda event: weights.append((int(event["encodedDataLength"]), urls.get(event["requestId"], ""))),
    )
    page.goto("/login", wait_until="load")
    page.fill("input[name=token]", fake_panel.token)
    page.keyboard.press("Enter")
    page.wait_for_url(fake_panel.url + "/", wait_until="load")
    page.wait_for_timeout(300)
    told = "\n".join(f"{weight:8} {url}" for weight, url in weights)
    for part in ("/login", "tabler.min.css", "htmx.min.js", "icons.svg"):
        assert any(part in url and weight for weight, url in weights), f"{part}\n{told}"
    assert sum(weight for weight, _url in weights) <= FIRST_PAGE, told
    weights.clear()
    page.goto("/hosts", wait_until="load")
    page.wait_for_timeout(300)
    context.close()
    assert [url for weight, url in weights if "/assets/" in url and weight] == []
    assert any(url.endswith("/hosts") and weight for weight, url in weights)
