"""``/metrics``: right by the format's own rules, true, escaped, behind the token, cheap; and the dashboard made for it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quart import Quart

from panel.api.prometheus import CONTENT_TYPE, HELP, SLICE, Exposition, exposition, label_text
from panel.engines.types import PowerState
from panel.models import Host, Vm
from panel.models.host import HostHealth
from tests.api.exposition import Metric, read
from tests.api.kit import make_vm
from tests.conftest import ROOT, ApiClient
from tests.services.kit import until

NASTY = 'a"b\\c\nd{e="f"},\\n 测'


async def scrape(api: ApiClient) -> dict[str, Metric]:
    response = await api.client.get("/metrics", headers={"Authorization": f"Bearer {api.token}"})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == CONTENT_TYPE
    return read((await response.get_data()).decode())


@pytest.mark.usefixtures("fake_host")
async def test_it_says_what_was_seen(api: ApiClient) -> None:
    await make_vm(api, "on", start=True)
    await make_vm(api, "off")

    async def measured() -> bool:
        return bool((await Vm.get(name="on")).rates)

    await until(measured)
    found = await scrape(api)
    one = {"host": "host1", "vm": "on"}
    assert found["openidcs_host_up"].value(host="host1", engine="fake") == 1
    assert found["openidcs_vms"].value(host="host1", state="running") == 1
    assert found["openidcs_vms"].value(host="host1", state="missing") == 0
    assert found["openidcs_vm_up"].value(**one) == 1
    assert found["openidcs_vm_up"].value(host="host1", vm="off") == 0
    assert found["openidcs_vm_memory_bytes"].value(**one) == 512 * 1024**2
    assert found["openidcs_tasks"].value(status="succeeded") == 2
    for name in ("cpu_usage_ratio", "network_receive_bytes_per_second", "disk_write_bytes_per_second"):
        assert found[f"openidcs_vm_{name}"].value(**one) is not None
        assert found[f"openidcs_vm_{name}"].value(host="host1", vm="off") is None
    for metric in found.values():
        assert (metric.kind, bool(metric.help), bool(metric.samples)) == ("gauge", True, True)


async def test_a_host_that_does_not_answer_has_no_load(app: Quart, api: ApiClient) -> None:
    load = {"cpu_percent": 50.0, "cpu_count": 4, "memory_used_mib": 1, "memory_total_mib": 2, "disk_used_gib": 1.0,
            "disk_total_gib": 2.0}  # fmt: skip
    await Host.create(name="up", engine="fake", enabled=False, status=load, health=HostHealth.ONLINE)
    await Host.create(name="down", engine="fake", enabled=False, status=load, health=HostHealth.UNREACHABLE)
    found = await scrape(api)
    assert found["openidcs_host_cpu_usage_ratio"].samples == {frozenset({("host", "up")}): 0.5}
    assert found["openidcs_host_memory_bytes"].value(host="up") == 2 * 1024**2
    assert found["openidcs_host_up"].value(host="down", engine="fake") == 0


async def test_without_the_token(app: Quart) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong-token"}, {"Authorization": "Basic eA=="}):
        response = await app.test_client().get("/metrics", headers=headers)
        body = (await response.get_data()).decode()
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert response.headers["Content-Type"].startswith("text/plain")
        assert "openidcs_" not in body


async def test_names_are_escaped(api: ApiClient) -> None:
    host = await Host.create(name=NASTY, engine="fake", enabled=False)
    await Vm.create(host=host, name=NASTY, ref="r", cpu_count=3, memory_mib=1, state=PowerState.RUNNING)
    assert (await scrape(api))["openidcs_vm_cpus"].value(host=NASTY, vm=NASTY) == 3


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text(), max_size=4), st.floats(allow_nan=False)
)
def test_any_label_survives(labels: dict[str, str], value: float) -> None:
    made = Exposition()
    made.add("vms", label_text(**labels), value)
    assert read(made.text())["openidcs_vms"].samples == {frozenset(labels.items()): value}


async def test_queries_grow_by_slices_only(app: Quart, monkeypatch: pytest.MonkeyPatch) -> None:
    host = await Host.create(name="h", engine="fake", enabled=False)
    rows = [Vm(host=host, name=f"v{n}", ref=f"r{n}", cpu_count=1, memory_mib=1) for n in range(SLICE + 1)]
    await Vm.bulk_create(rows)
    asked = []
    from tortoise.backends.sqlite.client import SqliteClient

    execute = SqliteClient.execute_query

    async def counting(self: Any, query: str, *args: Any, **kwargs: Any) -> Any:
        if query.startswith("SELECT"):  # the panel's own housekeeping deletes meanwhile
            asked.append(query)
        return await execute(self, query, *args, **kwargs)

    monkeypatch.setattr(SqliteClient, "execute_query", counting)
    assert len(read(await exposition())["openidcs_vm_up"].samples) == SLICE + 1
    assert len(asked) <= 5, asked


def test_the_dashboard_asks_for_what_is_there() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/openidcs.json").read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [item["definition"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
    names = {name for expression in asked for name in re.findall(r"openidcs_(\w+)", expression)}
    assert len(asked) > 15
    assert names <= set(HELP)
    labels = {label for expression in asked for label in re.findall(r"(\w+)=~?\"", expression)}
    assert labels <= {"host", "vm", "state", "status"}


def test_the_documentation_names_the_scrape() -> None:
    assert "metrics_path: /metrics" in (ROOT / "deploy/README.md").read_text()
