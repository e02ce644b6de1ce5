"""Log, tasks, engines, numbers, and saving and loading the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from panel.errors import InvalidInput
from panel.models import Host, Nic, Task, Vm
from panel.security import SecretBox
from panel.services.container import Services
from tests.api.kit import make_host, make_vm, small
from tests.conftest import ADMIN, ApiClient


@pytest.fixture
def file(services: Services) -> Path:
    """Where the configuration is saved."""
    return services.configuration.path


def change(file: Path, **values: Any) -> None:
    """Overwrite fields of the saved file's first host."""
    saved = json.loads(file.read_text())
    saved["hosts"][0] |= values
    file.write_text(json.dumps(saved))


async def test_the_log_pages_and_filters(api: ApiClient, fake_host: str) -> None:
    for number in range(3):
        await make_vm(api, f"vm-{number}")
    first = await api.ok("GET", "/api/system/logger/detail?limit=2&page=1&action=vm.create")
    second = await api.ok("GET", "/api/system/logger/detail?limit=2&page=2&action=vm.create")
    assert (first["total"], first["page"], first["limit"]) == (3, 1, 2)
    assert [row["object_name"] for row in first["logs"] + second["logs"]] == ["host1/vm-2", "host1/vm-1", "host1/vm-0"]
    row = first["logs"][0]
    assert (row["actor"], row["source"], row["level"], row["object_kind"]) == ("admin", "api", "info", "vm")
    assert row["message"] == "Create a VM"
    for query, total in (
        ("object_name=host1/vm-1", 1),
        ("text=VM-1", 1),
        ("object_kind=host&action=host.create", 1),
        ("level=error", 0),
        ("actor=nobody", 0),
        ("source=ignored&actor=admin&action=vm.create", 3),
        (f"since={row['at'].replace('+', '%2B')}&action=vm.create", 1),
        (f"until={row['at'].replace('+', '%2B')}&action=vm.create", 3),
        ("since=2000-01-01T00:00:00&action=vm.create", 3),
        ("until=2000-01-01&action=vm.create", 0),
        ("since=0001-01-01T00:00:00%2B01:00", None),
    ):
        status, answer = await api("GET", f"/api/system/logger/detail?{query}")
        if total is None:
            assert (status, answer["data"]) == (400, {"field": "since"})
        else:
            assert (status, answer["data"]["total"]) == (200, total), query
    beyond = await api.ok("GET", "/api/system/logger/detail?page=1000000&limit=500")
    assert beyond["logs"] == []


