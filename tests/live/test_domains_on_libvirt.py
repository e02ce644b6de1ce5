"""Domains with a real VM, a real Caddy, an authority of its own, and a network namespace as the outside."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import VM
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(500)]

DOMAIN = "shop.example.test"


class Visitor:
    """Somebody outside who trusts the panel's authority."""

    def __init__(self, panel: PanelProcess, outside: tuple[str, str]) -> None:
        self._namespace, self._address = outside
        self._folder = panel.folder / "data/proxy"
        self._ports = {True: panel.settings["proxy_https_port"], False: panel.settings["proxy_http_port"]}

    def get(self, domain: str = DOMAIN, *, tls: bool = True) -> str:
        """What a domain answers; empty when it does not."""
        port = self._ports[tls]
        root = self._folder / "storage/pki/authorities/local/root.crt"
        command = ["ip", "netns", "exec", self._namespace, "curl", "-sS", "-m", "5", "-i", "--cacert", str(root)]
        command += ["--resolve", f"{domain}:{port}:{self._address}", f"http{'s' if tls else ''}://{domain}:{port}/"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout

    def until(self, wanted: str, domain: str = DOMAIN, *, tls: bool = True, seconds: float = 20) -> str:
        deadline = time.monotonic() + seconds
        while not (found := self.get(domain, tls=tls)).startswith(wanted) or (not wanted and found):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found

    @property
    def caddy(self) -> int:
        """The process that serves."""
        return int((self._folder / "caddy.pid").read_text())


@pytest.fixture(scope="module")
def visitor(panel: PanelProcess, outside: tuple[str, str]) -> Visitor:
    return Visitor(panel, outside)


def add(panel: PanelProcess, domain: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = panel.ok(
        "POST", f"/api/client/proxys/create{VM}", {"domain": domain, "target_port": 80, **more}
    )
    assert (made["state"], made["problem"]) == ("applied", None)
    return made


def test_a_domain_over_tls_leads_to_the_vm_until_it_is_removed(
    panel: PanelProcess, vm: dict[str, Any], visitor: Visitor, outside: tuple[str, str]
) -> None:
    made = add(panel, DOMAIN, ssl_enabled=True)
    assert made["target_ip"] == vm["addresses"][0]["ip_address"]
    assert "Server: Caddy" in visitor.until("HTTP/1.1 308", tls=False)
    visitor.until("HTTP/2 200")
    proxy = panel.until(
        f"/api/client/proxys/detail{VM}", lambda data: data["proxies"][0]["certificate"]["state"] == "valid", 20
    )["proxies"][0]
    assert "Caddy Local Authority" in proxy["certificate"]["issuer"]
    assert proxy["certificate"]["expires_at"]
    panel.ok("PUT", "/api/server/update/host1", {"outside": outside[1]})
    panel.until(f"/api/client/published{VM}", lambda data: data["published"][0]["opening"] == "open", 30)
    pid = visitor.caddy
    assert panel.ok("DELETE", f"/api/client/proxys/delete{VM}/0?id={proxy['id']}")["problem"] is None
    assert visitor.get() == ""
    assert not Path(f"/proc/{pid}").exists(), "nothing is left to serve"


def test_it_goes_on_without_the_panel_and_comes_back_after_a_kill(
    panel: PanelProcess, vm: dict[str, Any], visitor: Visitor
) -> None:
    add(panel, "plain.example.test")
    assert visitor.until("HTTP/1.1 200", "plain.example.test", tls=False)
    os.kill(visitor.caddy, signal.SIGKILL)
    visitor.until("HTTP/1.1 200", "plain.example.test", tls=False)
    logged = panel.until("/api/system/logger/detail?action=proxy.drift", lambda data: data["total"] >= 1, 15)
    assert "put right" in logged["logs"][0]["message"]
    panel.kill()
    pid = visitor.caddy
    assert visitor.get("plain.example.test", tls=False).startswith("HTTP/1.1 200"), "Caddy outlives the panel"
    panel.start()
    panel.until(f"/api/client/proxys/detail{VM}", lambda data: data["proxies"][0]["state"] == "applied", 20)
    assert visitor.caddy == pid


def test_switched_off_it_is_served_no_more(panel: PanelProcess, vm: dict[str, Any], visitor: Visitor) -> None:
    panel.stop()
    with panel.changed(proxy="0"):
        panel.start()
        visitor.until("", "plain.example.test", tls=False)
        kept = panel.until(f"/api/client/proxys/detail{VM}", lambda data: data["proxies"][0]["state"] == "failed", 20)
        assert "switched off" in kept["proxies"][0]["problem"]
        panel.stop()
    panel.start()
    visitor.until("HTTP/1.1 200", "plain.example.test", tls=False)


def test_the_end_of_the_vm_ends_its_domains(panel: PanelProcess, vm: dict[str, Any], visitor: Visitor) -> None:
    pid = visitor.caddy
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    visitor.until("", "plain.example.test", tls=False)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
