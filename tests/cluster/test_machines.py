"""Two machines over one PostgreSQL: each has its own data folder and its own hypervisor, and hosts by address are everybody's.

Both are this machine under two names, with real libvirt behind two hosts: a process that reached over to the other's would find
it, and that is what these tests would see.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.api.kit import small
from tests.cluster.browser import Browser, console, shows, socket_ticket
from tests.cluster.conftest import Cluster, Panel, Postgres, until
from tests.live.libvirt_site import LibvirtSite

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]
IMAGE = "Demo"
TAKEN_OVER = 10.0  # seconds: promised
BODY: dict[str, Any] = {"os_name": IMAGE, "cpu_num": 1, "ram_num": 128, "hdd_num": 4}


@dataclass(frozen=True, slots=True)
class Machines:
    """``alpha`` has host ``at-alpha``, ``beta`` has ``at-beta``; ``far1`` and ``far2`` are reached by both."""

    alpha: Panel
    beta: Panel
    cluster: Cluster

    def owners(self) -> dict[str, str]:
        """By host, the machine whose process watches it now."""
        rows = "SELECT h.name, p.machine FROM host h JOIN process_node p ON p.id = h.owner"
        return dict(map(tuple, self.cluster.postgres.rows(rows)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, demo_image: Path) -> Iterator[Machines]:
    """The second one has a copy of the first one's key, as the documentation says."""
    with ExitStack() as stack:
        sites = [LibvirtSite(demo_image, IMAGE) for _machine in range(2)]
        for site in sites:
            stack.callback(site.clean)
        cluster = Cluster(tmp_path_factory.mktemp("alpha"), postgres)
        stack.callback(cluster.stop)
        (alpha,) = cluster.start(machine="alpha")
        folder = tmp_path_factory.mktemp("beta")
        (folder / "data").mkdir(mode=0o700)
        shutil.copy(cluster.folder / "data/secret.key", folder / "data/secret.key")
        beta = Panel(folder, postgres, fake_engine="1", observe_seconds="0.5", machine="beta", local_host="1")
        cluster.panels.append(beta)
        alpha.ok("POST", "/api/server/create", {"server_name": "local"} | sites[0].host)
        beta.start()
        alpha.ok("DELETE", "/api/server/delete/local")
        for panel, name, site in zip((alpha, beta), ("at-alpha", "at-beta"), sites, strict=True):
            panel.ok("POST", "/api/server/create", {"server_name": name} | site.host)
            panel.until(f"/api/server/detail/{name}", lambda host: host["health"] == "online", 20)
        for name in ("far1", "far2"):
            cluster.add_host(name)
        found = Machines(alpha, beta, cluster)
        for panel, name in ((alpha, "at-alpha"), (beta, "at-beta")):
            panel.until(f"/api/server/status/{name}", lambda status: status["seen_at"])
        yield found
        for panel in (alpha, beta):
            if panel.pid is None:
                panel.start()
        for name in ("at-alpha", "at-beta"):
            alpha.api("DELETE", f"/api/client/delete/{name}/vm-1?wait=30")


def test_each_watches_what_it_reaches(machines: Machines) -> None:
    assert "Host local is machine alpha; this is beta." in machines.beta.log.read_text()
    owners = until(lambda: found if len(found := machines.owners()) == 4 else None)
    assert (owners["at-alpha"], owners["at-beta"]) == ("alpha", "beta")
    assert {owners["far1"], owners["far2"]} == {"alpha", "beta"}, "what both reach is shared fairly"
    for panel in (machines.alpha, machines.beta):
        assert {host["health"] for host in panel.ok("GET", "/api/server/detail")["hosts"]} == {"online"}


def test_tasks_run_on_the_machine_that_the_host_is(machines: Machines) -> None:
    alpha, beta = machines.alpha, machines.beta
    made = beta.ok("POST", "/api/client/create/at-alpha?wait=60", BODY | {"vm_uuid": "vm-1", "start": True})
    assert made["status"] == "succeeded", made
    beta.until("/api/client/detail/at-alpha/vm-1", lambda vm: vm["state"] == "running", 20)
    tasks = [made["task_id"]]
    asked: list[tuple[str, str, Any]] = [
        ("PUT", "/api/client/update/at-alpha/vm-1", {"vm_name": "renamed by beta"}),
        ("POST", "/api/client/powers/at-alpha/vm-1", {"action": "stop"}),
        ("POST", "/api/client/powers/at-alpha/vm-1", {"action": "start"}),
        ("GET", "/api/client/scaner/at-alpha", None),
    ]
    for method, path, body in asked:
        done = beta.ok("POST" if body is None else method, path + "?wait=60", body)
        assert done["status"] == "succeeded", done
        tasks.append(done["task_id"])
        wanted = {"stop": "stopped", "start": "running"}.get((body or {}).get("action", ""))
        if wanted:
            beta.until("/api/client/detail/at-alpha/vm-1", lambda vm, wanted=wanted: vm["state"] == wanted, 20)
    ran = machines.cluster.postgres.rows(
        f"SELECT DISTINCT p.machine FROM task t JOIN process_node p ON p.id = t.owner WHERE t.id = ANY('{{{','.join(tasks)}}}')"
    )
    assert ran == [["alpha"]]
    status, answer = beta.api("POST", "/api/client/powers/at-alpha/vm-1", {"action": "start"})
    assert status == 409, answer  # what the state forbids is told at once, by what was seen last
    assert alpha.ok("GET", "/api/client/detail/at-alpha/vm-1")["vm_name"] == "renamed by beta"


