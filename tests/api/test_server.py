"""Hosts through the API."""

from __future__ import annotations

import re

import pytest
from quart import Quart

from panel.engines.fake.world import world
from panel.models import Host
from panel.services.container import Services
from tests.api.kit import make_host, make_vm, small
from tests.conftest import ApiClient


async def test_create_tests_the_connection_and_tells(api: ApiClient) -> None:
    body = {"server_name": "h1", "engine_type": "FakeEngine", "server_addr": "w1", "vms": 3, "delay": 0.0}
    answer = await api.ok("POST", "/api/server/create", body | {"unknown_field": [1]})
    assert (answer["version"], answer["hostname"], answer["accelerated"]) == ("Fake 1.0", "w1", True)
    assert answer["warnings"][-1] == "Field unknown_field is not known and was ignored."
    assert not any("vms" in warning or "delay" in warning for warning in answer["warnings"]), "the engine knows them"
    shown = await api.ok("GET", "/api/server/detail/h1")
    assert (shown["engine_type"], shown["options"]["vms"], shown["vm_count"]) == ("FakeEngine", "3", 0)
    assert "unknown_field" not in shown["options"]
    status, answer = await api("POST", "/api/server/create", body)
    assert (status, answer["msg"], answer["data"]) == (409, "There is a host h1 already.", {"field": "server_name"})
    status, answer = await api("POST", "/api/server/create", body | {"server_name": "h2", "behaviour": "odd"})
    assert (status, answer["data"]) == (400, {"field": "behaviour"})


async def test_update_changes_what_is_given_once_it_connects(api: ApiClient, fake_host: str) -> None:
    changed = await api.ok("PUT", "/api/server/update/host1", {"server_user": "ops", "vms": "0"})
    assert (changed["server_user"], changed["server_addr"]) == ("ops", "world1")
    status, _answer = await api("PUT", "/api/server/update/host1", {"behaviour": "refusing"})
    assert status == 503
    assert (await api.ok("GET", "/api/server/detail/host1"))["options"]["behaviour"] == ""
    await api.ok("POST", "/api/server/powers/host1", {"action": "disable"})
    changed = await api.ok("PUT", "/api/server/update/host1", {"behaviour": "refusing"})
    assert changed["options"]["behaviour"] == "refusing", "a disabled host may be set up for later"


@pytest.mark.parametrize("value", [True, False, {"a": 1}, [1]])
async def test_an_engines_field_of_a_wrong_type_is_not_passed_over(
    api: ApiClient, fake_host: str, value: object
) -> None:
    body = {"server_name": "h2", "engine_type": "FakeEngine", "delay": value}
    for method, path in (("POST", "/api/server/create"), ("PUT", "/api/server/update/host1")):
        status, answer = await api(method, path, body if method == "POST" else {"delay": value})
        assert (status, answer["msg"]) == (400, "delay must be text, in quotes.")
        assert answer["data"] == {"field": "delay"}
    assert (await api("GET", "/api/server/detail/h2"))[0] == 404
    await api.ok("PUT", "/api/server/update/host1", {"delay": None})


async def test_what_the_panel_says_of_a_host_it_takes(api: ApiClient, fake_host: str) -> None:
    shown = await api.ok("GET", "/api/server/detail/host1")
    changed = await api.ok("PUT", "/api/server/update/host1", shown | {"server_user": "ops"})
    assert (changed["server_name"], changed["server_user"]) == ("host1", "ops")


async def test_a_host_keeps_its_name(api: ApiClient, fake_host: str) -> None:
    """A success that renamed nothing would be found out with the next request only."""
    status, answer = await api("PUT", "/api/server/update/host1", {"server_name": "other", "server_user": "ops"})
    assert (status, answer["data"]) == (400, {"field": "server_name"})
    assert answer["msg"] == "The name of a host cannot change. Add it as a new host."
    assert (await api.ok("GET", "/api/server/detail/host1"))["server_user"] == ""


async def test_a_host_just_added_has_images_that_nobody_listed_yet(api: ApiClient) -> None:
    """A program that adds a host and makes a VM at once is told to wait, not that there is no such image."""
    body = {"server_name": "new", "engine_type": "FakeEngine", "behaviour": "hung", "only": "observe"}
    await api.ok("POST", "/api/server/create", body)
    status, answer = await api("POST", "/api/client/create/new", small("vm-1"))
    assert (status, answer["data"]) == (409, {"field": "os_name"})
    assert answer["msg"].startswith("The images of host new are not listed yet. Try again in a few seconds")
    made = await api.ok("POST", "/api/client/create/new?wait=5", small("vm-1", os_name=""))
    assert made["status"] == "succeeded", "an empty disk needs none"


