"""Strangers cannot tell what there is: the same words whether a host, VM, task or image exists or not."""

from __future__ import annotations

import re

from quart import Quart

from tests.api.kit import make_vm
from tests.conftest import ApiClient

THERE = {"host": "host1", "name": "host1", "hs_name": "host1", "host_name": "host1", "vm": "vm-1", "vm_uuid": "vm-1"}


def concrete(rule: str, values: dict[str, str]) -> str:
    return re.sub(r"<(?:(\w+)(?:\([^)]*\))?:)?(\w+)>", lambda m: values.get(m[2], "1"), rule)


async def test_the_same_answer_whether_it_is_there_or_not(app: Quart, api: ApiClient, fake_host: str) -> None:
    await make_vm(api, start=True)
    tried = 0
    for rule in app.url_map.iter_rules():
        if rule.websocket or "<" not in rule.rule or rule.rule.startswith("/assets/"):
            continue
        for method in sorted((rule.methods or set()) & {"GET", "POST", "PUT", "DELETE"}):
            told = set()
            for values in (THERE, THERE | {"vm": "none", "vm_uuid": "none"}, dict.fromkeys(THERE, "none")):
                path = concrete(rule.rule, values)
                response = await app.test_client().open(path, method=method)
                body = (await response.get_data(as_text=True)) + response.headers.get("Location", "")
                for value in sorted(set(values.values()), key=len, reverse=True):
                    body = body.replace(value, "*")
                told.add((response.status_code, body))
            assert len(told) == 1, f"{method} {rule.rule}: {told}"
            assert next(iter(told))[0] in {302, 303, 401}, rule.rule
            tried += 1
    assert tried > 60


async def test_a_wrong_token_costs_the_same_however_wrong(app: Quart, token: str) -> None:
    """Length and beginning of a token are not told apart, by status or words; its comparison is ``hmac.compare_digest``."""
    told = set()
    for number, wrong in enumerate((token[:-1], token + "x", "x", token[:8] + "x" * (len(token) - 8))):
        response = await app.test_client().get(
            "/api/server/status",
            headers={"Authorization": f"Bearer {wrong}"},
            scope_base={"client": (f"192.0.2.{number + 1}", 4711)},
        )
        told.add((response.status_code, await response.get_data(as_text=True)))
    assert len(told) == 1
