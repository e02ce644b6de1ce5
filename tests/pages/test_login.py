"""Coming in, going out, and what a stranger cannot do."""

from __future__ import annotations

import pytest
from quart import Quart

from panel.models import Session
from panel.services.container import Services
from panel.settings import Settings
from panel.web import SESSION_COOKIE
from tests.pages.conftest import Browser


async def test_login_sets_a_careful_cookie(stranger: Browser) -> None:
    """HttpOnly, SameSite, not the session's id; a second login is another session and ends the first."""
    response = await stranger.client.post("/login", form={"token": stranger.token})
    assert response.status_code == 303
    cookie = response.headers["Set-Cookie"]
    assert cookie.startswith(f"{SESSION_COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    first = await Session.first()
    assert first is not None
    assert first.id not in cookie
    await stranger.client.post("/login", form={"token": stranger.token})
    assert await Session.all().count() == 1
    assert not await Session.exists(id=first.id)


async def test_login_by_json(stranger: Browser, token: str) -> None:
    """Programs get the envelope."""
    response = await stranger.client.post("/login", json={"token": token})
    assert response.status_code == 200
    assert await response.get_json() == {"code": 200, "msg": "success", "data": {}}
    assert SESSION_COOKIE in response.headers["Set-Cookie"]
    for body, status in (({"token": "wrong"}, 401), ({}, 400), ([], 400), ({"token": 1}, 400)):
        response = await stranger.client.post("/login", json=body)
        assert response.status_code == status
        assert (await response.get_json())["code"] == status


async def test_wrong_token_and_lockout(stranger: Browser, settings: Settings) -> None:
    """The page says why; after too many, how long to wait, also to the right token."""
    for _attempt in range(settings.login_attempts):
        await stranger.post("/login", token="wrong-token", csrf=False)
        assert stranger.status == 401
        assert "This is not the access token" in stranger.text
        assert "wrong-token" not in stranger.html
    response = await stranger.post("/login", token=stranger.token, csrf=False)
    assert stranger.status == 429
    assert "Too many failed logins" in stranger.text
    assert int(response.headers["Retry-After"]) > 0


async def test_logout(browser: Browser) -> None:
    """The session is gone, not only the cookie."""
    await browser.get("/")
    cookie = next(iter(browser.client.cookie_jar))
    await browser.post("/logout")
    assert browser.path.endswith("/login")
    assert await Session.all().count() == 0
    response = await browser.client.get("/", headers={"Cookie": f"{SESSION_COOKIE}={cookie.value}"})
    assert response.status_code in {302, 303}


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "/\tx", "/ //evil",
     "http:evil.example", "vms", "/\r\nSet-Cookie: a=b", "/" + "a" * 3000],
)  # fmt: skip
async def test_no_open_redirect(stranger: Browser, target: str) -> None:
    """``next`` leads into this panel or to the dashboard."""
    for path, form in (
        ("/login", {"token": stranger.token, "next": target}),
        ("/preferences/theme", {"theme": "dark", "next": target}),
    ):
        client = stranger.client.app.test_client()
        response = await client.post(path, form=form)
        assert response.status_code == 303
        assert response.headers["Location"] == "/"


async def test_next_leads_back(stranger: Browser) -> None:
    """To the page that was asked for, with its query."""
    await stranger.get("/vms?state=running&page=2")
    assert "/login?next=" in stranger.path
    assert 'value="/vms?state=running&amp;page=2"' in stranger.html
    response = await stranger.client.post("/login", form={"token": stranger.token, "next": "/vms?state=running&page=2"})
    assert response.headers["Location"] == "/vms?state=running&page=2"


async def test_csrf_is_required(browser: Browser, services: Services) -> None:
    """No action without the session's token, or from another site."""
    for path in ("/logout", "/settings/token/reset", "/hosts/new", "/vms/new", "/preferences/language"):
        assert (await browser.client.post(path, form={})).status_code == 403, path
        wrong = {"csrf_token": "wrong"}
        assert (await browser.client.post(path, form=wrong)).status_code == 403, path
    await browser.get("/")
    foreign = await browser.client.post(
        "/settings/token/reset", form={"csrf_token": browser.csrf}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert await services.access.token() == browser.token
    header = await browser.client.post("/logout", headers={"X-CSRF-Token": browser.csrf})
    assert header.status_code == 303


async def test_actions_of_strangers(app: Quart, token: str) -> None:
    """People are sent to the login, programs and htmx get 401."""
    client = app.test_client()
    response = await client.post("/settings/token/reset")
    assert (response.status_code, response.headers["Location"]) == (303, "/login?next=/settings")
    assert (await client.post("/settings/token/reset", headers={"HX-Request": "true"})).status_code == 401
    assert (await client.post("/settings/token/reset", headers={"Accept": "application/json"})).status_code == 401
    assert (await client.get("/events?topics=hosts")).status_code == 401


async def test_preferences(stranger: Browser) -> None:
    """Language and theme are kept, with and without a login; nonsense is not."""
    await stranger.get("/login")
    await stranger.post("/preferences/language", lang="zh", next="/login")
    assert '<html lang="zh-CN"' in stranger.html
    await stranger.post("/preferences/theme", theme="dark", next="/login")
    assert 'data-theme="dark"' in stranger.html
    await stranger.post("/preferences/theme", theme="pink", next="/login")
    assert 'data-theme="dark"' in stranger.html
    await stranger.login()
    await stranger.get("/hosts")
    await stranger.post("/preferences/language", lang="en", next="/hosts")
    assert '<html lang="en"' in stranger.html
    assert stranger.path == "/hosts"


async def test_token_settings(browser: Browser, services: Services, app: Quart) -> None:
    """A bad token is refused beside its field; a new one is shown once; the one who changes it stays."""
    await browser.get("/settings")
    await browser.post("/settings/token", token="short")
    assert browser.status == 400
    assert 'id="token-error"' in browser.html
    await browser.post("/settings/token/reset")
    assert await services.access.token() in browser.html
    await browser.get("/settings")
    assert await services.access.token() not in browser.html
    await browser.post("/settings/token", token="another-token")
    assert "was replaced" in browser.text
    assert await services.access.token() == "another-token"
    await browser.post("/settings/configuration/save")
    assert "Saved the configuration as configuration.json" in browser.text
    await browser.post("/settings/configuration/load")
    assert "Loaded 0 hosts and 0 VMs" in browser.text
