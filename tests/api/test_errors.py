"""Errors: the status and ``code`` agree, the message names the state and the mend, and nothing is half done."""

from __future__ import annotations

import asyncio
import time

import pytest
from quart import Quart

from panel.engines.fake.behaviour import Manner
from panel.engines.fake.world import world
from panel.engines.types import PowerState
from panel.models import Task, Vm
from tests.api.kit import log_of, make_host, make_vm, small, turn
from tests.conftest import ApiClient

POWERS = "/api/client/powers/host1/vm-1"


async def test_what_is_not_there(api: ApiClient, fake_host: str) -> None:
    for method, path, message in (
        ("GET", "/api/server/detail/host9", "There is no host host9."),
        ("GET", "/api/server/status/host9", "There is no host host9."),
        ("DELETE", "/api/server/delete/host9", "There is no host host9."),
        ("GET", "/api/client/detail/host9", "There is no host host9."),
        ("GET", "/api/client/detail/host9/vm-9", "There is no host host9."),
        ("GET", "/api/client/detail/host1/vm-9", "There is no VM vm-9 on host host1."),
        ("GET", "/api/client/remote/host1/vm-9", "There is no VM vm-9 on host host1."),
        ("GET", "/api/client/status/host1/vm-9", "There is no VM vm-9 on host host1."),
        ("DELETE", "/api/client/delete/host1/vm-9", "There is no VM vm-9 on host host1."),
        ("POST", "/api/client/scaner/host9", "There is no host host9."),
        ("GET", "/api/system/tasker?id=nope", "There is no task nope."),
        ("POST", "/api/system/loader", "There is no configuration.json in the data folder. Save first."),
        ("GET", "/api/nowhere", "The API has no address /api/nowhere. /docs lists all."),
        ("GET", "/api/server/detail/", "The API has no address /api/server/detail/. /docs lists all."),
        ("GET", "/api/server/detail/" + "x" * 300, f"There is no host {'x' * 64}."),
        ("GET", "/api/client/detail/host1/" + "x" * 300, f"There is no VM {'x' * 64} on host host1."),
    ):
        status, answer = await api(method, path)
        assert (status, answer) == (404, {"code": 404, "msg": message, "data": None}), path


async def test_a_wrong_method(api: ApiClient) -> None:
    status, answer = await api("DELETE", "/api/server/detail")
    assert (status, answer["code"]) == (405, 405)
    assert "DELETE" in answer["msg"]


async def test_messages_follow_the_language(api: ApiClient) -> None:
    headers = {"Authorization": f"Bearer {api.token}", "Accept-Language": "zh-CN,zh;q=0.9"}
    _status, answer = await api("GET", "/api/server/detail/host9", headers=headers)
    assert "host9" in answer["msg"]


