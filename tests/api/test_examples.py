"""The document, word for word: its routes are there, its examples work."""

from __future__ import annotations

import ast
import re

import pytest
from quart import Quart

from panel.api.wire import POWER_WORDS
from tests.api import examples
from tests.api.examples import DOCUMENT, EXTRA, HERE, ROUTES, read_document
from tests.conftest import ApiClient

needs_document = pytest.mark.skipif(not DOCUMENT.exists(), reason=f"the API document is not at {DOCUMENT}")


@needs_document
def test_the_copy_is_the_document() -> None:
    assert read_document(DOCUMENT.read_text("utf-8")) == ROUTES


@needs_document
def test_the_python_and_curl_examples_are_the_document() -> None:
    text = DOCUMENT.read_text("utf-8")
    found = re.search(r"vm_config = (\{.*?\n\})", text, re.DOTALL)
    assert found is not None
    assert ast.literal_eval(found[1]) == examples.VM_OF_PYTHON
    assert f"-d '{str(examples.START).replace(chr(39), chr(34)).replace(' ', '')}'" in text
    section = text.partition("### 虚拟机电源控制")[2].partition("### ")[0]
    assert tuple(re.findall(r"^- `(\w+)`", section, re.MULTILINE)) == examples.POWER_WORDS


def test_every_power_word_of_the_document_is_known() -> None:
    assert set(examples.POWER_WORDS) <= set(POWER_WORDS)


def test_the_routes_are_those_of_the_document(app: Quart) -> None:
    there = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert there == {(route.method, route.path) for route in HERE}


async def test_add_host_as_written(api: ApiClient) -> None:
    """Its host is a VMware Workstation, which is asked before it is stored: nobody answers at that address here."""
    status, answer = await api("POST", "/api/server/create", examples.HOST)
    assert status == 503
    assert examples.HOST["server_addr"] in answer["msg"]
    assert (await api("GET", "/api/server/detail/host1"))[0] == 404
    added = await api.ok("POST", "/api/server/create", examples.HOST | {"engine_type": "FakeEngine"})
    assert added["server_name"] == "host1"
    shown = await api.ok("GET", "/api/server/detail/host1")
    for name in ("server_name", "server_addr", "server_user", "system_path", "images_path", "launch_path"):
        assert shown[name] == examples.HOST[name]
    assert "server_pass" not in shown


async def test_the_document_from_top_to_bottom(api: ApiClient, fake_host: str) -> None:
    """Its examples in one go, as a client would send them."""
    status, answer = await api("POST", "/api/server/powers/host1", examples.ENABLE)
    assert (status, answer["msg"]) == (409, "Host host1 is enabled already.")
    made = await api.ok("POST", "/api/client/create/host1?wait=5", examples.VM)
    assert (made["status"], made["vm_uuid"]) == ("succeeded", "vm-001")

    shown = await api.ok("GET", "/api/client/detail/host1/vm-001")
    for name in ("vm_uuid", "vm_name", "os_name", "cpu_num", "ram_num", "hdd_num"):
        assert shown[name] == examples.VM[name]
    nic = shown["nic_all"]["eth0"]
    assert (nic["net_mode"], nic["mac_addr"]) == ("nat", "00:50:56:00:00:01")
    assert [vm["vm_uuid"] for vm in (await api.ok("GET", "/api/client/detail/host1"))["vms"]] == ["vm-001"]

    started = await api.ok("POST", "/api/client/powers/host1/vm-001", examples.START)
    assert started["result"] == {"action": "start", "state": "running"}
    assert (await api.ok("POST", "/api/client/password/host1/vm-001", examples.PASSWORD))["status"] == "succeeded"
    reported = await api.client.post("/api/client/upload", json=examples.REPORT)
    assert (await reported.get_json())["data"] == {"accepted": True}
    seen = await api.ok("GET", "/api/client/status/host1/vm-001")
    assert seen["guest_report"] == {"cpu_usage": 45.2, "mem_usage": 2048, "disk_usage": 30.5}
    assert (seen["state"], seen["agent"]) == ("running", True)

    console = await api.ok("GET", "/api/client/remote/host1/vm-001")
    assert console["url"].startswith("http://localhost/")
    assert console["expires_in"] == 60
    assert (await api.ok("POST", "/api/client/scaner/host1"))["result"]["total"] == 1
    for action, state in (("suspend", "suspended"), ("resume", "running"), ("reset", "running"), ("stop", "stopped")):
        done = await api.ok("POST", "/api/client/powers/host1/vm-001", {"action": action})
        assert done["result"]["state"] == state
    removed = await api.ok("DELETE", "/api/client/delete/host1/vm-001")
    assert len(removed["result"]["removed"]) == 2
    assert (await api("GET", "/api/client/detail/host1/vm-001"))[0] == 404
    assert (await api.ok("DELETE", "/api/server/delete/host1"))["vms_forgotten"] == 0


async def test_the_python_example(api: ApiClient, fake_host: str) -> None:
    made = await api.ok("POST", "/api/client/create/host1?wait=5", examples.VM_OF_PYTHON)
    assert made["status"] == "succeeded"
    shown = await api.ok("GET", "/api/client/detail/host1/vm-001")
    assert (shown["os_name"], shown["hdd_num"]) == ("", 50)


async def test_the_connection_test_of_billing_clients(api: ApiClient, fake_host: str) -> None:
    assert EXTRA[0].path == "/api/server/status"
    answer = await api.ok("GET", "/api/server/status")
    assert (answer["host_count"], answer["vm_count"]) == (1, 0)
    assert answer["version"]
