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
