"""What bodies may say: both dialects, old words, unknown fields."""

from __future__ import annotations

from panel.engines.fake.world import world
from panel.engines.types import PowerState
from tests.api.kit import log_of, make_vm, small
from tests.conftest import ApiClient


async def test_memory_in_the_later_dialect_makes_the_disk_mib(api: ApiClient, fake_host: str) -> None:
    body = {"vm_uuid": "old", "os_name": "Debian 12", "cpu_num": 1, "mem_num": 2048, "hdd_num": 20480}
    await api.ok("POST", "/api/client/create/host1?wait=5", body)
    shown = await api.ok("GET", "/api/client/detail/host1/old")
    assert (shown["ram_num"], shown["hdd_num"]) == (2048, 20)
    assert "mem_num" not in shown
    await api.ok("PUT", "/api/client/update/host1/old", {"mem_num": 3072, "hdd_num": 20481})
    shown = await api.ok("GET", "/api/client/detail/host1/old")
    assert (shown["ram_num"], shown["hdd_num"]) == (3072, 21), "a part of a GiB is rounded up, never down"


async def test_a_tiny_disk_of_the_later_dialect_is_told(api: ApiClient, fake_host: str) -> None:
    """50 beside ``mem_num`` is a disk of 1 GiB, which is seldom what was meant."""
    body = {"vm_uuid": "old", "cpu_num": 1, "mem_num": 512, "hdd_num": 50}
    made = await api.ok("POST", "/api/client/create/host1?wait=5", body)
    said = ("warning", "Beside mem_num, hdd_num is MiB: 50 MiB became 1 GiB. Beside ram_num it is GiB.")
    assert said in await log_of(api, made["task_id"])
    done = await api.ok("PUT", "/api/client/update/host1/old", {"mem_num": 512, "hdd_num": 2048})
    assert not [line for line in await log_of(api, done["task_id"]) if line[0] == "warning"]


async def test_a_title_is_kept_alike_by_create_and_update(api: ApiClient, fake_host: str) -> None:
    assert (await make_vm(api, vm_name="  caf\u0065\u0301 "))["vm_name"] == "café"
    await api.ok("PUT", "/api/client/update/host1/vm-1", {"vm_name": "  the\u0301 "})
    assert (await api.ok("GET", "/api/client/detail/host1/vm-1"))["vm_name"] == "thé"
    status, answer = await api("PUT", "/api/client/update/host1/vm-1", {"vm_name": "\u200b"})
    assert (status, answer["msg"]) == (400, "vm_name must not be empty.")
    assert (await make_vm(api, "vm-2", vm_name="\u200b"))["vm_name"] == "vm-2"


async def test_the_other_words_of_the_later_dialect(api: ApiClient, fake_host: str) -> None:
    extra = {"os_pass": "guest-pw", "speed_u": 100, "speed_d": 0, "flu_num": 5, "nat_num": 3, "web_num": 2}
    nic = {"nic_all": {"eth0": {"nic_type": "bridge", "ip4_addr": "", "ip6_addr": "fd00::5", "mac_addr": ""}}}
    made = await api.ok("POST", "/api/client/create/host1?wait=5", small("old", **extra, **nic))
    shown = await api.ok("GET", "/api/client/detail/host1/old")
    assert shown["nic_all"]["eth0"]["net_mode"] == "bridge"
    assert shown["nic_all"]["eth0"]["mac_addr"].startswith("52:54:00:")
    vm = world("world1").named("old")
    assert vm is not None
    assert vm.passwords == {"root": "guest-pw"}
    warnings = [message for level, message in await log_of(api, made["task_id"]) if level == "warning"]
    assert not any("speed_" in message for message in warnings), "they are limits"
    assert (shown["speed_u"], shown["speed_d"], shown["flu_num"]) == (100, 0, 5)
    assert any("fd00::5" in message for message in warnings)
    assert not any("guest-pw" in message for message in warnings)


async def test_phps_empty_array_is_an_empty_object(api: ApiClient, fake_host: str) -> None:
    assert list((await make_vm(api, nic_all=[]))["nic_all"]) == ["eth0"]


async def test_limits_change_without_anything_else(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    done = await api.ok("PUT", "/api/client/update/host1/vm-1", {"speed_u": 50})
    assert done["result"] == {"live": [], "at_next_start": []}
    assert (await api.ok("GET", "/api/client/detail/host1/vm-1"))["speed_u"] == 50


OLD_WORDS = (
    ("S_START", "stopped", "running"),
    ("S_CLOSE", "running", "stopped"),
    ("H_CLOSE", "running", "stopped"),
    ("S_RESET", "running", "running"),
    ("H_RESET", "running", "running"),
    ("S_PAUSE", "running", "suspended"),
    ("A_PAUSE", "running", "suspended"),
    ("S_RESUME", "suspended", "running"),
    ("A_WAKED", "suspended", "running"),
)


async def test_old_power_words(api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    vm = world("world1").named("vm-1")
    assert vm is not None
    for word, before, after in OLD_WORDS:
        vm.enter(PowerState(before), 0.0)
        done = await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": word})
        assert done["result"]["state"] == after, word
        assert done["result"]["action"] in {"start", "stop", "shutdown", "reset", "suspend", "resume"}, "the new words"


async def test_unknown_fields_are_ignored_and_said(api: ApiClient, fake_host: str) -> None:
    nic = {"eth0": {"net_mode": "nat", "vlan": 5}}
    made = await api.ok("POST", "/api/client/create/host1?wait=5", small("vm-1", gpu_num=1, nic_all=nic))
    warnings = [message for level, message in await log_of(api, made["task_id"]) if level == "warning"]
    assert warnings == [
        "Field gpu_num is not known and was ignored.",
        "Field nic_all.eth0.vlan is not known and was ignored.",
    ]
    for method, path, body in (
        ("PUT", "/api/client/update/host1/vm-1", {"vm_name": "x"}),
        ("POST", "/api/client/powers/host1/vm-1", {"action": "start"}),
        ("POST", "/api/client/password/host1/vm-1", {"password": "pw"}),
    ):
        done = await api.ok(method, path, body | {"colour": "blue"})
        log = await log_of(api, done["task_id"])
        assert ("warning", "Field colour is not known and was ignored.") in log, path
    done = await api.ok("PUT", "/api/client/update/host1/vm-1", {"vm_name": "y", "os_pass": "pw", "nic_all": {}})
    warnings = [message for level, message in await log_of(api, done["task_id"]) if level == "warning"]
    assert warnings == [f"Field {name} does not change here, and was ignored." for name in ("nic_all", "os_pass")]
