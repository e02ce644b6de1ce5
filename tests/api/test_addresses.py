"""Addresses and headers around the routes: two slashes, a sub-path, who is asked to say who he is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from quart import Quart

from panel.app import create_app
from panel.settings import Settings
from tests.conftest import ApiClient


@pytest.mark.parametrize(
    ("method", "path", "place"),
    [
        ("GET", "/api//server/detail", "/api/server/detail"),
        ("GET", "/api/server/detail//host1", "/api/server/detail/host1"),
        ("GET", "/api//system/tasker?limit=1&id=%2F%2Fa", "/api/system/tasker?limit=1&id=%2F%2Fa"),
        ("POST", "/api//server/create", "/api/server/create"),
    ],
)
async def test_two_slashes_are_answered_in_the_envelope(app: Quart, method: str, path: str, place: str) -> None:
    """Of a base address that ends in a slash, and a path that begins with one. Most programs do not follow."""
    response = await app.test_client().open(path, method=method, headers={"Host": "elsewhere.example"})
    assert response.status_code == 308
    assert response.headers["Location"] == place, "without a host: which one it is, is the proxy's business"
    assert await response.get_json() == {
        "code": 308, "msg": f"This address has two slashes in a row. It is {place}.", "data": None,
    }  # fmt: skip


async def test_two_slashes_before_all_are_one(api: ApiClient) -> None:
    await api.ok("GET", "//api/server/detail")
    assert (await api("GET", "//api/server/detail", headers={}))[0] == 401
    assert (await api("GET", "//api/nowhere"))[0] == 404


async def test_a_page_is_redirected_as_ever(app: Quart) -> None:
    response = await app.test_client().get("/hosts//host1")
    assert response.status_code == 308
    assert "html" in response.headers["Content-Type"]


async def test_who_is_not_let_in_is_told_how(app: Quart) -> None:
    """RFC 9110, 11.6.1: a 401 names the scheme."""
    for headers in ({}, {"Authorization": "Bearer wrong-token"}):
        response = await app.test_client().get("/api/server/detail", headers=headers)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("asked", "chinese"), [({}, True), ({"Accept-Language": "fr"}, True), ({"Accept-Language": "en"}, False)]
)
async def test_who_asks_in_no_language_gets_that_of_the_setting(
    settings: Settings, asked: dict[str, str], chinese: bool
) -> None:
    """Billing systems send no Accept-Language, and show people what they are answered."""
    panel = create_app(replace(settings, language="zh"))
    answer = await (await panel.test_client().get("/api/server/detail", headers=asked)).get_json()
    assert answer["code"] == 401
    assert answer["msg"].startswith("Send the access token") is not chinese