async def test_delete_forgets_and_touches_nothing(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    await api.ok("GET", "/api/client/remote/host1/vm-1")
    assert await api.ok("DELETE", "/api/server/delete/host1") == {"server_name": "host1", "vms_forgotten": 1}
    assert world("world1").named("vm-1") is not None
    assert (await api("GET", "/api/client/detail/host1"))[0] == 404


async def test_status_tells_the_load(api: ApiClient, fake_host: str) -> None:
    status = await api.ok("GET", "/api/server/status/host1")
    assert status["health"] == "online"
    assert 0 <= status["cpu_usage"] <= 100
    assert status["cpu_total"] == 16
    assert 0 < status["mem_usage"] < status["mem_total"] == 65536
    assert 0 <= status["hdd_usage"] < status["hdd_total"]
    assert status["seen_at"]


async def test_scan_adopts_once_marks_the_missing_and_keeps_rules(api: ApiClient) -> None:
    await make_host(api, "host1", vms="3")
    first = (await api.ok("POST", "/api/client/scaner/host1"))["result"]
    assert first == {"total": 3, "added": ["vm-0001", "vm-0002", "vm-0003"], "missing": []}
    again = (await api.ok("POST", "/api/client/scaner/host1"))["result"]
    assert again == {"total": 3, "added": [], "missing": []}
    listed = (await api.ok("GET", "/api/client/detail/host1"))["vms"]
    assert [(vm["vm_uuid"], vm["managed"]) for vm in listed] == [(f"vm-000{n}", False) for n in (1, 2, 3)]
    here = world("host1")
    vm = here.named("vm-0002")
    assert vm is not None
    del here.vms[vm.ref]
    assert (await api.ok("POST", "/api/client/scaner/host1"))["result"]["missing"] == ["vm-0002"]
    assert (await api.ok("GET", "/api/client/status/host1/vm-0002"))["state"] == "missing"
    for method, path, body in (
        ("POST", "/api/client/powers/host1/vm-0002", {"action": "start"}),
        ("PUT", "/api/client/update/host1/vm-0002", {"cpu_num": 2}),
    ):
        status, answer = await api(method, path, body)
        assert status == 409
        assert "missing" in answer["msg"]
    here.vms[vm.ref] = vm
    assert (await api.ok("POST", "/api/client/scaner/host1"))["result"]["added"] == [], "the same VM, not a new one"
    status, _answer = await api("GET", "/api/client/status/host1/vm-0002")
    assert status == 200


async def test_what_others_made_stays_on_delete(api: ApiClient) -> None:
    await make_host(api, "host1", vms="1")
    await api.ok("POST", "/api/client/scaner/host1")
    done = await api.ok("DELETE", "/api/client/delete/host1/vm-0001")
    assert done["result"] == {"removed": [], "kept": ["/fake/foreign/vm-0001.qcow2"]}
    assert "/fake/foreign/vm-0001.qcow2" in world("host1").disks


async def test_a_missing_vm_can_be_deleted(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    world("world1").vms.clear()
    done = await api.ok("DELETE", "/api/client/delete/host1/vm-1")
    assert done["status"] == "succeeded"
    assert not world("world1").disks


async def test_a_console_url_opens_once(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_vm(api, start=True)
    answer = await api.ok("GET", "/api/client/remote/host1/vm-1")
    match = re.fullmatch(r"http://localhost(/.+)", answer["url"])
    assert match is not None
    browser = app.test_client()
    first = await browser.get(match[1], headers={"Accept": "text/html"})
    assert first.status_code in {200, 302, 303}
    stranger = await app.test_client().get(match[1], headers={"Accept": "text/html"})
    assert stranger.status_code in {401, 302, 303}
    if stranger.status_code != 401:
        assert "/login" in stranger.headers["Location"]


@pytest.mark.parametrize("field", ["server_pass"])
async def test_a_host_password_is_sealed_and_never_told(api: ApiClient, services: Services, field: str) -> None:
    await make_host(api, "host1", **{field: "sentinel-host-pw"})
    row = await Host.get(name="host1")
    assert "sentinel" not in row.secret
    assert services.box.unseal(row.secret) == "sentinel-host-pw"
    await api.ok("PUT", "/api/server/update/host1", {"server_user": "x"})
    assert services.box.unseal((await Host.get(name="host1")).secret) == "sentinel-host-pw", "absent: kept"
    await api.ok("PUT", "/api/server/update/host1", {field: ""})
    assert (await Host.get(name="host1")).secret == ""
