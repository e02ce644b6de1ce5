"""What guests report of themselves: believed in nothing but its numbers, and told nothing."""

from __future__ import annotations

from typing import Any

from quart import Quart

from tests.api.kit import make_host, make_vm
from tests.conftest import ApiClient


async def report(app: Quart, body: Any, query: str = "") -> tuple[int, dict[str, Any]]:
    """Report as a guest does, without a token."""
    response = await app.test_client().post(f"/api/client/upload{query}", json=body)
    answer = await response.get_json()
    assert answer["code"] == response.status_code
    return response.status_code, answer


async def test_only_known_vms(app: Quart, api: ApiClient, fake_host: str) -> None:
    assert await report(app, {"vm_uuid": "vm-9", "cpu_usage": 1}) == (
        404,
        {"code": 404, "msg": "There is no such VM.", "data": None},
    )
    assert (await report(app, {"cpu_usage": 1}))[1]["data"] == {"field": "vm_uuid"}
    assert (await report(app, {}, "?nic=02:00:00:00:00:99"))[0] == 404
    assert (await report(app, {}, "?nic=nonsense"))[1]["data"] == {"field": "nic"}


async def test_the_numbers_are_kept_and_nothing_else(app: Quart, api: ApiClient, fake_host: str) -> None:
    vm = await make_vm(api)
    mac = vm["nic_all"]["eth0"]["mac_addr"]
    body = {"cpu_usage": 45.2, "mem_usage": 2048, "network_u": 7, "os_pass": "leak", "state": "running", "note": "x"}
    status, answer = await report(app, body, f"?nic={mac.upper().replace(':', '-')}")
    assert (status, answer["data"]) == (200, {"accepted": True})
    seen = await api.ok("GET", "/api/client/status/host1/vm-1")
    assert seen["guest_report"] == {"cpu_usage": 45.2, "mem_usage": 2048, "network_u": 7}
    assert seen["guest_report_at"]
    assert (seen["state"], seen["cpu_usage"]) == ("stopped", None), "a report is shown as one, and changes nothing else"


async def test_a_name_on_two_hosts_is_ambiguous(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_host(api, "host2")
    await make_vm(api)
    other = await make_vm(api, host="host2")
    status, answer = await report(app, {"vm_uuid": "vm-1", "cpu_usage": 1})
    assert (status, answer["data"]) == (400, {"field": "vm_uuid"})
    assert "?nic=" in answer["msg"]
    query = f"?nic={other['nic_all']['eth0']['mac_addr']}"
    assert (await report(app, {"vm_uuid": "vm-1", "cpu_usage": 1}, query))[0] == 200
    assert (await api.ok("GET", "/api/client/status/host1/vm-1"))["guest_report"] is None
    assert (await api.ok("GET", "/api/client/status/host2/vm-1"))["guest_report"] == {"cpu_usage": 1}


async def test_what_is_no_number(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    for value in ("1", True, -1, 1e16, [], {}, "NaN"):
        for field in ("cpu_usage", "network_u"):
            status, answer = await report(app, {"vm_uuid": "vm-1", field: value})
            assert (status, answer["data"]) == (400, {"field": field}), value


async def test_too_much_and_too_often(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_vm(api)
    response = await app.test_client().post("/api/client/upload", data=b"x" * (1024 * 1024 + 1))
    assert (response.status_code, (await response.get_json())["code"]) == (413, 413)
    statuses = [(await report(app, {"vm_uuid": "vm-1", "cpu_usage": 1}))[0] for _ in range(125)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    response = await app.test_client().post("/api/client/upload", json={"vm_uuid": "vm-1"})
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    await api.ok("GET", "/api/server/status")


async def test_the_fuller_reports_of_existing_agents(app: Quart, api: ApiClient, fake_host: str) -> None:
    """Words, tables and what nobody knows are passed over; a MAC may be written without colons."""
    vm = await make_vm(api)
    mac = vm["nic_all"]["eth0"]["mac_addr"]
    body = {
        "ac_status": "started", "cpu_model": "Xeon", "cpu_total": 2, "cpu_usage": 12, "mem_total": 4096, "mem_usage": 1024,
        "hdd_total": 50, "hdd_usage": 7.5, "network_u": 3, "network_d": 4, "network_a": 1000, "gpu_usage": {"0": 9},
        "flu_usage": "much", "ext_usage": {"sdb": [1, 2]}, "cpu_temp": -1, "nested": [[[]]], "os_pass": "leak",
    }  # fmt: skip
    status, answer = await report(app, body, f"?nic={mac.upper().replace(':', '')}")
    assert (status, answer["data"]) == (200, {"accepted": True})
    kept = (await api.ok("GET", "/api/client/status/host1/vm-1"))["guest_report"]
    assert kept == {
        "cpu_usage": 12, "mem_usage": 1024, "mem_total": 4096, "hdd_usage": 7.5, "hdd_total": 50, "network_u": 3,
        "network_d": 4, "cpu_total": 2, "network_a": 1000,
    }  # fmt: skip


async def test_strict_hosts_believe_a_vms_own_addresses_only(app: Quart, api: ApiClient, fake_host: str) -> None:
    vm = await make_vm(api)
    own = vm["nic_all"]["eth0"]["ip4_addr"]
    await api.ok("PUT", "/api/server/update/host1", {"strict_reports": True})
    body = {"vm_uuid": "vm-1", "cpu_usage": 1}
    for sender, wanted in (("192.0.2.9", 403), (own, 200), (f"::ffff:{own}", 200), ("nonsense", 403)):
        response = await app.test_client().post(
            "/api/client/upload", json=body, scope_base={"client": (sender, 4711), "headers": []}
        )
        answer = await response.get_json()
        assert (response.status_code, answer["code"]) == (wanted, wanted), sender
        if wanted == 403:
            assert "own addresses only" in answer["msg"]
