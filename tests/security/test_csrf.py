"""Every route of the pages that changes something asks for the session's token, and for our own Origin."""

from __future__ import annotations

import re

import pytest
from quart import Quart

from tests.pages.conftest import Browser

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
WITHOUT_LOGIN = {"/login"}  # opens a session: there is none to ride on, and the token is needed
VALUES = {"host": "alpha", "name": "alpha", "vm": "vm-0001"}


def unsafe_routes(app: Quart) -> list[tuple[str, str]]:
    """(method, path) of all that is no API."""
    found = []
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/") or rule.rule in WITHOUT_LOGIN or rule.websocket:
            continue
        path = re.sub(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>", lambda m: VALUES.get(m[2], "1"), rule.rule)
        found += [(method, path) for method in sorted((rule.methods or set()) & UNSAFE)]
    return sorted(found)


@pytest.mark.parametrize(
    "headers", [{}, {"X-CSRF-Token": "wrong"}, {"HX-Request": "true"}], ids=["none", "wrong", "htmx"]
)
async def test_without_the_token_nothing_is_done(
    app: Quart, browser: Browser, alpha: object, headers: dict[str, str]
) -> None:
    routes = unsafe_routes(app)
    assert len(routes) > 40
    for method, path in routes:
        response = await browser.client.open(path, method=method, headers=headers)
        assert response.status_code == 403, f"{method} {path}: {response.status_code}"


@pytest.mark.parametrize(
    "origin",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=["site", "null", "cross-site", "same-site"],
)
async def test_with_the_token_from_another_site_neither(
    app: Quart, browser: Browser, alpha: object, origin: dict[str, str]
) -> None:
    await browser.get("/hosts")
    for method, path in unsafe_routes(app):
        response = await browser.client.open(path, method=method, headers={"X-CSRF-Token": browser.csrf} | origin)
        assert response.status_code == 403, f"{method} {path}: {response.status_code}"


async def test_reading_changes_nothing(app: Quart) -> None:
    """No GET route has a name that says it acts."""
    verbs = re.compile(r"/(delete|remove|reset|power|logout|create|cancel|save|load)$")
    for rule in app.url_map.iter_rules():
        if verbs.search(rule.rule) and not rule.rule.startswith("/api/"):
            assert "GET" not in (rule.methods or set()), rule.rule


async def test_another_logins_token_is_no_good(app: Quart, browser: Browser, token: str) -> None:
    other = await Browser(app.test_client(), token).login()
    await other.get("/hosts")
    response = await browser.client.post("/logout", headers={"X-CSRF-Token": other.csrf})
    assert response.status_code == 403
