"""What a refusal of a body or a query says: the field and the mend, in the panel's own words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from panel.api import reasons, wire
from panel.models import Vm
from tests.api.kit import make_vm, small
from tests.conftest import ApiClient

CREATE = "/api/client/create/host1"
UPDATE = "/api/client/update/host1/vm-1"
LOGS = "/api/system/logger/detail"
JUNK: tuple[Any, ...] = (
    None, True, -1, 2**31, 2**63, 10**30, 1.5, 1e300, -0.0, float("nan"), float("inf"), "", "x", "1", "x" * 70_000,
    "0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", [], [[]], [["a"]], [[1, 2]], [["a", "b", "c"]], [5], ["x"] * 200,
    {}, {"a": 1}, {"a": {"net_mode": 1}}, {"eth0": None},
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("POST", CREATE, small("v", cpu_num="2"), "cpu_num must be a whole number, without quotes."),
        ("POST", CREATE, small("v", cpu_num=1.5), "cpu_num must be a whole number, without quotes."),
        ("POST", CREATE, small("v", cpu_num=-1), "cpu_num must be at least 0."),
        ("POST", CREATE, small("v", cpu_num=2**63), "cpu_num must be at most 2147483647."),
        ("POST", CREATE, small("v" * 64), "vm_uuid must have at most 63 characters."),
        ("POST", CREATE, small("v", vm_name=5), "vm_name must be text, in quotes."),
        ("POST", CREATE, small("v", start="true"), "start must be true or false, without quotes."),
        ("POST", CREATE, small("v", ssh_keys="a"), "ssh_keys must be a list, in [ ]."),
        ("POST", CREATE, small("v", ssh_keys=["a"] * 101), "ssh_keys must have at most 100 entries."),
        ("POST", CREATE, small("v", nic_all=["eth0"]), "nic_all must be an object, in { }."),
        ("POST", CREATE, small("v", nic_all={"eth0": None}), "nic_all.eth0 must be an object, in { }."),
        (
            "POST", CREATE, small("v", nic_all={"eth0": {"net_mode": "warp"}}),
            "nic_all.eth0.net_mode must be one of: nat, bridge.",
        ),
        (
            "POST", CREATE, small("v", nic_all={"网卡 1": {}}),
            "nic_all: 网卡 1 is no name for an interface. It is 1 to 63 letters, digits, '.', '_' or '-', and begins with "
            "a letter or digit, as in eth0.",
        ),
        ("POST", "/api/client/password/host1/v", {"password": ""}, "password must not be empty."),
        ("POST", "/api/system/create", {"token": "short"}, "token must have at least 8 characters."),
        ("GET", LOGS + "?page=x", None, "page must be a whole number."),
        ("GET", LOGS + "?level=loud", None, "level must be one of: info, warning, error."),
        (
            "GET", LOGS + "?since=yesterday", None,
            "since must be a time such as 2026-01-31T08:00:00Z. A + in an address is written %2B.",
        ),
        ("POST", CREATE + "?wait=soon", small("v"), "wait must be a number."),
    ],
)  # fmt: skip
async def test_the_message_says_what_the_field_must_be(
    api: ApiClient, fake_host: str, method: str, path: str, body: Any, message: str
) -> None:
    status, answer = await api(method, path, body)
    assert (status, answer["msg"]) == (400, message)


def _models(base: type[BaseModel]) -> list[type[BaseModel]]:
    below = [model for child in base.__subclasses__() for model in (child, *_models(child))]
    return [model for model in below if model.__module__ == wire.__name__]


def test_nothing_is_told_in_pydantics_words() -> None:
    """Each field of each body and query with values of all kinds: every kind of refusal has a sentence of ours."""
    seen: set[str] = set()
    for model in {*_models(wire.Body), *_models(wire.Query)}:
        for name in model.model_fields:
            for value in JUNK:
                try:
                    model.model_validate({name: value})
                except ValidationError as error:
                    for found in error.errors(include_url=False, include_input=False):
                        message = str(reasons.refusal(found))
                        assert found["type"] in reasons._SENTENCES, (model, name, value, found)
                        assert "{" not in message.replace("{ }", ""), message
                        seen.add(found["type"])
    assert len(seen) > 15, "the values are wrong in many ways"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "The body is not JSON: see line 1, column 2."),
        (b'{"action": "start",\n "x": NaN}', "The body is not JSON: see line 2, column 7."),
        (b'{"x": 1e400}', "The body is not JSON: see line 1, column 7."),
        (b'{"x": "\\ud800"}', "The body is not JSON: see line 1, column 8."),
        ('{"x": "虚拟机"}'.encode("gbk"), "The body is not UTF-8. JSON is always sent as UTF-8."),
        (b"action=start&x=1", 'The body is a form. Send it as JSON, such as {"action": "start"}.'),
        (
            b'--------------------------1f\r\nContent-Disposition: form-data; name="action"\r\n\r\nstart\r\n',
            'The body is a form. Send it as JSON, such as {"action": "start"}.',
        ),
    ],
)
async def test_a_body_that_is_no_json_says_where_or_what_it_is(api: ApiClient, content: bytes, message: str) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    response = await api.client.post("/api/client/powers/host1/v", data=content, headers=headers)
    assert response.status_code == 400
    assert (await response.get_json())["msg"] == message


async def test_a_byte_order_mark_is_no_part_of_the_body(api: ApiClient, fake_host: str) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    content = b'\xef\xbb\xbf{"action": "start"}'
    response = await api.client.post("/api/client/powers/host1/nobody", data=content, headers=headers)
    assert response.status_code == 404, "the body was understood; the VM is not there"


async def test_a_whole_number_may_have_a_point(api: ApiClient, fake_host: str) -> None:
    """JSON has one kind of number, and some languages write all of them so. What the panel says, it takes."""
    shown = await make_vm(api)
    done = await api.ok("PUT", UPDATE, shown | {"cpu_num": 2.0, "hdd_num": float(shown["hdd_num"] + 1)})
    assert done["status"] == "succeeded"
    after = await api.ok("GET", "/api/client/detail/host1/vm-1")
    assert (after["cpu_num"], after["hdd_num"]) == (2, 5)
    for number in (1.5, 1e300, float(2**31)):
        assert (await api("PUT", UPDATE, {"cpu_num": number}))[0] == 400


async def test_a_whole_number_is_told_without_one(api: ApiClient, fake_host: str) -> None:
    """The document says ``"hdd_num": 50``; Go and others read no 50.0 into a whole number."""
    assert isinstance((await make_vm(api))["hdd_num"], int)
    assert isinstance((await api.ok("GET", "/api/client/detail/host1"))["vms"][0]["hdd_num"], int)
    await api.ok("POST", "/api/server/powers/host1", {"action": "disable"})  # else the observer puts it right
    await Vm.filter(name="vm-1").update(disk_gib=2.5)
    assert (await api.ok("GET", "/api/client/detail/host1/vm-1"))["hdd_num"] == 2.5


@pytest.mark.parametrize("zone", ["+08:00", " 08:00", "%2B08:00", "%2b0800", "Z", ""])
async def test_the_zone_of_a_time_may_come_as_programs_send_it(api: ApiClient, fake_host: str, zone: str) -> None:
    """A ``+`` that nobody wrote as ``%2B`` arrives as a space."""
    for since, there in (("2001-01-01T00:00:00", True), ("2101-01-01T00:00:00", False)):
        found = await api.ok("GET", f"{LOGS}?since={since}{zone.replace(' ', '%20')}")
        assert bool(found["logs"]) is there


async def test_times_look_alike_everywhere(api: ApiClient, fake_host: str) -> None:
    made = await make_vm(api)
    times = [
        made["created_at"],
        made["seen_at"],
        (await api.ok("GET", "/api/client/status/host1/vm-1"))["seen_at"],
        (await api.ok("GET", "/api/client/detail/host1"))["vms"][0]["created_at"],
        (await api.ok("GET", LOGS))["logs"][0]["at"],
        (await api.ok("GET", "/api/system/tasker"))["tasks"][0]["created_at"],
        (await api.ok("GET", "/api/server/status/host1"))["seen_at"],
    ]
    assert all(time.endswith("Z") for time in times), times
