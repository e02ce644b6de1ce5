"""What bodies and queries may not say: 400, with the field at fault. One panel for all of them: nothing changes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.kit import small
from tests.conftest import ApiClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREATE = "/api/client/create/host1"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", CREATE, small("v", cpu_num="2"), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=1.5), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=True), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=None), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=-1), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=0), "cpu_num"),
        ("POST", CREATE, small("v", cpu_num=2**63), "cpu_num"),
        ("POST", CREATE, small("v", ram_num="4096"), "ram_num"),
        ("POST", CREATE, small("v", ram_num=1), "ram_num"),
        ("POST", CREATE, small("v", hdd_num=[]), "hdd_num"),
        ("POST", CREATE, small("v", hdd_num=0), "hdd_num"),
        ("POST", CREATE, small("v", hdd_num=1), "hdd_num"),
        ("POST", CREATE, small("../etc"), "vm_uuid"),
        ("POST", CREATE, small("v" * 64), "vm_uuid"),
        ("POST", CREATE, small(""), None),
        ("POST", CREATE, small("v", vm_name=5), "vm_name"),
        ("POST", CREATE, small("v", vm_name="a\nb"), "vm_name"),
        ("POST", CREATE, small("v", os_name="BeOS"), "os_name"),
        ("POST", CREATE, small("v", os_pass="a\nb"), "os_pass"),
        ("POST", CREATE, small("v", nic_all=["eth0"]), "nic_all"),
        ("POST", CREATE, small("v", nic_all={"eth0": {"net_mode": "warp"}}), "nic_all.eth0.net_mode"),
        ("POST", CREATE, small("v", nic_all={"eth0": {"mac_addr": "zz"}}), "nic_all.eth0.mac_addr"),
        ("POST", CREATE, small("v", nic_all={"a/b": {}}), "nic_all"),
        ("POST", CREATE, small("v", nic_all={f"e{n}": {} for n in range(9)}), "nic_all"),
        ("POST", CREATE, {"vm_uuid": "v", "ram_num": 512, "hdd_num": 4}, "cpu_num"),
        ("POST", CREATE, {"vm_uuid": "v", "cpu_num": 1, "hdd_num": 4}, "ram_num"),
        ("POST", CREATE, {"vm_uuid": "v", "cpu_num": 1, "ram_num": 512}, "hdd_num"),
        ("POST", CREATE + "?wait=soon", small("v"), "wait"),
        ("POST", CREATE + "?wait=-1", small("v"), "wait"),
        ("POST", CREATE + "?wait=nan", small("v"), "wait"),
        ("POST", "/api/client/powers/host1/v", {}, "action"),
        ("POST", "/api/client/powers/host1/v", {"action": ""}, "action"),
        ("POST", "/api/client/powers/host1/v", {"action": "explode"}, "action"),
        ("POST", "/api/client/powers/host1/v", {"action": 1}, "action"),
        ("POST", "/api/client/password/host1/v", {}, "password"),
        ("POST", "/api/client/password/host1/v", {"password": ""}, "password"),
        ("POST", "/api/server/powers/host1", {}, "action"),
        ("POST", "/api/server/powers/host1", {"action": "explode"}, "action"),
        ("POST", "/api/server/create", {"engine_type": "FakeEngine"}, "server_name"),
        ("POST", "/api/server/create", {"server_name": "x"}, "engine_type"),
        ("POST", "/api/server/create", {"server_name": "a b", "engine_type": "FakeEngine"}, "server_name"),
        ("PUT", "/api/server/update/host1", {"server_addr": 5}, "server_addr"),
        ("PUT", "/api/server/update/host1", {"server_addr": "a\nb"}, "server_addr"),
        ("PUT", "/api/server/update/host1", {"engine_type": "QEMUServer"}, "engine_type"),
        ("POST", "/api/system/create", {"token": "short"}, "token"),
        ("POST", "/api/system/create", {"token": "with space in it"}, "token"),
        ("GET", "/api/system/logger/detail?page=0", None, "page"),
        ("GET", "/api/system/logger/detail?limit=501", None, "limit"),
        ("GET", "/api/system/logger/detail?level=loud", None, "level"),
        ("GET", "/api/system/logger/detail?since=yesterday", None, "since"),
        ("GET", "/api/system/tasker?status=lazy", None, "status"),
    ],
)
async def test_what_is_wrong_is_400_with_the_field(
    shared_api: ApiClient, method: str, path: str, body: Any, field: str | None
) -> None:
    status, answer = await shared_api(method, path, body)
    if field is None:  # an empty name is an absent one
        assert (status, answer["code"]) == (200, 200)
        return
    assert status == 400, answer
    assert answer["data"] == {"field": field}
    assert len(answer["msg"]) > 10


@pytest.mark.parametrize("content", [b"{", b"[1]", b"null", b'"x"', b"\xff", b'{"action": NaN}', b'{"a":' * 2000])
async def test_a_body_that_is_no_object(shared_api: ApiClient, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {shared_api.token}", "Content-Type": "application/json"}
    response = await shared_api.client.post("/api/client/powers/host1/v", data=content, headers=headers)
    assert response.status_code == 400
    assert (await response.get_json())["code"] == 400


async def test_a_zero_byte_is_400_wherever_it_is(shared_api: ApiClient) -> None:
    for method, path, body in (
        ("GET", "/api/server/detail/%00", None),
        ("GET", "/api/system/logger/detail?text=%00", None),
        ("POST", CREATE, small("v", nic_all={"eth0": {"ip4_addr": "\0"}})),
        ("POST", CREATE, small("v", **{"a\0b": 1})),
        ("POST", "/api/client/upload", {"vm_uuid": "\0"}),
    ):
        assert (await shared_api(method, path, body))[0] == 400, path


@pytest.mark.parametrize("path", ["/api/client/powers/host1/v", "/api/server/powers/host1"])
@pytest.mark.parametrize("content", [b"", b"  \n", b"{}"])
async def test_no_action_is_never_a_default(shared_api: ApiClient, path: str, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {shared_api.token}"}
    response = await shared_api.client.post(path, data=content, headers=headers)
    assert response.status_code == 400
    assert await response.get_json() == {"code": 400, "msg": "action is missing.", "data": {"field": "action"}}


async def test_bodies_need_no_content_type(shared_api: ApiClient) -> None:
    headers = {"Authorization": f"Bearer {shared_api.token}"}
    response = await shared_api.client.post(
        "/api/client/powers/host1/nobody", data=b'{"action": "start"}', headers=headers
    )
    assert response.status_code == 404, "the body was understood; the VM is not there"
