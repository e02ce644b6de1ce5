"""The balancers of ``deploy/`` before two real panels: a login is good through them, and a killed panel costs nobody an error."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.cluster.conftest import Cluster, until
from tests.conftest import ROOT
from tests.process import free_port

pytestmark = pytest.mark.live


@contextmanager
def serving(command: list[str], port: int, **settings: str) -> Iterator[str]:
    """A balancer on a loopback port, once it answers."""
    with subprocess.Popen(
        command, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _status(url) == 200)
            yield url
        finally:
            process.terminate()


def _status(url: str) -> int:
    try:
        return httpx2.get(url + "/health", timeout=5).status_code
    except httpx2.TransportError:
        return 0


def test_haproxy(cluster: Cluster) -> None:
    one, two = cluster.start(2)
    port = free_port()
    places = {f"PANEL_{number}": panel.url.removeprefix("http://") for number, panel in enumerate((one, two), 1)}
    command = ["haproxy", "-db", "-f", str(ROOT / "deploy/haproxy.cfg")]
    with serving(command, port, PANEL_BIND=f"127.0.0.1:{port}", **places) as url, httpx2.Client(base_url=url) as client:
        assert client.post("/login", json={"token": one.token}).status_code == 200
        assert {client.get("/vms").status_code for _time in range(6)} == {200}
        one.kill()
        assert {client.get("/vms").status_code for _time in range(6)} == {200}
        one.start()


def test_caddy(cluster: Cluster) -> None:
    for panel in cluster.panels or cluster.start(1):
        if panel.pid is None:
            panel.start()
    panel, port = cluster.panels[0], free_port()
    command = ["caddy", "run", "--config", str(ROOT / "deploy/balancer.Caddyfile"), "--adapter", "caddyfile"]
    settings = {"PANEL_SITE": f"http://127.0.0.1:{port}", "PANEL_NAME": "localhost", "PANEL_PORT": str(panel.port)}
    with serving(command, port, **settings) as url, httpx2.Client(base_url=url) as client:
        assert client.post("/login", json={"token": panel.token}).status_code == 200
        assert client.get("/vms").status_code == 200
        with client.stream("GET", "/events?topics=tasks") as stream:
            assert next(stream.iter_lines()).startswith("retry"), "not held back"
        left = time.monotonic()
    assert time.monotonic() - left < 30, (
        "it ended with its client: else Caddy waits for it, and the panel serves nobody"
    )
