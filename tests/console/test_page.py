"""The console page: who may open it, how a link becomes a cookie, and what it leaves behind."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx2
import pytest

from panel.engines.types import PowerState
from panel.models import ConsoleTicket, Host
from panel.security import Actor, Source
from panel.services.access import token_credential
from panel.services.consoles import Purpose
from panel.web import SESSION_COOKIE
from tests.console.kit import Panel, make_vm, serve


@pytest.fixture
async def stranger(place: str):  # type: ignore[no-untyped-def]
    headers = {"Origin": f"http://{place}", "Accept": "text/html, application/json;q=0.9"}
    async with httpx2.AsyncClient(base_url=f"http://{place}", headers=headers) as client:
        client.event_hooks["request"].append(ask_for_json)
        yield client


async def ask_for_json(request: httpx2.Request) -> None:
    """As the page's script does."""
    if request.url.path.endswith(("/ticket", "/state")):
        request.headers["Accept"] = "application/json"


@pytest.fixture
async def member(panel: Panel, stranger: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The same with the login's cookie and CSRF token."""
    stranger.headers["Cookie"] = f"{SESSION_COOKIE}={panel.cookie}"
    stranger.headers["X-CSRF-Token"] = panel.session.csrf
    return stranger


async def link(panel: Panel) -> str:
    """A page ticket as ``GET /api/client/remote`` gives it to a program."""
    credential = token_credential(await panel.services.access.token())
    return await panel.consoles.issue(Actor("admin", Source.API, credential=credential), panel.vm, Purpose.PAGE)


async def enter(panel: Panel, client: httpx2.AsyncClient) -> None:
    answer = await client.get(panel.path, params={"ticket": await link(panel)})
    assert answer.status_code == 303
    assert urlsplit(answer.headers["Location"]).path == panel.path
    assert not urlsplit(answer.headers["Location"]).query
    client.cookies.update(answer.cookies)


async def test_a_login_sees_the_page(panel: Panel, member: httpx2.AsyncClient) -> None:
    answer = await member.get(panel.path)
    assert answer.status_code == 200
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert f'data-socket-url="{panel.path}/socket"' in answer.text
    assert 'data-power="stop"' in answer.text


async def test_the_page_has_no_inline_script_or_style(panel: Panel, member: httpx2.AsyncClient) -> None:
    answer = await member.get(panel.path)
    assert answer.status_code == 200
    text = answer.text
    assert "style=" not in text
    assert "<style" not in text
    assert "javascript:" not in text
    assert all("src=" in part.split(">")[0] for part in text.split("<script")[1:])


async def test_a_stranger_is_sent_to_the_login_whether_the_vm_exists_or_not(
    panel: Panel, stranger: httpx2.AsyncClient
) -> None:
    for path in [panel.path, "/console/demo/none"]:
        answer = await stranger.get(path)
        assert answer.status_code in {302, 303}
        assert urlsplit(answer.headers["Location"]).path == "/login"
        assert (await stranger.post(path + "/ticket")).status_code == 401
        assert (await stranger.get(path + "/state")).status_code == 401


async def test_a_link_becomes_a_cookie_for_this_console_only(panel: Panel, stranger: httpx2.AsyncClient) -> None:
    ticket = await link(panel)
    answer = await stranger.get(panel.path, params={"ticket": ticket})
    cookie = answer.headers["Set-Cookie"]
    assert f"Path={panel.path}" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie  # plain http
    assert ticket not in cookie
    stranger.cookies.update(answer.cookies)
    page = await stranger.get(panel.path)
    assert page.status_code == 200
    assert "data-power=" not in page.text
    assert ticket not in page.text
    given = (await stranger.post(f"{panel.path}/ticket")).json()
    assert (given["code"], given["data"]["expires_in"]) == (200, 60)
    held = await panel.consoles.spend(given["data"]["ticket"], Purpose.SOCKET, panel.vm)
    assert held.actor.source is Source.API


async def test_the_cookie_is_secure_over_tls(panel: Panel) -> None:
    async with (
        serve(panel.app, proxy_headers=True, forwarded_allow_ips="127.0.0.1") as place,
        httpx2.AsyncClient(base_url=f"http://{place}", headers={"X-Forwarded-Proto": "https"}) as client,
    ):
        answer = await client.get(panel.path, params={"ticket": await link(panel)})
    assert "Secure" in answer.headers["Set-Cookie"]


async def test_a_link_opens_once(panel: Panel, stranger: httpx2.AsyncClient) -> None:
    ticket = await link(panel)
    assert (await stranger.head(panel.path, params={"ticket": ticket})).status_code == 204  # a preview spends nothing
    assert (await stranger.get(panel.path, params={"ticket": ticket})).status_code == 303
    stranger.cookies.clear()
    answer = await stranger.get(panel.path, params={"ticket": ticket})
    assert answer.status_code == 401
    assert ticket not in answer.text


async def test_a_used_link_of_somebody_who_is_in_is_a_reload(panel: Panel, stranger: httpx2.AsyncClient) -> None:
    ticket = await link(panel)
    stranger.cookies.update((await stranger.get(panel.path, params={"ticket": ticket})).cookies)
    answer = await stranger.get(panel.path, params={"ticket": ticket})
    assert answer.status_code == 303
    assert "Set-Cookie" not in answer.headers


async def test_a_grant_opens_no_other_vm(panel: Panel, stranger: httpx2.AsyncClient) -> None:
    other = panel.world.add_foreign("other", PowerState.RUNNING)
    await make_vm(panel.host, "other", other.ref)
    await enter(panel, stranger)
    cookie = "; ".join(f"{name}={value}" for name, value in stranger.cookies.items())
    for method, path in [("GET", ""), ("POST", "/ticket"), ("GET", "/state")]:
        answer = await stranger.request(method, f"/console/demo/other{path}", headers={"Cookie": cookie})
        assert answer.status_code in {302, 303, 401}


async def test_a_grant_ends_with_the_token(panel: Panel, stranger: httpx2.AsyncClient) -> None:
    await enter(panel, stranger)
    assert (await stranger.post(f"{panel.path}/ticket")).status_code == 200
    await panel.services.access.reset_token(panel.actor)
    assert (await stranger.post(f"{panel.path}/ticket")).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_tickets_are_for_our_own_pages(panel: Panel, stranger: httpx2.AsyncClient, origin: str) -> None:
    await enter(panel, stranger)
    answer = await stranger.post(f"{panel.path}/ticket", headers={"Origin": origin})
    assert answer.status_code == 403
    assert await ConsoleTicket.filter(purpose=Purpose.SOCKET).count() == 0


async def test_a_login_needs_its_csrf_token(panel: Panel, member: httpx2.AsyncClient) -> None:
    assert (await member.post(f"{panel.path}/ticket")).status_code == 200
    assert (await member.post(f"{panel.path}/ticket", headers={"X-CSRF-Token": "wrong"})).status_code == 403


async def test_the_state(panel: Panel, member: httpx2.AsyncClient) -> None:
    await panel.set_state(PowerState.STOPPED)
    answer = await member.get(f"{panel.path}/state")
    data = answer.json()["data"]
    assert data["state"] == "stopped"
    assert data["power"]["start"] is None
    assert "not possible" in data["power"]["stop"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_disabled_host_says_so(panel: Panel, member: httpx2.AsyncClient) -> None:
    await Host.filter(id=panel.host.id).update(enabled=False)
    answer = await member.post(f"{panel.path}/ticket")
    assert answer.status_code == 409
    assert "disabled" in answer.json()["msg"]
