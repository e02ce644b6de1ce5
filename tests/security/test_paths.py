"""Paths: no name and no address leads out of the folder that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
from quart import Quart

from tests.api.kit import small
from tests.conftest import ApiClient

OUT = ("../panel/settings.py", "..%2fsettings.py", "%2e%2e/settings.py", "....//settings.py", "..\\settings.py", "/etc/passwd",
       "%2fetc%2fpasswd", "css/../../settings.py", "css/%2e%2e/%2e%2e/web.py", "./../web.py", "\0", "%00/etc/passwd")  # fmt: skip
NAMES = (
    "../x",
    "..",
    ".",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "a\0b",
    "-rf",
    ".hidden",
    "a b",
    "x" * 64,
    "~root",
    "$(id)",
    "`id`",
    "a;b",
    "a|b",
)


@pytest.mark.parametrize("path", OUT)
async def test_assets_stay_in_their_folder(app: Quart, path: str) -> None:
    client = app.test_client()
    for address in (f"/assets/0/{path}", f"/assets/{path}", f"/assets/0//{path}"):
        response = await client.get(address)
        body = await response.get_data(as_text=True)
        assert response.status_code in {301, 308, 400, 404}, address
        assert "root:" not in body
        assert "def " not in body


@pytest.mark.parametrize("name", NAMES)
async def test_names_of_things_are_no_paths(api: ApiClient, fake_host: str, name: str, tmp_path: Path) -> None:
    """Hosts, VMs and interfaces end in paths and command lines of hypervisors: their names are letters, digits, ``._-``."""
    before = sorted(path.name for path in tmp_path.rglob("*"))
    host = {"server_name": name, "engine_type": "FakeEngine", "server_addr": "w"}
    assert (await api("POST", "/api/server/create", host))[0] == 400
    assert (await api("POST", "/api/client/create/host1", small(name)))[0] == 400
    assert (await api("POST", "/api/client/create/host1", small("v", nic_all={name: {}})))[0] == 400
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
