"""A session's name is made at the login and dies with it: nobody can bring one along."""

from __future__ import annotations

from quart import Quart

from panel.models import Session
from panel.security import fingerprint
from panel.web import SESSION_COOKIE
from tests.pages.conftest import Browser

PLANTED = "planted-by-somebody-else-0123456789abcdef"


async def test_a_planted_cookie_does_not_become_the_session(app: Quart, token: str) -> None:
    client = app.test_client(use_cookies=False)
    headers = {"Cookie": f"{SESSION_COOKIE}={PLANTED}"}
    response = await client.post("/login", form={"token": token}, headers=headers)
    assert response.status_code == 303
    assert PLANTED not in response.headers["Set-Cookie"]
    assert not await Session.exists(id=fingerprint(PLANTED))
    assert (await client.get("/hosts", headers=headers)).status_code == 302


async def test_a_session_of_before_is_not_raised(app: Quart, browser: Browser) -> None:
    """Whoever knows the cookie of before the login does not know the one after it."""
    before = next(iter(browser.client.cookie_jar)).value
    await browser.client.post("/login", form={"token": browser.token})
    after = next(iter(browser.client.cookie_jar)).value
    assert before != after
    stranger = app.test_client(use_cookies=False)
    assert (await stranger.get("/hosts", headers={"Cookie": f"{SESSION_COOKIE}={before}"})).status_code == 302
    assert (await stranger.get("/hosts", headers={"Cookie": f"{SESSION_COOKIE}={after}"})).status_code == 200


async def test_the_address_line_carries_no_session(app: Quart, browser: Browser) -> None:
    cookie = next(iter(browser.client.cookie_jar)).value
    stranger = app.test_client(use_cookies=False)
    assert (await stranger.get(f"/hosts?{SESSION_COOKIE}={cookie}")).status_code == 302
