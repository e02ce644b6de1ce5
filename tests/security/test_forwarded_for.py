"""``X-Forwarded-For`` is believed from the configured proxies and from nobody else: else each try would be a new address."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from panel.server import server_config
from panel.settings import Settings

SPOOFED = "198.51.100.7"


async def seen_by(settings: Settings, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """(address, scheme) that the panel sees of a client at 127.0.0.1, behind the panel's own configuration of uvicorn."""
    told: dict[str, Any] = {}

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        told.update(client=scope["client"][0], scheme=scope["scheme"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr("panel.server.create_app", lambda _settings: application)
    config = server_config(settings)
    config.port, config.lifespan = 0, "off"
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(trust_env=False) as browser:
        await browser.get(f"http://127.0.0.1:{port}/", headers=headers)
    server.should_exit = True
    await task
    return told["client"], told["scheme"]


FORWARDED = {
    "X-Forwarded-For": SPOOFED,
    "X-Forwarded-Proto": "https",
    "X-Real-IP": SPOOFED,
    "Forwarded": f"for={SPOOFED}",
}


@pytest.mark.parametrize("trusted", ["", "192.0.2.1", "192.0.2.1, 10.0.0.0/8"])
async def test_from_a_stranger_it_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str
) -> None:
    settings = Settings(data_folder=tmp_path, trusted_proxies=trusted)
    assert await seen_by(settings, FORWARDED, monkeypatch) == ("127.0.0.1", "http")


async def test_from_a_configured_proxy_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_folder=tmp_path, trusted_proxies="127.0.0.1")
    assert await seen_by(settings, FORWARDED, monkeypatch) == (SPOOFED, "https")


async def test_what_the_client_put_before_the_proxys_word_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy appends: the last address that is no proxy is the client, whatever stands before it."""
    settings = Settings(data_folder=tmp_path, trusted_proxies="127.0.0.1, 10.0.0.0/8")
    headers = {"X-Forwarded-For": f"203.0.113.9, {SPOOFED}, 10.0.0.3"}
    assert (await seen_by(settings, headers, monkeypatch))[0] == SPOOFED