async def test_an_impossible_power_names_the_state(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    for action in ("stop", "shutdown", "suspend", "resume", "reset"):
        status, answer = await api("POST", POWERS, {"action": action})
        assert (status, answer["msg"]) == (409, f"VM vm-1 is stopped: {action} is not possible. Possible now: start.")
    await api.ok("POST", POWERS, {"action": "start"})
    assert (await api("POST", POWERS, {"action": "start"}))[0] == 409
    assert (await api("POST", POWERS, {"action": "resume"}))[0] == 409
    assert await Task.filter(kind="vm.power").count() == 1, "what is impossible makes no task"


async def test_what_was_suspended_is_woken_by_start_too(api: ApiClient, fake_host: str) -> None:
    """The document has suspend, and no resume: a program that knows nothing else must be able to undo it."""
    await make_vm(api, start=True)
    for word, done in (("start", "resume"), ("S_START", "resume"), ("resume", "resume")):
        await api.ok("POST", POWERS, {"action": "suspend"})
        status, answer = await api("POST", POWERS, {"action": "shutdown"})
        assert (status, answer["msg"]) == (
            409, "VM vm-1 is suspended: shutdown is not possible. Possible now: stop, resume.",
        )  # fmt: skip
        woken = await api.ok("POST", POWERS, {"action": word})
        assert woken["result"] == {"action": done, "state": "running"}
    assert (await api("POST", POWERS, {"action": "start"}))[0] == 409, "what runs is not started twice"


async def test_the_state_is_read_from_the_host_not_from_the_row(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    await Vm.filter(name="vm-1").update(state=PowerState.RUNNING)
    status, answer = await api("POST", POWERS, {"action": "stop"})
    assert (status, answer["msg"]) == (409, "VM vm-1 is stopped: stop is not possible. Possible now: start.")


async def test_a_second_writer_is_told_the_first(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    turn(Manner.SLOW, delay=0.5, only=frozenset({"power"}))
    first = await api.ok("POST", POWERS + "?wait=0", {"action": "start"})
    for method, path, body in (
        ("POST", POWERS, {"action": "start"}),
        ("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 2}),
        ("DELETE", "/api/client/delete/host1/vm-1", None),
    ):
        status, answer = await api(method, path, body)
        assert status == 409
        assert first["task_id"] in answer["msg"]
        assert "vm.power" in answer["msg"]
    for method, path, body in (
        ("DELETE", "/api/server/delete/host1", None),
        ("POST", "/api/server/powers/host1", {"action": "disable"}),
        ("PUT", "/api/server/update/host1", {"server_user": "ops"}),
    ):
        status, answer = await api(method, path, body)
        assert (status, answer["msg"]) == (
            409, f"Task {first['task_id']} is at work on host1. Wait for it, or cancel it.",
        )  # fmt: skip
    shown = await api.ok("PUT", "/api/server/update/host1", {"outside": "203.0.113.5"})
    assert (shown["enabled"], shown["server_user"], shown["outside"]) == (True, "", "203.0.113.5"), "no connection"


async def test_of_many_at_once_one_wins(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    turn(Manner.SLOW, delay=0.2, only=frozenset({"power"}))
    answers = await asyncio.gather(*(api("POST", POWERS, {"action": "start"}) for _ in range(8)))
    assert sorted(status for status, _answer in answers) == [200] + [409] * 7
    turn(Manner.GOOD)
    bodies = [small("twin") for _ in range(5)]
    answers = await asyncio.gather(*(api("POST", "/api/client/create/host1", body) for body in bodies))
    assert sorted(status for status, _answer in answers) == [200] + [409] * 4
    refused = next(answer for status, answer in answers if status == 409)
    assert refused["msg"] == "There is a VM twin on host host1 already."


async def test_a_mac_is_used_once(api: ApiClient, fake_host: str) -> None:
    nics = {"eth0": {"mac_addr": "02:00:00:00:00:01"}}
    await make_vm(api, nic_all=nics)
    status, answer = await api("POST", "/api/client/create/host1", small("vm-2", nic_all=nics))
    assert status == 409
    assert "vm-1" in answer["msg"]
    twice = {"eth0": {"mac_addr": "02:00:00:00:00:02"}, "eth1": {"mac_addr": "02-00-00-00-00-02"}}
    assert (await api("POST", "/api/client/create/host1", small("vm-2", nic_all=twice)))[0] == 409
    multicast = {"eth0": {"mac_addr": "01:00:5e:00:00:01"}}
    assert (await api("POST", "/api/client/create/host1", small("vm-2", nic_all=multicast)))[0] == 400


async def test_wait_says_how_far_it_is(api: ApiClient, fake_host: str) -> None:
    turn(Manner.SLOW, delay=0.8, only=frozenset({"create"}))
    at_once = await api.ok("POST", "/api/client/create/host1", small("vm-1"))
    assert at_once["status"] in {"queued", "running"}
    assert (await api.ok("GET", "/api/client/detail/host1/vm-1"))["creating"] is True
    begun = time.monotonic()
    half = await api.ok("POST", "/api/client/create/host1?wait=0.1", small("vm-2"))
    assert half["status"] == "running", "it does not wait for the end"
    ended = await api.ok("POST", "/api/client/create/host1?wait=30", small("vm-3"))
    assert ended["status"] == "succeeded"
    assert time.monotonic() - begun < 15, "it waits no longer than needed"


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
async def test_a_create_that_fails_leaves_nothing(api: ApiClient, fake_host: str, step: int) -> None:
    here = turn(Manner.FAILING, fail_at={"create": step})
    status, answer = await api("POST", "/api/client/create/host1?wait=10", small("vm-1", start=True))
    assert status == 500
    assert f"step {step} of create" in answer["msg"]
    assert not here.vms
    assert not here.disks
    assert (await api("GET", "/api/client/detail/host1/vm-1"))[0] == 404
    tasks = (await api.ok("GET", "/api/system/tasker?status=failed"))["tasks"]
    assert [(task["kind"], task["error_code"], task["vm_uuid"]) for task in tasks] == [("vm.create", 500, "vm-1")]
    turn(Manner.GOOD)
    await make_vm(api)


async def test_a_failing_power_says_what_and_reads_the_truth(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    turn(Manner.FAILING, fail_at={"power": 1})
    status, answer = await api("POST", POWERS, {"action": "start"})
    assert (status, answer["data"]) == (500, None)
    assert (await api.ok("GET", "/api/client/status/host1/vm-1"))["state"] == "stopped"


async def test_a_lying_host_is_found_out(api: ApiClient, fake_host: str) -> None:
    turn(Manner.LYING, lies=frozenset({"create"}))
    status, _answer = await api("POST", "/api/client/create/host1?wait=10", small("vm-0"))
    assert status >= 400, "it said that it made the VM, but there is none"
    turn(Manner.GOOD)
    await make_vm(api)
    turn(Manner.LYING, lies=frozenset({"power"}))
    status, answer = await api("POST", POWERS, {"action": "start"})
    assert status == 500
    assert "but the VM is stopped" in answer["msg"]
    assert (await api.ok("GET", "/api/client/status/host1/vm-1"))["state"] == "stopped"


async def test_a_password_needs_a_running_vm_and_an_agent(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    status, answer = await api("POST", "/api/client/password/host1/vm-1", {"password": "pw"})
    assert (status, answer["msg"]) == (409, "VM vm-1 is stopped. Start it first.")
    await make_vm(api, "bare", os_name=None, start=True)
    status, answer = await api("POST", "/api/client/password/host1/bare", {"password": "pw"})
    assert status == 409
    assert "Install qemu-guest-agent" in answer["msg"], "it says how to get one"


async def test_a_disk_never_shrinks(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    status, answer = await api("PUT", "/api/client/update/host1/vm-1", {"hdd_num": 3})
    assert (status, answer["data"]) == (400, {"field": "hdd_num"})
    assert (await api("PUT", "/api/client/update/host1/vm-1", {}))[0] == 400
    assert (await api("PUT", "/api/client/update/host1/vm-1", {"vm_name": ""}))[0] == 400


@pytest.mark.parametrize("step", [0, 1])
async def test_a_change_that_fails_changes_no_limits(api: ApiClient, fake_host: str, step: int) -> None:
    await make_vm(api, speed_u=10)
    turn(Manner.FAILING, fail_at={"update": step})
    assert (await api("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 2, "speed_u": 77}))[0] == 500
    shown = await api.ok("GET", "/api/client/detail/host1/vm-1")
    assert (shown["cpu_num"], shown["speed_u"]) == (1, 10), "all of it or nothing"
    turn(Manner.GOOD)
    await api.ok("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 2, "speed_u": 77})
    shown = await api.ok("GET", "/api/client/detail/host1/vm-1")
    assert (shown["cpu_num"], shown["speed_u"]) == (2, 77)


async def test_update_says_what_holds_now_and_what_later(api: ApiClient, fake_host: str) -> None:
    await make_vm(api, cpu_num=2, start=True)
    done = await api.ok("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 1, "ram_num": 1024, "vm_name": "新"})
    assert done["result"] == {"live": ["title", "memory_mib"], "at_next_start": ["cpu_count"]}
    shown = await api.ok("GET", "/api/client/detail/host1/vm-1")
    assert (shown["cpu_num"], shown["ram_num"], shown["vm_name"]) == (2, 1024, "新")
    assert shown["pending"] == ["cpu_count"]
    await api.ok("POST", POWERS, {"action": "stop"})
    await api.ok("POST", POWERS, {"action": "start"})
    shown = await api.ok("GET", "/api/client/detail/host1/vm-1")
    assert (shown["cpu_num"], shown["pending"]) == (1, [])


async def test_a_guest_that_ignores_shutdown(api: ApiClient, fake_host: str) -> None:
    await api.ok("PUT", "/api/server/update/host1", {"shutdown_timeout": "0.2"})
    await make_vm(api, start=True)
    vm = world("world1").named("vm-1")
    assert vm is not None
    vm.ignores_shutdown = True
    status, answer = await api("POST", POWERS, {"action": "shutdown"})
    assert status == 503
    assert "did not stop within 0.2 s" in answer["msg"]
    assert (await api.ok("GET", "/api/client/status/host1/vm-1"))["state"] == "running"


async def test_a_disabled_host_is_left_alone(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    shown = await api.ok("POST", "/api/server/powers/host1", {"action": "disable"})
    assert (shown["enabled"], shown["health"]) == (False, "disabled")
    assert (await api("POST", "/api/server/powers/host1", {"action": "disable"}))[0] == 409
    for method, path, body in (
        ("POST", "/api/client/create/host1", small("vm-2")),
        ("POST", POWERS, {"action": "start"}),
        ("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 2}),
        ("DELETE", "/api/client/delete/host1/vm-1", None),
        ("GET", "/api/client/remote/host1/vm-1", None),
        ("POST", "/api/client/scaner/host1", None),
    ):
        status, answer = await api(method, path, body)
        assert (status, answer["msg"]) == (409, "Host host1 is disabled. Enable it first."), path
    seen = await api.ok("GET", "/api/client/status/host1/vm-1")
    assert (seen["state"], seen["known_state"]) == ("unknown", "stopped")
    await api.ok("POST", "/api/server/powers/host1", {"action": "enable"})
    await api.ok("POST", POWERS, {"action": "start"})


async def test_a_refusing_host_is_503_and_is_not_added(api: ApiClient) -> None:
    body = {"server_name": "far", "engine_type": "FakeEngine", "behaviour": "refusing"}
    status, answer = await api("POST", "/api/server/create", body)
    assert (status, answer["data"]) == (503, None)
    assert "refuses connections" in answer["msg"]
    assert (await api.ok("GET", "/api/server/detail"))["hosts"] == []


async def test_a_hung_host_costs_the_others_nothing(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_host(api, "other")
    await make_vm(api, host="other")
    turn(Manner.HUNG)
    begun = time.monotonic()
    for path in ("/api/server/detail", "/api/server/status/host1", "/api/client/detail/host1", "/api/system/statis"):
        await api.ok("GET", path)
    await api.ok("POST", "/api/client/powers/other/vm-1", {"action": "start"})
    assert time.monotonic() - begun < app.extensions["panel"].settings.observe_timeout, (
        "nobody waited for the hung host"
    )
    async with asyncio.timeout(10):
        while (shown := await api.ok("GET", "/api/server/detail/host1"))["health"] != "unreachable":
            await asyncio.sleep(0.05)
    assert "did not answer within 2 s" in shown["problem"]
    assert shown["health_since"]
    assert (await api.ok("GET", "/api/server/detail/other"))["health"] == "online"
    status, _answer = await api("POST", "/api/client/create/host1?wait=0.1", small("vm-9"))
    assert status == 200, "the task waits for the host; the caller need not"
    turn(Manner.GOOD)


async def test_a_host_that_talks_nonsense_breaks_no_answer(api: ApiClient) -> None:
    await make_host(api, "mad", vms="3")
    await api.ok("POST", "/api/client/scaner/mad")
    turn(Manner.GARBAGE, "mad")
    await api.ok("POST", "/api/client/scaner/mad")
    await asyncio.sleep(0.6)
    for vm in (await api.ok("GET", "/api/client/detail/mad"))["vms"]:
        assert "\n" not in vm["vm_name"]
        assert len(vm["vm_name"]) <= 200
        assert isinstance(vm["hdd_num"], int | float)
        assert vm["ram_num"] >= 0
        assert all(nic["mac_addr"] != "not-a-mac" for nic in vm["nic_all"].values())
        await api.ok("GET", f"/api/client/status/mad/{vm['vm_uuid']}")
    assert (await api.ok("GET", "/api/server/detail/mad"))["health"] == "online"


async def test_an_internal_error_tells_nothing(app: Quart, api: ApiClient) -> None:
    """A table that is gone: nobody sees the library's words."""
    from tortoise import connections

    await connections.get("default").execute_script("ALTER TABLE log_entry RENAME TO gone")
    status, answer = await api("GET", "/api/system/logger/detail")
    assert (status, answer["data"]) == (500, None)
    assert answer["msg"] == "An internal error; the panel's log has its trace."


async def test_a_body_that_is_too_large(api: ApiClient) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    response = await api.client.post("/api/server/create", data=b" " * (1024 * 1024 + 1), headers=headers)
    assert (response.status_code, (await response.get_json())["code"]) == (413, 413)


async def test_a_cancelled_create_says_so(app: Quart, api: ApiClient, fake_host: str) -> None:
    here = turn(Manner.SLOW, delay=5, only=frozenset({"create"}))
    waiting = asyncio.create_task(api("POST", "/api/client/create/host1?wait=10", small("vm-1")))
    while not await Task.filter(kind="vm.create").exists():
        await asyncio.sleep(0.01)
    services = app.extensions["panel"]
    task = await Task.get(kind="vm.create")
    from tests.conftest import ADMIN

    await services.tasks.cancel(ADMIN, task.id)
    status, answer = await waiting
    assert (status, answer["msg"]) == (409, "Cancelled.")
    assert not here.vms
    assert not here.disks
    assert ("warning", "Cancelled.") in await log_of(api, task.id)
