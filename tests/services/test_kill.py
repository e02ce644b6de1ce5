"""``kill -9`` of a real panel process in the middle of things, over a fake host that keeps its world in a file.

``tests/live`` does the same on libvirt. The longer ones are marked ``live``: each restart is a second or two of imports.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.kit import small
from tests.process import PanelProcess

DELAY = 0.4  # seconds that each call to the slow fake host takes
VM = "/api/client/detail/host1/vm-1"


class Scene:
    """One panel, one slow host, one VM ``vm-1``."""

    def __init__(self, folder: Path) -> None:
        self.panel = PanelProcess(folder, fake_engine="1", observe_seconds="0.3", log_level="error")
        self.world = folder / "world.json"

    def begin(self, **options: str) -> None:
        self.panel.start()
        body = {"server_name": "host1", "engine_type": "FakeEngine", "server_addr": "w", "state_file": str(self.world)}
        self.panel.ok("POST", "/api/server/create", body | options)
        self.panel.until("/api/server/detail/host1", lambda host: host["health"] == "online", 10)

    def slow(self, only: str) -> None:
        self.panel.ok("PUT", "/api/server/update/host1", {"behaviour": "slow", "delay": str(DELAY), "only": only})

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        self.panel.kill()

    def restart(self, task_id: str) -> dict[str, Any]:
        """Start again; the task as it was settled."""
        self.panel.start()
        self.panel.until("/api/system/statis", lambda numbers: numbers["tasks_running"] == 0, 20)
        task: dict[str, Any] = self.panel.ok("GET", f"/api/system/tasker?id={task_id}")["tasks"][0]
        assert task["ended_at"]
        assert len(task["message"]) > 10
        return task

    def there(self) -> dict[str, Any]:
        """What the fake host has: VMs by name, and disks."""
        state = json.loads(self.world.read_text())
        return {
            "vms": {vm["name"]: vm["state"] for vm in state["vms"]},
            "disks": [disk["path"] for disk in state["disks"]],
        }

    def check(self) -> bool:
        """Rows, host and disks agree; says whether the VM is there."""
        status, answer = self.panel.api("GET", VM)
        there = self.there()
        exists = status == 200
        assert exists == ("vm-1" in there["vms"]), (answer, there)
        assert len(there["disks"]) == (2 if exists else 0), there
        if exists:
            assert answer["data"]["creating"] is False
        with sqlite3.connect(self.panel.folder / "data/panel.sqlite3") as rows:
            assert rows.execute("PRAGMA foreign_key_check").fetchall() == []
            assert rows.execute("SELECT count(*) FROM task WHERE lock IS NOT NULL OR params != ''").fetchone() == (0,)
            assert rows.execute("SELECT count(*) FROM vm").fetchone() == (int(exists),)
        return exists

    def use(self) -> None:
        """Make the VM unless it is there, start and delete it."""
        if not self.check():
            self.panel.ok("POST", "/api/client/create/host1?wait=20", small("vm-1"))
        if self.panel.ok("GET", VM)["state"] != "running":
            self.panel.ok("POST", "/api/client/powers/host1/vm-1?wait=20", {"action": "start"})
        self.panel.ok("DELETE", "/api/client/delete/host1/vm-1?wait=20")
        assert not self.check()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    found = Scene(tmp_path)
    found.begin()
    yield found
    found.panel.kill()


@pytest.mark.live
def test_in_a_create(scene: Scene) -> None:
    for moment in (0.0, 0.2, 0.42, 0.6):
        scene.slow("create,inspect")
        task = scene.panel.ok("POST", "/api/client/create/host1", small("vm-1", os_pass="guest-pw", start=True))
        scene.kill_after(moment)
        ended = scene.restart(task["task_id"])
        assert ended["status"] in {"interrupted", "succeeded"}
        if ended["status"] == "interrupted":
            assert "The panel stopped" in ended["message"]
        scene.slow("nothing")
        scene.use()


@pytest.mark.live
def test_in_a_delete(scene: Scene) -> None:
    for moment in (0.1, 0.45):
        scene.panel.ok("POST", "/api/client/create/host1?wait=10", small("vm-1"))
        scene.slow("delete")
        task = scene.panel.ok("DELETE", "/api/client/delete/host1/vm-1?wait=0")
        scene.kill_after(moment)
        ended = scene.restart(task["task_id"])
        assert ended["status"] == "succeeded", "what was to be deleted is deleted"
        assert not scene.check()


@pytest.mark.live
def test_in_a_power_action(scene: Scene) -> None:
    for moment in (0.1, 0.45):
        scene.slow("power")
        scene.panel.ok("POST", "/api/client/create/host1?wait=10", small("vm-1"))
        task = scene.panel.ok("POST", "/api/client/powers/host1/vm-1?wait=0", {"action": "start"})
        scene.kill_after(moment)
        ended = scene.restart(task["task_id"])
        state = scene.there()["vms"]["vm-1"]
        assert ended["status"] == ("succeeded" if state == "running" else "interrupted")
        assert state in ended["message"] or "The panel stopped" not in ended["message"]
        assert scene.panel.ok("GET", VM)["state"] == state
        scene.slow("nothing")
        scene.use()


def test_half_made_on_disk(scene: Scene) -> None:
    """The engine died between the disk and the definition: the disk is removed with the rest, by the VM's own id."""
    scene.panel.ok("POST", "/api/client/create/host1?wait=10", small("vm-1"))
    task_id = scene.panel.ok("GET", "/api/system/tasker")["tasks"][0]["id"]
    scene.panel.kill()
    state = json.loads(scene.world.read_text())
    state["vms"], state["disks"] = [], state["disks"][:1]
    state["disks"].append(state["disks"][0] | {"path": "/fake/disks/of-nobody.qcow2", "owner": "nobody"})
    scene.world.write_text(json.dumps(state))
    with sqlite3.connect(scene.panel.folder / "data/panel.sqlite3") as rows:
        (vm_id,) = rows.execute("SELECT id FROM vm").fetchone()
        rows.execute("UPDATE vm SET creating = 1")
        rows.execute("UPDATE task SET status='running', lock=?, ended_at=NULL WHERE id=?", (f"vm:{vm_id}", task_id))
    ended = scene.restart(task_id)
    assert ended["status"] == "interrupted"
    assert "half made is removed" in ended["message"]
    assert scene.panel.api("GET", VM)[0] == 404
    assert scene.there()["disks"] == ["/fake/disks/of-nobody.qcow2"], "what belongs to nobody is not deleted unasked"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with sqlite3.connect(scene.panel.folder / "data/panel.sqlite3") as rows:
            (leftovers,) = rows.execute("SELECT leftovers FROM host").fetchone()
        if "of-nobody" in leftovers:
            return
        time.sleep(0.1)
    raise AssertionError("the orphaned disk is not listed for the operator")
