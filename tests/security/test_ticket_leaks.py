"""A console's ticket is in no log, no Referer and no cache, and its link is spent before anything of the page loads."""

from __future__ import annotations

import logging

import pytest
from quart import Quart

from panel.models import LogEntry, TaskLine
from tests.api.kit import make_vm
from tests.conftest import ApiClient


async def test_the_link_of_a_console(
    app: Quart, api: ApiClient, fake_host: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await make_vm(api, start=True)
    link = (await api.ok("GET", "/api/client/remote/host1/vm-1"))["url"]
    ticket = link.partition("ticket=")[2]
    assert len(ticket) >= 43
    client = app.test_client()
    first = await client.get(link.removeprefix("http://localhost"))
    assert first.status_code == 303
    assert ticket not in first.headers["Location"]
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-store"
    page = await client.get(first.headers["Location"])
    assert page.status_code == 200
    assert ticket not in await page.get_data(as_text=True)
    assert page.headers["Referrer-Policy"] == "no-referrer"
    fresh = await client.post(f"{first.headers['Location']}/ticket", form={}, headers={"Origin": "http://localhost"})
    value = (await fresh.get_json())["data"]["ticket"]
    assert fresh.headers["Cache-Control"] == "no-store"
    said = caplog.text + "".join(capsys.readouterr())
    rows = "".join(
        [*(str(row.message) for row in await LogEntry.all()), *(str(row.message) for row in await TaskLine.all())]
    )
    for secret in (ticket, value):
        assert secret not in said + rows


@pytest.mark.parametrize("path", ["/hosts", "/login", "/settings", "/vms"])
async def test_no_page_tells_others_where_one_came_from(app: Quart, path: str) -> None:
    response = await app.test_client().get(path)
    assert response.headers["Referrer-Policy"] in {"same-origin", "no-referrer"}