async def test_tasks_page_filter_and_tell_their_log(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    done = await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": "start"})
    listed = await api.ok("GET", "/api/system/tasker?limit=1")
    assert listed["total"] == 2
    assert [task["kind"] for task in listed["tasks"]] == ["vm.power"]
    assert listed["tasks"][0]["log"] is None, "only when asked for by id"
    one = (await api.ok("GET", f"/api/system/tasker?id={done['task_id']}"))["tasks"][0]
    assert (one["status"], one["percent"], one["error_code"], one["actor"]) == ("succeeded", 100, None, "admin")
    assert (one["hs_name"], one["vm_uuid"], one["result"]["state"]) == ("host1", "vm-1", "running")
    assert [line["message"] for line in one["log"]][1:] == ["The VM is running."] == [one["message"]]
    assert one["started_at"] <= one["ended_at"]
    for query, total in (
        ("status=succeeded", 2),
        ("status=failed", 0),
        ("hs_name=host1&vm_uuid=vm-1", 2),
        ("vm_uuid=x", 0),
    ):
        assert (await api.ok("GET", f"/api/system/tasker?{query}"))["total"] == total


async def test_engines_say_what_they_can(api: ApiClient) -> None:
    engines = {item["engine_type"]: item for item in (await api.ok("GET", "/api/system/engine"))["engines"]}
    assert set(engines) == {
        "QEMUServer",
        "VMWareSetup",
        "PromoxSetup",
        "vSphereESXi",
        "LxContainer",
        "OCInterface",
        "FakeEngine",
    }
    for engine in engines.values():
        assert engine["capabilities"]["create"] is True
        assert set(engine["capabilities"]["power"]) >= {"start", "stop", "shutdown", "suspend", "resume", "reset"}
        assert {field["name"] for field in engine["fields"]} >= {"server_addr"}
        assert not any(field["secret"] and field["default"] for field in engine["fields"])


async def test_the_numbers(api: ApiClient, fake_host: str) -> None:
    await make_host(api, "host2")
    await make_vm(api, start=True)
    await make_vm(api, "vm-2", cpu_num=3, hdd_num=5)
    await api.ok("POST", "/api/server/powers/host2", {"action": "disable"})
    numbers = await api.ok("GET", "/api/system/statis")
    assert (numbers["host_count"], numbers["host_online"]) == (2, 1)
    assert numbers["hosts_by_health"] == {"online": 1, "disabled": 1}
    assert (numbers["vm_count"], numbers["vms_by_state"]) == (2, {"running": 1, "stopped": 1})
    assert (numbers["cpu_allocated"], numbers["ram_allocated"], numbers["hdd_allocated"]) == (4, 1024, 9.0)
    assert (numbers["tasks_running"], numbers["tasks_failed"]) == (0, 0)


async def test_saving_and_loading_bring_everything_back(api: ApiClient, services: Services, file: Path) -> None:
    await make_host(api, "host1", server_pass="host-pw", vms="0")
    vm = await make_vm(api, speed_u=5)
    assert (await api.ok("POST", "/api/system/saving")) == {"file": "configuration.json"}
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["version"] == 1
    secret = (await Host.get(name="host1")).secret
    await api.ok("POST", "/api/system/create", {"token": "another-token"})
    api.token = "another-token"
    await Vm.filter(name="vm-1").update(title="changed", cpu_count=9)
    await Nic.all().delete()
    await Host.filter(name="host1").update(secret="", address="elsewhere", enabled=False)
    await make_host(api, "host2")
    await make_vm(api, "vm-2", host="host2")

    loaded = await api.ok("POST", "/api/system/loader")
    assert loaded == {"hosts": 1, "vms": 1, "kept_hosts": 1, "kept_vms": 1}
    api.token = await services.access.token()
    assert api.token != "another-token"
    back = await api.ok("GET", "/api/client/detail/host1/vm-1")
    for name in ("vm_name", "cpu_num", "ram_num", "hdd_num", "os_name"):
        assert back[name] == vm[name]
    assert back["nic_all"]["eth0"]["mac_addr"] == vm["nic_all"]["eth0"]["mac_addr"]
    row = await Host.get(name="host1")
    assert (row.secret, row.address, row.enabled) == (secret, "host1", True)
    assert (await Vm.get(name="vm-1")).limits == {"speed_u": 5}
    await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": "start"})


async def test_loading_after_everything_was_deleted(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    await api.ok("POST", "/api/system/saving")
    await api.ok("DELETE", "/api/server/delete/host1")
    assert (await api.ok("POST", "/api/system/loader"))["vms"] == 1
    await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": "start"})


NO_CONFIGURATION = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"version": 2, "token": "", "hosts": []}',
    b'{"version": 1, "token": "", "hosts": [], "more": 1}',
    b'{"version": 1, "token": "", "hosts": [{"name": "x"}]}',
)
WRONG_HOSTS: tuple[dict[str, Any], ...] = (
    {"engine": "abacus"},
    {"name": "a b"},
    {"enabled": "yes"},
    {"secret": "not-sealed"},
    {"surprise": 1},
    {"vms": [{"name": "x"}]},
    {"options": {"behaviour": 5}},
)
WRONG_VMS: tuple[dict[str, Any], ...] = ({"cpu_count": 2**40}, {"disk_gib": 1e300}, {"memory_mib": -1}, {"ref": ""})


async def test_a_file_that_is_none_changes_nothing(api: ApiClient, fake_host: str, file: Path) -> None:
    await make_vm(api)
    before = await snapshot()
    for content in NO_CONFIGURATION:
        file.write_bytes(content)
        status, answer = await api("POST", "/api/system/loader")
        assert status == 400, content
        assert "configuration.json" in answer["msg"]
    assert await snapshot() == before


