"""Addresses and forwards with a real VM, real nftables and a network namespace as the outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import VM
from tests.live.namespaces import run
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(500)]

TABLE = "inet openidcs"


def fetch(outside: tuple[str, str], port: int, seconds: float = 20) -> str:
    """What the outside gets over HTTP; empty when nothing."""
    name, address = outside
    deadline = time.monotonic() + seconds
    while True:
        command = ["ip", "netns", "exec", name, "curl", "-sS", "-m", "3", "-i", f"http://{address}:{port}/"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode == 0 or time.monotonic() > deadline:
            return done.stdout
        time.sleep(0.5)


def restart_libvirt() -> None:
    """The daemon, as whoever started it would. VMs go on."""
    if Path("/run/systemd/system").exists():
        run("systemctl", "restart", "libvirtd")
        return
    pid = int(run("pgrep", "-x", "libvirtd"))
    command = [part for part in Path(f"/proc/{pid}/cmdline").read_text().split("\0") if part]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=30, check=True)


def foreign_rules() -> str:
    """Everybody else's rules, without counters and without our tables and our tagged accepts."""
    lines = [line for line in run("iptables-save").splitlines() if "openidcs-" not in line and line[:1] in "-*"]
    tables = [line for line in run("nft", "list", "tables").splitlines() if "openidcs" not in line]
    return "\n".join(lines + tables)


def test_the_guest_gets_the_address_that_it_was_given(panel: PanelProcess, vm: dict[str, Any]) -> None:
    given = vm["addresses"][0]
    assert given["by_dhcp"]
    assert given["ip_address"] in vm["seen"][0]["addresses"]
    status, envelope = panel.api(
        "POST", f"/api/client/ipaddr/create{VM}", {"interface": "eth0", "ip_address": given["gateway"]}
    )
    assert (status, envelope["data"]) == (409, {"field": "ip_address"})


def test_a_forward_carries_traffic_until_it_is_removed(
    panel: PanelProcess, vm: dict[str, Any], outside: tuple[str, str]
) -> None:
    before = foreign_rules()
    assert not fetch(outside, 28080, 0)
    rule = panel.ok("POST", f"/api/client/natadd{VM}", {"external_port": 28080, "internal_port": 80})
    assert (rule["state"], rule["problem"]) == ("applied", None)
    assert "HTTP/1" in fetch(outside, 28080)
    assert foreign_rules() == before
    status, envelope = panel.api("POST", f"/api/client/natadd{VM}", {"external_port": panel.port, "internal_port": 80})
    assert status == 409, envelope
    assert panel.ok("DELETE", f"/api/client/natdel{VM}/0?id={rule['id']}")["problem"] is None
    assert not fetch(outside, 28080, 0)
    assert foreign_rules() == before


def test_the_panel_says_what_the_outside_sees(
    panel: PanelProcess, vm: dict[str, Any], outside: tuple[str, str]
) -> None:
    def openings(data: dict[str, Any]) -> list[str]:
        return [item["opening"] for item in data["published"]]

    settings = panel.ok("PUT", "/api/server/update/host1", {"outside": outside[1], "strict_reports": True})
    assert (settings["outside"], settings["strict_reports"]) == (outside[1], True)
    rules = [
        panel.ok("POST", f"/api/client/natadd{VM}", {"external_port": port, "internal_port": inner})
        for port, inner in ((28090, 80), (28091, 81))
    ]
    data = panel.until(f"/api/client/published{VM}", lambda data: openings(data) == ["open", "closed"], 30)
    assert [item["address"] for item in data["published"]] == [f"{outside[1]}:{port}" for port in (28090, 28091)]
    assert "refuses" in data["published"][1]["problem"]
    assert "HTTP/1" in fetch(outside, 28090)
    assert not fetch(outside, 28091, 0)
    assert openings(panel.ok("POST", f"/api/client/probe{VM}")) == ["open", "closed"]
    status, envelope = panel.api("POST", "/api/client/upload", {"vm_uuid": "net-1", "cpu_usage": 1})
    assert (status, "own addresses only" in envelope["msg"]) == (403, True)
    for rule in rules:
        panel.ok("DELETE", f"/api/client/natdel{VM}/0?id={rule['id']}")
    panel.ok("PUT", "/api/server/update/host1", {"outside": "", "strict_reports": False})


def test_it_comes_back_by_itself(panel: PanelProcess, vm: dict[str, Any], outside: tuple[str, str]) -> None:
    """After a flush by hand, while the panel is away, and after the panel was killed."""
    rule = panel.ok("POST", f"/api/client/natadd{VM}", {"external_port": 28081, "internal_port": 80})
    assert "HTTP/1" in fetch(outside, 28081)
    run("nft", "delete", "table", *TABLE.split())
    assert "HTTP/1" in fetch(outside, 28081, 15)
    logged = panel.until("/api/system/logger/detail?action=gateway.drift", lambda data: data["total"] >= 1, 15)
    assert "put right" in logged["logs"][0]["message"]
    panel.kill()
    assert "HTTP/1" in fetch(outside, 28081, 0), "the rules are the kernel's, not the panel's"
    run("nft", "delete", "table", *TABLE.split())
    panel.start()
    assert "HTTP/1" in fetch(outside, 28081, 20)
    assert panel.ok("GET", f"/api/client/natget{VM}")["rules"][0]["id"] == rule["id"]


def test_it_outlives_a_restart_of_libvirt(panel: PanelProcess, vm: dict[str, Any], outside: tuple[str, str]) -> None:
    """Which writes its own rules anew, its reject among them."""
    assert "HTTP/1" in fetch(outside, 28081)
    restart_libvirt()
    panel.until("/api/server/detail/host1", lambda host: host["health"] == "online", 60)
    assert "HTTP/1" in fetch(outside, 28081, 30)
    assert panel.ok("GET", f"/api/client/natget{VM}")["rules"][0]["state"] == "applied"


def test_the_end_of_the_vm_ends_it_all(panel: PanelProcess, vm: dict[str, Any], site: Any) -> None:
    mac = vm["addresses"][0]["mac_addr"]
    assert mac in run("virsh", "net-dumpxml", site.name)
    panel.ok("DELETE", f"/api/client/delete{VM}?wait=60")
    assert mac not in run("virsh", "net-dumpxml", site.name)
    with contextlib.suppress(subprocess.CalledProcessError):
        assert "28081" not in run("nft", "list", "table", *TABLE.split())
