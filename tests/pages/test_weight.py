"""Pages are small and compressed; assets are named by their content and kept for a year."""

from __future__ import annotations

import gzip
import random
import re

import pytest
from quart import Quart

from panel import web
from panel.engines.types import EngineKind
from panel.models import Host, Vm
from panel.security import PANEL
from panel.services.container import Services
from panel.services.hosts import HostRequest
from tests.pages.conftest import Browser

NEXT_PAGE = 15 * 1024  # bytes of compressed HTML, and of what its scripts fetch
FIRST_PAGE = 150 * 1024  # with all that it loads
HEADERS = 500  # bytes, of each answer
ACCEPT = {"Accept-Encoding": "gzip, br"}


@pytest.fixture
async def many(services: Services) -> None:
    """Host ``many`` with 60 VMs."""
    await services.hosts.create(PANEL, "many", HostRequest(EngineKind.FAKE, address="many", options={"vms": "60"}))
    task = await services.vms.scan(PANEL, await services.hosts.get("many"))
    assert (await services.tasks.wait(task.id, 10)).status == "succeeded"


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("/vms?size=50", 50),
        ("/vms/new", 0),
        *((f"/hosts/many/vms/vm-0003?tab={tab}", 0) for tab in ("network", "settings", "tasks")),
    ],
)
async def test_a_next_page_is_light(many: None, browser: Browser, path: str, rows: int) -> None:
    response = await browser.client.get(path, headers=ACCEPT)
    packed = await response.get_data(as_text=False)
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(re.findall(r'<tr id="vm-\d+"', gzip.decompress(packed).decode())) == rows
    assert len(packed) <= NEXT_PAGE, f"{len(packed)} bytes"


@pytest.mark.parametrize(
    "path",
    ["/", "/vms", "/vms/new", "/vms/new?host=many", "/hosts", "/hosts/new", "/network", "/tasks", "/logs",
     "/settings", "/vms/bulk?action=stop&vm=1&vm=2",
     *(f"/hosts/many{tab}" for tab in ("", "?tab=vms", "?tab=images", "?tab=networks", "?tab=settings")),
     *(f"/hosts/many/vms/vm-0003{tab}" for tab in
       ("", "?tab=console", "?tab=hardware", "?tab=network", "?tab=tasks", "?tab=danger"))],
)  # fmt: skip
async def test_every_page_is_light(many: None, browser: Browser, services: Services, path: str) -> None:
    """The first with an empty cache, its charts full; the next."""
    await full_history(services)
    page = await weight(browser, path)
    await browser.get(path)
    assert browser.status == 200
    links = set(re.findall(r'<(?:script|link|img)[^>]*?(?:src|href)="(/assets/[^"#]+)', browser.html))
    links |= set(re.findall(r'href="(/assets/[^"#]+icons\.svg)#', browser.html))
    data = [
        f"{url}?range={span}" for url, span in re.findall(r'data-url="(/api/[^"]+)" data-span="(\w+)"', browser.html)
    ]
    parts = {link: await weight(browser, link) for link in sorted(links)}
    fetched = {url: await weight(browser, url) for url in data}
    assert page + sum(fetched.values()) <= NEXT_PAGE, fetched
    assert page + sum(fetched.values()) + sum(parts.values()) <= FIRST_PAGE, parts | fetched


async def full_history(services: Services) -> None:
    """An hour of numbers that look like measured ones, of every VM and host."""
    numbers = random.Random(7)
    vms, host = await Vm.all(), await Host.get(name="many")
    real = services.metrics._clock
    for number in range(360):
        services.metrics._clock = lambda number=number: real() - 3600 + 10 * number
        for vm in vms[:3]:
            vm.cpu_percent, vm.memory_used_mib = 100 * numbers.random(), numbers.randrange(4096)
            vm.rates = {name: 1e7 * numbers.random() for name in ("disk_read", "disk_write", "net_rx", "net_tx")}
        services.metrics.vms_seen(host.id, vms[:3])
        services.metrics.host_seen(host)
    services.metrics._clock = real


async def weight(browser: Browser, url: str) -> int:
    """Bytes on the wire, about."""
    response = await browser.client.get(url, headers=ACCEPT)
    assert response.status_code == 200, url
    return HEADERS + len(await response.get_data(as_text=False))


@pytest.mark.parametrize("wanted", ["", "br", "identity", "gzip;q=0"])
async def test_nobody_gets_gzip_who_does_not_take_it(browser: Browser, wanted: str) -> None:
    await browser.get("/")
    for path in ("/", web_asset(browser.html)):
        response = await browser.client.get(path, headers={"Accept-Encoding": wanted})
        assert "Content-Encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["Vary"]
        assert (await response.get_data(as_text=False))[:2] != b"\x1f\x8b"


def web_asset(html: str) -> str:
    found = re.search(r'href="(/assets/\w+/css/panel\.css)"', html)
    assert found
    return found[1]


@pytest.mark.parametrize(
    "path", ["/", "/login", "/vms", "/hosts/many", "/hosts/many/vms/vm-0003", "/settings", "/vms/new", "/docs"]
)
async def test_assets_are_named_by_their_content(many: None, browser: Browser, path: str) -> None:
    """Every one on the page, and it may be kept for a year; an old name is not kept."""
    await browser.get(path)
    links = set(re.findall(r'(?:<(?:script|link|img|use)[^>]*?(?:src|href))="([^"#]+)', browser.html))
    assert links
    for link in links:
        if "/screen/picture?" in link:
            continue  # no asset: the screen of a VM, for whoever has no JavaScript; tests/pages/test_vm_page.py holds it
        assert link.startswith(f"/assets/{web.assets_digest()}/"), link
        response = await browser.client.get(link, headers=ACCEPT)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Content-Encoding"] == "gzip", link
        assert gzip.decompress(await response.get_data(as_text=False))
    old = await browser.client.get("/assets/000000000000/css/panel.css")
    assert old.headers["Cache-Control"] == "no-cache"


async def test_an_asset_is_compressed_once(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    real = gzip.compress

    def counted(data: bytes, *args: int, **kwargs: int) -> bytes:
        done.append(len(data))
        return real(data, *args, **kwargs)

    monkeypatch.setattr(gzip, "compress", counted)
    web._asset_bytes.cache_clear()
    client, path = app.test_client(), f"/assets/{web.assets_digest()}/vendor/tabler.min.css"
    for _ in range(5):
        assert (await client.get(path, headers=ACCEPT)).headers["Content-Encoding"] == "gzip"
    assert len(done) == 1


async def test_no_two_pages_have_the_same_token(browser: Browser) -> None:
    """A compressed page must not tell its CSRF token by its length; each of the tokens works."""
    tokens = []
    for _ in range(3):
        await browser.get("/settings")
        tokens.append(browser.csrf)
    assert len(set(tokens)) == 3
    for token in tokens:
        form = {"theme": "dark", "csrf_token": token}
        assert (await browser.client.post("/preferences/theme", form=form)).status_code == 303
        broken = {"theme": "dark", "csrf_token": "A" + token[1:] if token[0] != "A" else "B" + token[1:]}
        assert (await browser.client.post("/preferences/theme", form=broken)).status_code == 403
