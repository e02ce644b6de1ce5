"""The routes and example bodies of ``API.zh.md``, word for word; ``test_examples`` holds them against the document."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENT = Path(os.environ.get("PANEL_API_DOCUMENT", Path(__file__).parents[3] / "shared" / "API.zh.md"))


@dataclass(frozen=True)
class Route:
    """One route of the document, with its example body when it shows one."""

    method: str
    path: str
    body: dict[str, Any] | None = None


TOKEN = {"token": "your-custom-token"}
HOST = {
    "server_name": "host1",
    "server_addr": "192.168.1.100",
    "server_user": "admin",
    "server_pass": "password",
    "engine_type": "VMWareSetup",
    "system_path": "D:/VMs",
    "images_path": "D:/Images",
    "launch_path": "C:/Program Files (x86)/VMware/VMware Workstation",
}
ENABLE = {"action": "enable"}
VM = {
    "vm_uuid": "vm-001",
    "vm_name": "测试虚拟机",
    "os_name": "Windows 10 x64",
    "cpu_num": 2,
    "ram_num": 4096,
    "hdd_num": 50,
    "nic_all": {"eth0": {"net_mode": "nat", "ip4_addr": "192.168.1.100", "mac_addr": "00:50:56:00:00:01"}},
}
VM_OF_PYTHON = {"vm_uuid": "vm-001", "vm_name": "测试虚拟机", "cpu_num": 2, "ram_num": 4096, "hdd_num": 50}
START = {"action": "start"}
PASSWORD = {"password": "new-password"}
REPORT = {"vm_uuid": "vm-001", "cpu_usage": 45.2, "mem_usage": 2048, "disk_usage": 30.5}

POWER_WORDS = ("start", "stop", "suspend", "reset", "shutdown")

ROUTES = (
    Route("POST", "/api/system/resets"),
    Route("POST", "/api/system/create", TOKEN),
    Route("GET", "/api/system/tquery"),
    Route("GET", "/api/system/engine"),
    Route("POST", "/api/system/saving"),
    Route("POST", "/api/system/loader"),
    Route("GET", "/api/system/statis"),
    Route("GET", "/api/system/logger/detail"),
    Route("GET", "/api/system/tasker"),
    Route("GET", "/api/server/detail"),
    Route("GET", "/api/server/detail/<hs_name>"),
    Route("POST", "/api/server/create", HOST),
    Route("PUT", "/api/server/update/<hs_name>"),
    Route("DELETE", "/api/server/delete/<hs_name>"),
    Route("POST", "/api/server/powers/<hs_name>", ENABLE),
    Route("GET", "/api/server/status/<hs_name>"),
    Route("GET", "/api/client/detail/<hs_name>"),
    Route("GET", "/api/client/detail/<hs_name>/<vm_uuid>"),
    Route("POST", "/api/client/create/<hs_name>", VM),
    Route("PUT", "/api/client/update/<hs_name>/<vm_uuid>"),
    Route("DELETE", "/api/client/delete/<hs_name>/<vm_uuid>"),
    Route("POST", "/api/client/powers/<hs_name>/<vm_uuid>", START),
    Route("GET", "/api/client/remote/<hs_name>/<vm_uuid>"),
    Route("POST", "/api/client/password/<hs_name>/<vm_uuid>", PASSWORD),
    Route("GET", "/api/client/status/<hs_name>/<vm_uuid>"),
    Route("POST", "/api/client/scaner/<hs_name>"),
    Route("POST", "/api/client/upload", REPORT),
    Route("GET", "/api/client/natget/<hs_name>/<vm_uuid>"),
    Route(
        "POST",
        "/api/client/natadd/<hs_name>/<vm_uuid>",
        {"protocol": "tcp", "external_port": 8080, "internal_port": 80, "internal_ip": "192.168.1.100"},
    ),
    Route("DELETE", "/api/client/natdel/<hs_name>/<vm_uuid>/<rule_index>"),
    Route("GET", "/api/client/ipaddr/detail/<hs_name>/<vm_uuid>"),
    Route(
        "POST",
        "/api/client/ipaddr/create/<hs_name>/<vm_uuid>",
        {"interface": "eth0", "ip_address": "192.168.1.101", "netmask": "255.255.255.0", "gateway": "192.168.1.1"},
    ),
    Route("DELETE", "/api/client/ipaddr/delete/<hs_name>/<vm_uuid>/<ip_index>"),
    Route("GET", "/api/client/proxys/detail/<hs_name>/<vm_uuid>"),
    Route(
        "POST",
        "/api/client/proxys/create/<hs_name>/<vm_uuid>",
        {"domain": "example.com", "target_port": 80, "ssl_enabled": False},
    ),
    Route("DELETE", "/api/client/proxys/delete/<hs_name>/<vm_uuid>/<proxy_index>"),
)
EXTRA = (
    Route("GET", "/api/server/status"),  # what existing billing clients call to test a connection
    Route("GET", "/api/server/metrics/<hs_name>"),
    Route("GET", "/api/client/metrics/<hs_name>/<vm_uuid>"),
    Route("GET", "/api/client/published/<hs_name>/<vm_uuid>"),
    Route("POST", "/api/client/probe/<hs_name>/<vm_uuid>"),
    Route("GET", "/api/server/network/<hs_name>"),
    Route("PUT", "/api/server/network/<hs_name>/<net_name>"),
    Route("POST", "/api/server/network/<hs_name>/<net_name>"),
    Route("PUT", "/api/server/network/<hs_name>/<net_name>/<pool_id>"),
    Route("DELETE", "/api/server/network/<hs_name>/<net_name>/<pool_id>"),
)
HERE = ROUTES + EXTRA

FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
ROUTE_LINE = re.compile(r"(GET|POST|PUT|DELETE) (/api/\S+)")


def read_document(text: str) -> tuple[Route, ...]:
    """The routes of the document's text, in its order, each with the JSON block that follows it."""
    routes: list[Route] = []
    for language, block in FENCE.findall(text):
        if match := ROUTE_LINE.fullmatch(block.strip()):
            routes.append(Route(match[1], match[2]))
        elif language == "json" and routes:
            routes[-1] = Route(routes[-1].method, routes[-1].path, json.loads(block))
    return tuple(routes)
