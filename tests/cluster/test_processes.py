"""Several panel processes over one PostgreSQL: each host with one of them, taken over when that one dies; events cross."""

from __future__ import annotations

import time

import pytest

from tests.cluster.browser import Browser
from tests.cluster.conftest import Cluster, Panel, freeze, until

pytestmark = pytest.mark.live
TAKEN_OVER = 10.0  # seconds: promised


def test_hosts_are_shared_and_taken_over(cluster: Cluster) -> None:
    one, two = cluster.start(2)
    for name in ("host1", "host2", "host3", "host4"):
        cluster.add_host(name, vms="2")
    shares = until(lambda: _shares(cluster, {2}))
    assert len(shares) == 2
    one.kill()
    began = time.monotonic()
    until(lambda: _shares(cluster, {4}), TAKEN_OVER)
    moment = cluster.postgres.value("SELECT now()")
    until(lambda: cluster.postgres.value(f"SELECT count(*) FROM host WHERE seen_at > '{moment}'") == "4",
          TAKEN_OVER - (time.monotonic() - began))  # fmt: skip
    one.start()
    until(lambda: _shares(cluster, {2}))
    two.stop()
    until(lambda: _shares(cluster, {4}), 5)


def test_one_that_stood_still_gives_up_what_others_took(cluster: Cluster) -> None:
    both(cluster)
    owner, other = cluster.owner("host1"), cluster.other("host1")
    frozen = freeze(owner)
    until(lambda: cluster.owner("host1") is other, TAKEN_OVER)
    frozen.resume()
    assert len(until(lambda: _shares(cluster, {2}))) == 2, "it takes part again"
    before = cluster.postgres.rows("SELECT id, owner FROM host ORDER BY id")
    time.sleep(4)
    assert cluster.postgres.rows("SELECT id, owner FROM host ORDER BY id") == before, "and nothing moves any more"


def test_the_settings_page_lists_them(cluster: Cluster) -> None:
    one, two = both(cluster)
    browser = Browser([one])
    browser.login(one.token)
    rows = browser.get("/settings").text.partition('id="processes"')[2].partition("</table>")[0].split("<tr>")[2:]
    assert len(rows) == 2
    for panel in (one, two):
        (row,) = (row for row in rows if f"process {panel.pid}<" in row)
        port = panel.url.rpartition(":")[2]
        watched = cluster.postgres.value(
            f"SELECT count(*) FROM host h JOIN process_node p ON h.owner = p.id WHERE p.pid = {panel.pid}"
        )
        assert f":{port}</code>" in row
        assert f'data-label="Hosts">{watched}</td>' in row
        assert ("answers you now" in row) is (panel is one)
    assert sum("tidies up for all" in row for row in rows) == 1
    browser.close()


def test_events_cross(cluster: Cluster) -> None:
    one, two = both(cluster)
    owner, other = cluster.owner("host1"), cluster.other("host1")
    # a change of the settings reaches the process that watches, and the task runs there
    other.ok("PUT", "/api/server/update/host1", {"behaviour": "refusing", "only": "observe"})
    until(lambda: one.ok("GET", "/api/server/detail/host1")["health"] == "unreachable", 5)
    other.ok("PUT", "/api/server/update/host1", {"behaviour": ""})
    until(lambda: two.ok("GET", "/api/server/detail/host1")["health"] == "online", 5)
    made = other.ok("POST", "/api/client/create/host1?wait=20", {"vm_uuid": "vm-1", "os_name": "Debian 12", "cpu_num": 1,
                                                             "ram_num": 512, "hdd_num": 4})  # fmt: skip
    assert made["status"] == "succeeded"
    running = cluster.postgres.value(
        f"SELECT p.pid FROM task t JOIN process_node p ON p.id = t.owner WHERE t.id = '{made['task_id']}'"
    )
    assert int(running) == owner.pid
    other.ok("DELETE", "/api/server/delete/host1")
    until(lambda: owner.api("GET", "/api/server/detail/host1")[0] == 404, 5)


def both(cluster: Cluster) -> list[Panel]:
    """The two panels of the first test, running."""
    for panel in cluster.panels:
        if panel.pid is None:
            panel.start()
    until(lambda: _shares(cluster, {2}))
    return cluster.panels


def _shares(cluster: Cluster, allowed: set[int]) -> dict[str, int] | None:
    """How many hosts each process has, once all are had and each has an allowed number."""
    rows = cluster.postgres.rows(
        "SELECT p.pid, count(h.id) FROM process_node p LEFT JOIN host h ON h.owner = p.id GROUP BY p.pid"
    )
    found = {pid: int(count) for pid, count in rows}
    total = int(cluster.postgres.value("SELECT count(*) FROM host"))
    return found if sum(found.values()) == total and set(found.values()) <= allowed else None
