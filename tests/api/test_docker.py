"""A Docker host through the API, when it is not there or not rightly said: the field and the mend."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import ApiClient


async def test_what_is_wrong_is_named(api: ApiClient, tmp_path: Path) -> None:
    body = {"server_name": "box", "engine_type": "OCInterface"}
    status, answer = await api("POST", "/api/server/create", body | {"server_addr": str(tmp_path / "docker.sock")})
    assert status == 503
    assert "systemctl start docker" in answer["msg"]
    for field, value in (("server_addr", "ftp://box"), ("restart_policy", "never"), ("images", "No Such"),
                         ("shutdown_timeout", "0"), ("command", "'")):  # fmt: skip
        status, answer = await api("POST", "/api/server/create", {"server_addr": "/x/y.sock"} | body | {field: value})
        assert (status, answer["data"]) == (400, {"field": field}), answer