def test_what_is_of_one_machine_only_is_refused_on_the_other(machines: Machines) -> None:
    with closing(Browser([machines.alpha])) as browser:
        browser.login(machines.alpha.token)
        with console(
            machines.alpha, "/console/at-alpha/vm-1", socket_ticket(browser, "/console/at-alpha/vm-1")
        ) as screen:
            assert shows(screen)
    with closing(Browser([machines.beta])) as browser:
        browser.login(machines.beta.token)
        ticket = socket_ticket(browser, "/console/at-alpha/vm-1")
        with (
            console(machines.beta, "/console/at-alpha/vm-1", ticket) as screen,
            pytest.raises(ConnectionClosed) as caught,
        ):
            screen.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4409
        assert "machine alpha" in caught.value.rcvd.reason
        wanted = {"file": "x.qcow2", "size": "1000", "modified": "0", "name": "another"}
        answer = browser.post("/hosts/at-alpha/uploads", csrf_token=browser.csrf(), **wanted)
        assert answer.status_code == 303
        assert "machine alpha" in browser.get(answer.headers["location"]).text
        for path in (
            "/",
            "/hosts",
            "/hosts/at-alpha",
            "/hosts/at-alpha/vms/vm-1",
            "/vms",
            "/network",
            "/network/domains",
            "/network/addresses",
        ):
            assert browser.get(path).status_code == 200, path
    refused: list[tuple[str, Any]] = [
        ("/api/client/natadd/at-alpha/vm-1", {"internal_port": 22, "external_port": 0, "protocol": "tcp"}),
        ("/api/server/update/at-alpha", {"server_addr": "", "network_nat": "another"}),
    ]
    for path, body in refused:
        status, envelope = machines.beta.api("PUT" if "update" in path else "POST", path, body)
        assert status == 409
        assert "machine alpha" in envelope["msg"], envelope


def test_a_machine_dies_and_comes_back(machines: Machines) -> None:
    alpha, beta, rows = machines.alpha, machines.beta, machines.cluster.postgres
    beta.ok("POST", "/api/client/create/far1?wait=20", small("vm-1"))
    waiting = beta.ok("POST", "/api/client/powers/at-alpha/vm-1?wait=0", {"action": "reset"})
    alpha.kill()
    began = time.monotonic()
    until(lambda: machines.owners() == dict.fromkeys(("at-beta", "far1", "far2"), "beta"), TAKEN_OVER)
    moment = rows.value("SELECT now()")
    seen = f"SELECT count(*) FROM host WHERE seen_at > '{moment}' AND name IN ('at-beta', 'far1', 'far2')"
    until(lambda: rows.value(seen) == "3", TAKEN_OVER - (time.monotonic() - began))
    host = beta.until("/api/server/detail/at-alpha", lambda host: host["health"] == "unreachable", 5)
    assert "machine alpha, where no process of the panel runs" in str(host), host
    assert beta.ok("GET", "/api/client/detail/at-alpha/vm-1")["state"] == "unknown"
    assert beta.ok("POST", "/api/client/powers/far1/vm-1?wait=20", {"action": "start"})["status"] == "succeeded"
    for method, path, body in (
        ("DELETE", "/api/client/delete/at-alpha/vm-1", None),
        ("POST", "/api/client/create/at-alpha", BODY | {"vm_uuid": "vm-2"}),
        ("POST", "/api/client/scaner/at-alpha", None),
    ):
        status, answer = beta.api(method, path, body)
        assert status == 409
        assert "machine alpha, where no process of the panel runs" in answer["msg"], answer
    (task,) = beta.ok("GET", f"/api/system/tasker?id={waiting['task_id']}")["tasks"]
    assert task["ended_at"] or any("runs on machine alpha again" in str(line) for line in task["log"]), task
    alpha.start()
    until(lambda: machines.owners().get("at-alpha") == "alpha", 10)
    beta.until("/api/server/detail/at-alpha", lambda host: host["health"] == "online", 10)
    beta.until(f"/api/system/tasker?id={waiting['task_id']}", lambda found: found["tasks"][0]["ended_at"], 20)
    beta.until("/api/client/detail/at-alpha/vm-1", lambda vm: vm["state"] == "running", 20)


def test_both_answer_for_their_health(machines: Machines) -> None:
    assert [httpx2.get(panel.url + "/health").status_code for panel in (machines.alpha, machines.beta)] == [200, 200]