async def test_one_wrong_field_changes_nothing(api: ApiClient, fake_host: str, file: Path) -> None:
    await make_vm(api)
    await api.ok("POST", "/api/system/saving")
    saved = file.read_bytes()
    vms = json.loads(saved)["hosts"][0]["vms"]
    wrong = [*WRONG_HOSTS, *({"vms": [vms[0] | values]} for values in WRONG_VMS)]
    wrong += [{"vms": vms * 2}, {"vms": [vms[0] | {"nics": vms[0]["nics"] * 2}]}]
    await Vm.filter(name="vm-1").update(title="since then")
    before = await snapshot()
    for values in wrong:
        file.write_bytes(saved)
        change(file, **values)
        assert (await api("POST", "/api/system/loader"))[0] == 400, values
    assert await snapshot() == before
    file.write_bytes(saved)
    await api.ok("POST", "/api/system/loader")
    assert await snapshot() != before


async def test_secrets_of_another_key(api: ApiClient, fake_host: str, services: Services, tmp_path: Path) -> None:
    await api.ok("POST", "/api/system/saving")
    other = SecretBox.open(tmp_path / "other")
    saved = json.loads(services.configuration.path.read_text())
    services.configuration.path.write_text(json.dumps(saved | {"token": other.seal("token-of-another")}))
    status, answer = await api("POST", "/api/system/loader")
    assert (status, answer["msg"]) == (400, "A secret of the file was encrypted with another secret.key.")
    await api.ok("GET", "/api/server/status")


async def test_a_save_that_breaks_leaves_the_old_file(api: ApiClient, fake_host: str, services: Services) -> None:
    await api.ok("POST", "/api/system/saving")
    before = services.configuration.path.read_bytes()
    services.configuration.path.unlink()
    services.configuration.path.mkdir()  # the rename must fail
    status, answer = await api("POST", "/api/system/saving")
    assert status == 500
    assert "configuration.json cannot be written" in answer["msg"]
    folder = services.configuration.path.parent
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".configuration")], (
        "no scratch file stays"
    )
    services.configuration.path.rmdir()
    services.configuration.path.write_bytes(before)
    await api.ok("POST", "/api/system/loader")


async def test_a_loader_waits_for_tasks(api: ApiClient, fake_host: str, services: Services) -> None:
    await api.ok("POST", "/api/system/saving")
    from panel.engines.fake.behaviour import Manner
    from tests.api.kit import turn

    turn(Manner.SLOW, delay=0.3, only=frozenset({"create"}))
    await api.ok("POST", "/api/client/create/host1", small("vm-1"))
    status, answer = await api("POST", "/api/system/loader")
    assert (status, answer["msg"]) == (409, "A task is at work. Load when none is.")
    await api.ok("POST", "/api/system/saving")
    assert json.loads(services.configuration.path.read_text())["hosts"][0]["vms"] == [], (
        "what is half made is not saved"
    )
    await services.tasks.wait((await Task.get(kind="vm.create")).id, 5)


async def test_a_huge_file_is_not_read(services: Services, file: Path) -> None:
    with file.open("wb") as handle:
        handle.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(InvalidInput, match="too large"):
        await services.configuration.load(ADMIN)


async def snapshot() -> list[Any]:
    """Everything a load could change."""
    rows: list[Any] = [await Host.all().order_by("id").values("id", "name", "address", "secret", "enabled", "options")]
    rows.append(await Vm.all().order_by("id").values("id", "name", "title", "ref", "cpu_count", "host_id"))
    rows.append(await Nic.all().order_by("id").values("id", "mac", "vm_id"))
    return rows


async def test_an_older_token_that_comes_back_ends_what_the_newer_one_opened(
    api: ApiClient, services: Services
) -> None:
    await api.ok("POST", "/api/system/saving")
    older = api.token
    api.token = (await api.ok("POST", "/api/system/resets"))["token"]
    cookie, _session = await services.access.login(api.token, "192.0.2.9")
    await api.ok("POST", "/api/system/loader")
    assert await services.access.by_session(cookie) is None
    api.token = older
    await api.ok("GET", "/api/server/status")
