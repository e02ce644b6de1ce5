"""``kill -9`` of the panel in the middle of things, on real libvirt: nothing lost, nothing orphaned unseen."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.live.libvirt_site import LibvirtSite
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

MOMENTS = (0.0, 0.25, 0.9)  # seconds after the request's answer; `make soak` tries others


def body(name: str) -> dict[str, Any]:
    return {"vm_uuid": name, "os_name": "Windows 10 x64", "cpu_num": 1, "ram_num": 128, "hdd_num": 2, "start": True}


def restart(panel: PanelProcess) -> None:
    panel.start()
    panel.until("/api/server/detail/host1", lambda host: host["health"] == "online")
    panel.until("/api/system/statis", lambda numbers: numbers["tasks_running"] == 0)


def check_truth(panel: PanelProcess, site: LibvirtSite, name: str) -> bool:
    """Panel, libvirt and disks agree about a VM; says whether it exists."""
    status, envelope = panel.api("GET", f"/api/client/detail/host1/{name}")
    exists = name in site.domains()
    assert (status == 200) == exists, (envelope, site.domains())
    if exists:
        assert envelope["data"]["creating"] is False
        assert envelope["data"]["state"] in {"running", "stopped"}
    else:
        assert not any(file.startswith(name) for file in site.files()), site.files()
    return exists


def end_of(panel: PanelProcess, task_id: str) -> Any:
    task = panel.ok("GET", f"/api/system/tasker?id={task_id}")["tasks"][0]
    assert task["ended_at"], task
    assert task["message"]
    return task


@pytest.mark.parametrize("moment", MOMENTS)
def test_in_the_middle_of_a_create(panel: PanelProcess, site: LibvirtSite, moment: float) -> None:
    name = f"{site.name}-c{int(moment * 1000)}"
    task = panel.ok("POST", "/api/client/create/host1", body(name))
    time.sleep(moment)
    panel.kill()
    restart(panel)
    assert end_of(panel, task["task_id"])["status"] in {"interrupted", "succeeded"}
    if check_truth(panel, site, name):
        panel.ok("DELETE", f"/api/client/delete/host1/{name}")
    else:  # the name is free again: the very same request works now
        panel.ok("POST", "/api/client/create/host1?wait=60", body(name))
        panel.ok("DELETE", f"/api/client/delete/host1/{name}")
    assert not check_truth(panel, site, name)


@pytest.mark.parametrize("moment", MOMENTS[:3])
def test_in_the_middle_of_a_delete(panel: PanelProcess, site: LibvirtSite, moment: float) -> None:
    name = f"{site.name}-d{int(moment * 1000)}"
    panel.ok("POST", "/api/client/create/host1?wait=60", body(name))
    task = panel.ok("DELETE", f"/api/client/delete/host1/{name}?wait=0")
    time.sleep(moment)
    panel.kill()
    restart(panel)
    assert end_of(panel, task["task_id"])["status"] == "succeeded", "a delete that was begun is finished"
    assert not check_truth(panel, site, name)


@pytest.mark.parametrize("action", ["start", "stop"])
def test_in_the_middle_of_a_power_action(panel: PanelProcess, site: LibvirtSite, action: str) -> None:
    name = f"{site.name}-p{action}"
    panel.ok("POST", "/api/client/create/host1?wait=60", body(name) | {"start": action == "stop"})
    task = panel.ok("POST", f"/api/client/powers/host1/{name}?wait=0", {"action": action})
    panel.kill()
    restart(panel)
    assert end_of(panel, task["task_id"])["status"] in {"interrupted", "succeeded"}
    assert check_truth(panel, site, name)
    panel.ok("DELETE", f"/api/client/delete/host1/{name}")
    assert not check_truth(panel, site, name)


def test_stops_within_three_seconds_and_vms_keep_running(panel: PanelProcess, site: LibvirtSite) -> None:
    name = f"{site.name}-stay"
    panel.ok("POST", "/api/client/create/host1?wait=60", body(name))
    assert panel.stop() < 3
    assert name in site.domains()
    restart(panel)
    panel.until(f"/api/client/status/host1/{name}", lambda status: status["state"] == "running", 30)
    panel.ok("DELETE", f"/api/client/delete/host1/{name}")
