"""JSON nested deeper than whatever reads it: 400, never a stack that overflows."""

from __future__ import annotations

import pytest

from panel.api.routing import DEEPEST
from panel.models import Task
from tests.conftest import ApiClient
from tests.pages.conftest import Browser

DEPTHS = (DEEPEST, 500, 900, 980, 1000, 1020, 1100, 10_000)


def nested(depth: int, opening: str, closing: str) -> bytes:
    return f'{{"action": {opening * depth}1{closing * depth}}}'.encode()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["list", "object"])
async def test_too_deep_is_400(api: ApiClient, depth: int, opening: str, closing: str) -> None:
    body = nested(depth, opening, closing)
    for path in ("/api/client/powers/host1/v", "/api/client/upload", "/api/server/create", "/login"):
        headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
        response = await api.client.post(path, data=body, headers=headers)
        assert response.status_code == 400, path


async def test_what_documents_need_is_taken(api: ApiClient) -> None:
    body = {"action": "start", "more": {"a": [{"b": [{"c": 1}]}]}}
    assert (await api("POST", "/api/client/powers/host1/nobody", body))[0] == 404


async def test_json_of_another_kind_on_a_page(browser: Browser, alpha: object) -> None:
    """Pages take ``action`` as JSON too: what is no object has none."""
    await browser.get("/hosts")
    for body in (b"[1]", b'"x"', b"1", b"[" * 2000, b"{"):
        headers = {"X-CSRF-Token": browser.csrf, "Content-Type": "application/json"}
        response = await browser.client.post("/hosts/alpha/vms/vm-0001/power", data=body, headers=headers)
        assert response.status_code in {303, 400}, body
    assert await Task.filter(kind="vm.power").count() == 0
