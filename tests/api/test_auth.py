"""Who may come in: tokens, sessions, lock-out, and browsers sent by other sites."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from quart import Quart

from panel.models import LoginFailure, Session
from panel.services.clock import now
from panel.services.container import Services
from panel.web import SESSION_COOKIE
from tests.api.examples import HERE, Route
from tests.conftest import ApiClient

HERE_ADDRESS = "192.0.2.7"


async def call(
    app: Quart, path: str = "/api/server/status", method: str = "GET", *, address: str = HERE_ADDRESS, **headers: str
) -> Any:
    """A request with these headers (``_`` for ``-``) from an address of its own: the response."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await app.test_client().open(path, method=method, headers=given, scope_base={"client": (address, 40000)})


async def log_in(services: Services) -> tuple[dict[str, str], Session]:
    cookie, session = await services.access.login(await services.access.token(), HERE_ADDRESS)
    return {"Cookie": f"{SESSION_COOKIE}={cookie}"}, session


def concrete(route: Route) -> str:
    return route.path.replace("<hs_name>", "host1").replace("<vm_uuid>", "vm-1")


async def test_every_route_but_upload_asks_who_it_is(app: Quart) -> None:
    for route in HERE:
        response = await call(app, concrete(route), route.method)
        answer = await response.get_json()
        if route.path == "/api/client/upload":
            assert response.status_code == 400
        else:
            assert (response.status_code, answer["code"], answer["data"]) == (401, 401, None), route.path
            assert "Authorization: Bearer" in answer["msg"]


WRONG = ("Bearer wrong-token", "Bearer ünï", "bearer  x", "Bearer", "Bearer ", "Basic YWRtaW46YWRtaW4=", "Token x", "")


async def test_a_wrong_token(app: Quart) -> None:
    for header in WRONG:
        response = await call(app, Authorization=header)
        assert (response.status_code, (await response.get_json())["code"]) == (401, 401), header


async def test_a_wrong_token_is_told_where_the_right_one_is(app: Quart) -> None:
    answer = await (await call(app, Authorization="Bearer wrong-token")).get_json()
    assert answer["msg"] == "This is not the access token. `openidcs token show` on the server prints it."


async def test_the_scheme_is_not_case_sensitive(app: Quart, token: str) -> None:
    assert (await call(app, Authorization=f"bearer {token}")).status_code == 200


async def test_many_failures_lock_their_address_out_and_only_it(app: Quart, token: str, services: Services) -> None:
    for _ in range(services.settings.login_attempts):
        assert (await call(app, Authorization="Bearer wrong-token")).status_code == 401
    for secret in ("wrong-token", token):
        response = await call(app, Authorization=f"Bearer {secret}")
        assert response.status_code == 429
        seconds = int(response.headers["Retry-After"])
        assert services.settings.login_wait - 5 < seconds <= services.settings.login_wait + 1
        assert f"{seconds} s" in (await response.get_json())["msg"], "header and message say the same"
    assert (await call(app, address="192.0.2.8", Authorization=f"Bearer {token}")).status_code == 200
    assert await LoginFailure.all().count() == services.settings.login_attempts, "a locked door counts no more knocks"


async def test_retry_after_is_honest(app: Quart, token: str, services: Services) -> None:
    wait = services.settings.login_wait
    for age in (10, 20, 30, 40, 50):
        await LoginFailure.create(address=HERE_ADDRESS, at=now() - timedelta(seconds=wait - age))
    response = await call(app, Authorization=f"Bearer {token}")
    assert response.status_code == 429
    assert 9 <= int(response.headers["Retry-After"]) <= 11, "when the oldest of them no longer counts"
    await LoginFailure.filter(at__lt=now() - timedelta(seconds=wait - 15)).delete()  # as 11 s later
    assert await LoginFailure.all().count() == 4
    assert (await call(app, Authorization=f"Bearer {token}")).status_code == 200


async def test_a_session_opens_the_api(app: Quart, services: Services) -> None:
    cookie, _session = await log_in(services)
    assert (await call(app, **cookie)).status_code == 200
    assert (await call(app, Cookie=f"{SESSION_COOKIE}=forged")).status_code == 401


async def test_an_idle_session_ends(app: Quart, services: Services) -> None:
    cookie, session = await log_in(services)
    await Session.filter(id=session.id).update(
        used_at=now() - timedelta(hours=services.settings.session_hours, seconds=1)
    )
    assert (await call(app, **cookie)).status_code == 401
    assert not await Session.exists(id=session.id)


SITES: tuple[tuple[dict[str, str], int], ...] = (
    ({}, 200),
    ({"Origin": "http://localhost"}, 200),
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "http://localhost.evil.example"}, 403),
    ({"Origin": "http://localhost:81"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec_Fetch_Site": "same-origin"}, 200),
    ({"Sec_Fetch_Site": "none"}, 200),
    ({"Sec_Fetch_Site": "cross-site"}, 403),
    ({"Sec_Fetch_Site": "same-site"}, 403),
)


async def test_another_site_cannot_use_the_session(app: Quart, services: Services) -> None:
    cookie, _session = await log_in(services)
    for headers, status in SITES:
        response = await call(app, "/api/system/saving", "POST", **cookie, **headers)
        assert (response.status_code, (await response.get_json())["code"]) == (status, status), headers
        assert (await call(app, **cookie, **headers)).status_code == 200, "reading is the browser's business"


async def test_a_program_with_the_token_needs_no_origin(app: Quart, token: str) -> None:
    response = await call(
        app, "/api/system/saving", "POST", Authorization=f"Bearer {token}", Origin="http://evil.example"
    )
    assert response.status_code == 200


async def test_reset_replaces_the_token_and_ends_sessions(app: Quart, api: ApiClient, services: Services) -> None:
    cookie, _session = await log_in(services)
    before = api.token
    after = (await api.ok("POST", "/api/system/resets"))["token"]
    assert after != before
    assert len(after) >= 40
    assert (await call(app, Authorization=f"Bearer {before}")).status_code == 401
    assert (await call(app, **cookie)).status_code == 401
    api.token = after
    assert (await api.ok("GET", "/api/system/tquery")) == {"token": after}


async def test_the_session_that_resets_stays(app: Quart, services: Services) -> None:
    mine, _session = await log_in(services)
    other, _session = await log_in(services)
    assert (await call(app, "/api/system/resets", "POST", **mine)).status_code == 200
    assert (await call(app, **mine)).status_code == 200
    assert (await call(app, **other)).status_code == 401


async def test_the_token_becomes_the_given_one(api: ApiClient) -> None:
    answer = await api.ok("POST", "/api/system/create", {"token": "your-custom-token"})
    assert answer == {"token": "your-custom-token"}
    assert (await api("GET", "/api/server/status"))[0] == 401
    api.token = "your-custom-token"
    await api.ok("GET", "/api/server/status")
