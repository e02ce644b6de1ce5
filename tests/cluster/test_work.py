"""Tasks among processes: claimed by one, cancelled from any, and those of a dead one settled by another, once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.api.kit import small
from tests.cluster.browser import Browser
from tests.cluster.conftest import Cluster, freeze, until
from tests.process import PanelProcess

pytestmark = pytest.mark.live


@pytest.fixture
def host(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A host of the test's own. All three panels run."""
    if not cluster.panels:
        cluster.start(3)
    for panel in cluster.panels:
        if panel.pid is None:
            panel.start()
    name = f"h{len(cluster.postgres.rows('SELECT id FROM host'))}"
    cluster.add_host(name)
    return name


def ended(panel: PanelProcess, task_id: str, seconds: float = 30) -> dict[str, Any]:
    """A task, once it ended."""

    def look() -> Any:
        (task,) = panel.ok("GET", f"/api/system/tasker?id={task_id}")["tasks"]
        return task if task["ended_at"] else None

    found: dict[str, Any] = until(look, seconds)
    return found


def ends(cluster: Cluster, task_id: str) -> int:
    """How often the log says that the task did not succeed."""
    living = next(panel for panel in cluster.panels if panel.pid is not None)
    (task,) = living.ok("GET", f"/api/system/tasker?id={task_id}")["tasks"]
    return sum(line["message"] == task["message"] for line in task["log"])


def test_a_dead_ones_task_is_settled_once(cluster: Cluster, host: str) -> None:
    owner = cluster.owner(host)
    others = [panel for panel in cluster.panels if panel is not owner]
    others[0].ok("PUT", f"/api/server/update/{host}", {"behaviour": "slow", "delay": "3", "only": "create"})
    task = others[0].ok("POST", f"/api/client/create/{host}", small("vm-1"))
    until(lambda: cluster.postgres.value(f"SELECT status FROM task WHERE id = '{task['task_id']}'") == "running")
    owner.kill()
    found = ended(others[1], task["task_id"])
    assert found["status"] == "interrupted"
    assert "half made is removed" in found["message"]
    assert ends(cluster, task["task_id"]) == 1
    assert others[0].api("GET", f"/api/client/detail/{host}/vm-1")[0] == 404
    others[0].ok("PUT", f"/api/server/update/{host}", {"behaviour": ""})
    assert others[0].ok("POST", f"/api/client/create/{host}?wait=20", small("vm-1"))["status"] == "succeeded"


def test_one_that_stood_still_does_not_end_it_again(cluster: Cluster, host: str) -> None:
    owner, other = cluster.owner(host), cluster.other(host)
    other.ok("PUT", f"/api/server/update/{host}", {"behaviour": "slow", "delay": "2", "only": "power"})
    other.ok("POST", f"/api/client/create/{host}?wait=20", small("vm-1"))
    task = other.ok("POST", f"/api/client/powers/{host}/vm-1?wait=0", {"action": "start"})
    until(lambda: cluster.postgres.value(f"SELECT status FROM task WHERE id = '{task['task_id']}'") == "running")
    frozen = freeze(owner)
    found = ended(other, task["task_id"])
    frozen.resume()
    time.sleep(4)
    assert ended(owner, task["task_id"]) == found
    assert found["status"] == "interrupted"


def test_cancelled_from_another_process(cluster: Cluster, host: str) -> None:
    owner, other = cluster.owner(host), cluster.other(host)
    other.ok("PUT", f"/api/server/update/{host}", {"behaviour": "slow", "delay": "30", "only": "create"})
    task = other.ok("POST", f"/api/client/create/{host}", small("vm-1"))
    until(lambda: cluster.postgres.value(f"SELECT status FROM task WHERE id = '{task['task_id']}'") == "running")
    browser = Browser([other])
    browser.login(other.token)
    assert browser.post(f"/tasks/{task['task_id']}/cancel", csrf_token=browser.csrf()).status_code == 303
    browser.close()
    assert ended(owner, task["task_id"], 10)["status"] == "cancelled"
    assert other.api("GET", f"/api/client/detail/{host}/vm-1")[0] == 404


def test_one_writer_per_vm_whoever_asks(cluster: Cluster, host: str) -> None:
    panels = cluster.panels
    panels[0].ok("POST", f"/api/client/create/{host}?wait=20", small("vm-1"))
    panels[0].ok("PUT", f"/api/server/update/{host}", {"behaviour": "slow", "delay": "1", "only": "power"})
    with ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda panel: panel.api("POST", f"/api/client/powers/{host}/vm-1?wait=20", {"action": "start"}),
                                panels * 3))  # fmt: skip
    assert sorted(status for status, _answer in answers) == [200] + [409] * 8
    assert cluster.postgres.value("SELECT count(*) FROM task WHERE lock IS NOT NULL") == "0"


def test_rules_are_applied_by_whoever_watches(cluster: Cluster, host: str) -> None:
    owner, other = cluster.owner(host), cluster.other(host)
    other.ok(
        "POST", f"/api/client/create/{host}?wait=20", small("vm-1", start=True, nic_all={"eth0": {"nic_type": "nat"}})
    )
    until(lambda: other.ok("GET", f"/api/client/detail/{host}/vm-1")["nic_all"]["eth0"]["ip4_addr"])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda panel: panel.api("POST", f"/api/client/natadd/{host}/vm-1", {"internal_port": 22}),
                             [owner, other] * 2))  # fmt: skip
    assert [status for status, _answer in made] == [200] * 4, made
    states = cluster.postgres.rows("SELECT state, external_start FROM forward")
    assert {state for state, _port in states} == {"applied"}
    assert len({port for _state, port in states}) == 4
