"""Every page answers, in both languages, for people who are logged in, and tells strangers to log in."""

from __future__ import annotations

import pytest

from panel.engines.fake.world import FakeWorld
from panel.models import Task
from panel.services.container import Services
from tests.pages.conftest import Browser

PAGES = [
    "/", "/vms", "/vms/new", "/vms?q=vm-0001", "/vms?q=nothing-like-it", "/hosts", "/hosts/new", "/hosts/new?engine=fake",
    "/hosts/alpha", "/hosts/alpha?tab=images", "/hosts/alpha?tab=tasks", "/hosts/alpha?tab=settings",
    "/hosts/alpha/vms/vm-0001", "/hosts/alpha/vms/vm-0001?tab=settings", "/hosts/alpha/vms/vm-0001?tab=tasks",
    "/tasks", "/tasks?status=failed", "/logs", "/logs?level=error", "/settings", "/docs", "/hosts/alpha?tab=nonsense",
    "/vms/bulk?action=stop&vm=1&vm=4&vm=99",
]  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_every_page_answers(browser: Browser, alpha: FakeWorld, language: str) -> None:
    """200, in the reader's language, with a title and no leftovers of a template."""
    task = await Task.first()
    assert task is not None
    for path in [*PAGES, f"/tasks/{task.id}"]:
        await browser.get(path, **{"Accept-Language": language})
        assert browser.status == 200, f"{path}: {browser.text[:500]}"
        assert f'<html lang="{"zh-CN" if language == "zh" else "en"}"' in browser.html
        assert "{{" not in browser.html, path
        assert "<title> · OpenIDCS" not in browser.html, path
        assert 'style="' not in browser.html, path
        assert "<script>" not in browser.html, path


async def test_empty_panel(browser: Browser) -> None:
    """Without hosts, pages say what to do first."""
    for path in ("/", "/vms", "/vms/new", "/hosts"):
        await browser.get(path)
        assert browser.status == 200
        assert "No hosts yet" in browser.text, path
        assert 'href="/hosts/new"' in browser.html, path


async def test_strangers_log_in_first(stranger: Browser, alpha: FakeWorld) -> None:
    """Each page leads to the login, and back."""
    for path in PAGES:
        response = await stranger.client.get(path)
        assert response.status_code in {302, 303}, path
        assert "/login?next=" in response.headers["Location"]
    response = await stranger.client.get("/vms", headers={"Accept": "application/json"})
    assert response.status_code == 401
    assert (await response.get_json())["code"] == 401


async def test_unknown_things_are_404(browser: Browser, alpha: FakeWorld) -> None:
    """A page that names what is not there."""
    for path, words in {
        "/hosts/nope": "There is no host nope",
        "/hosts/alpha/vms/nope": "There is no VM nope",
        "/tasks/nope": "There is no task nope",
        "/nope": "There is no such page",
    }.items():
        await browser.get(path)
        assert (browser.status, words in browser.text) == (404, True), browser.text[:300]


async def test_pages_never_change_anything_on_get(browser: Browser, alpha: FakeWorld, services: Services) -> None:
    """Actions take POST only."""
    for path in (
        "/logout",
        "/hosts/alpha/vms/vm-0001/power",
        "/hosts/alpha/delete",
        "/hosts/alpha/scan",
        "/settings/token",
    ):
        await browser.get(path)
        assert browser.status == 405, path
    assert await services.hosts.get("alpha")


async def test_pages_are_not_in_the_api(browser: Browser) -> None:
    """The description is of the API only."""
    response = await browser.client.get("/openapi.json")
    paths = (await response.get_json())["paths"]
    assert all(path.startswith("/api/") for path in paths), sorted(paths)
