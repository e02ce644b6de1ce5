"""The panel on a real PostgreSQL: the way of a VM, the lock, and text that PostgreSQL does not take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from panel.app import create_app
from panel.models import Task
from panel.models.database import close_database, migrate, open_database
from panel.settings import Settings
from tests.api.kit import log_of, make_host, make_vm, small
from tests.conftest import ApiClient

pytestmark = pytest.mark.live


@pytest.fixture
async def api(postgres_url: str, tmp_path: Path) -> AsyncIterator[ApiClient]:
    """A client of a panel over PostgreSQL, with host ``host1``."""
    settings = Settings(
        data_folder=tmp_path / "data",
        database_url=postgres_url,
        fake_engine=True,
        observe_seconds=0.2,
        observe_timeout=2,
    )
    application = create_app(settings)
    services = application.extensions["panel"]
    await migrate(settings.database)
    await open_database(settings.database)
    await services.access.ensure_token()
    await close_database()
    async with application.test_app():
        client = ApiClient(application.test_client(), await services.access.token())
        await make_host(client, "host1", server_pass="host-pw")
        yield client


async def test_the_way_of_a_vm(api: ApiClient) -> None:
    vm = await make_vm(api, vm_name="测试虚拟机", os_pass="pw", speed_u=5, start=True)
    assert vm["vm_name"] == "测试虚拟机"
    await api.ok("POST", "/api/client/password/host1/vm-1", {"password": "new-password"})
    await api.ok("PUT", "/api/client/update/host1/vm-1", {"cpu_num": 2, "hdd_num": 8})
    for action, state in (("suspend", "suspended"), ("resume", "running"), ("stop", "stopped"), ("start", "running")):
        done = await api.ok("POST", "/api/client/powers/host1/vm-1", {"action": action})
        assert done["result"]["state"] == state
    await api.ok("POST", "/api/client/scaner/host1")
    await api.client.post("/api/client/upload", json={"vm_uuid": "vm-1", "cpu_usage": 45.2})
    await asyncio.sleep(1.5)
    status = await api.ok("GET", "/api/client/status/host1/vm-1")
    assert (status["state"], status["guest_report"]) == ("running", {"cpu_usage": 45.2})
    assert (await api.ok("GET", "/api/server/detail/host1"))["health"] == "online"
    await api.ok("POST", "/api/system/saving")
    await api.ok("POST", "/api/system/loader")
    assert (await api.ok("GET", "/api/system/statis"))["vm_count"] == 1
    since = "2000-01-01T00:00:00"
    assert (await api.ok("GET", f"/api/system/logger/detail?since={since}&text=VM"))["total"] > 0
    assert (await api("GET", "/api/system/logger/detail?until=0001-01-01T00:00:00%2B05:00"))[0] == 400
    removed = await api.ok("DELETE", "/api/client/delete/host1/vm-1")
    assert len(removed["result"]["removed"]) == 2
    assert len(await log_of(api, removed["task_id"])) > 1


async def test_of_many_at_once_one_wins(api: ApiClient) -> None:
    answers = await asyncio.gather(*(api("POST", "/api/client/create/host1?wait=5", small("twin")) for _ in range(6)))
    assert sorted(status for status, _answer in answers) == [200] + [409] * 5
    path = "/api/client/powers/host1/twin"
    answers = await asyncio.gather(*(api("POST", path, {"action": "start"}) for _ in range(6)))
    assert sorted(status for status, _answer in answers) == [200] + [409] * 5
    assert await Task.filter(lock__isnull=False).count() == 0


async def test_text_that_postgresql_does_not_store(api: ApiClient) -> None:
    for method, path, body in (
        ("GET", "/api/server/detail/%00", None),
        ("GET", "/api/system/logger/detail?text=%00", None),
        ("POST", "/api/client/create/host1", small("v", nic_all={"eth0": {"ip4_addr": "\0"}})),
        ("POST", "/api/client/upload", {"vm_uuid": "\0"}),
    ):
        assert (await api(method, path, body))[0] == 400, path


async def test_a_host_that_talks_nonsense(api: ApiClient) -> None:
    await make_host(api, "mad", vms="2")
    await api.ok("POST", "/api/client/scaner/mad")
    await api.ok("PUT", "/api/server/update/mad", {"behaviour": "garbage"})
    await asyncio.sleep(1.0)
    assert (await api.ok("GET", "/api/server/detail/mad"))["health"] == "online"
    assert len((await api.ok("GET", "/api/client/detail/mad"))["vms"]) == 2
