"""PostgreSQL stops and starts again under load; and a process with another key is told so."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from tests.api.kit import small
from tests.cluster.conftest import Cluster, Panel, until
from tests.process import PanelProcess

pytestmark = pytest.mark.live


class Load:
    """Asks both panels all the time, as programs and people do, and counts the answers."""

    def __init__(self, panels: list[Panel]) -> None:
        self.codes: Counter[int] = Counter()
        self.odd: list[str] = []
        self._end = threading.Event()
        asked = [(panel, path) for panel in panels for path in ("/api/server/detail", "/login")]
        self._threads = [threading.Thread(target=self._ask, args=pair) for pair in asked]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, panel: PanelProcess, path: str) -> None:
        headers = (
            {"Authorization": f"Bearer {panel.token}"} if path.startswith("/api") else {"Cookie": "openidcs_session=x"}
        )
        with httpx2.Client(timeout=20) as client:
            while not self._end.is_set():
                answer = client.get(panel.url + path, headers=headers)
                self.codes[answer.status_code] += 1
                if answer.status_code == 503:
                    if "does not answer" not in answer.text or "retry-after" not in answer.headers:
                        self.odd.append(answer.text)
                elif answer.status_code >= 400:
                    self.odd.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.02)


def test_the_database_goes_and_comes_back(cluster: Cluster) -> None:
    panels = cluster.start(2)
    for name in ("host1", "host2"):
        cluster.add_host(name)
    pids = [panel.pid for panel in panels]
    panels[0].ok("PUT", "/api/server/update/host1", {"behaviour": "slow", "delay": "3", "only": "create"})
    task = panels[0].ok("POST", "/api/client/create/host1", small("vm-1"))
    with Load(panels) as load:
        time.sleep(1)
        for seconds in (1.0, 8.0):  # a restart; and longer than a process is believed to live
            before = load.codes[503]
            cluster.postgres.stop()
            until(lambda before=before: load.codes[503] > before)
            time.sleep(seconds)
            cluster.postgres.start()
            good = load.codes[200]
            until(lambda good=good: load.codes[200] > good + 10)
            moment = cluster.postgres.value("SELECT now()")
            until(
                lambda moment=moment: cluster.postgres.value(
                    f"SELECT count(*) FROM host h JOIN process_node p ON p.id = h.owner WHERE h.seen_at > '{moment}'"
                ) == "2",
                30,
            )  # fmt: skip
    assert load.odd == []
    assert pids == [panel.pid for panel in panels], "without a restart"

    def ended() -> str:
        (row,) = panels[1].ok("GET", f"/api/system/tasker?id={task['task_id']}")["tasks"]
        return str(row["status"]) if row["ended_at"] else ""

    assert until(ended) in {"succeeded", "interrupted"}
    panels[0].ok("PUT", "/api/server/update/host1", {"behaviour": ""})
    for panel, name in zip(panels, ("a", "b"), strict=True):  # events cross again, and tasks run
        assert panel.ok("POST", "/api/client/create/host2?wait=20", small(name))["status"] == "succeeded"


def test_another_key_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    if not cluster.panels:
        cluster.start(1)
    stranger = Panel(tmp_path, cluster.postgres)
    with pytest.raises(subprocess.CalledProcessError) as caught:
        stranger.cli("serve")
    assert "copy secret.key from the data folder of the first one" in " ".join(caught.value.stderr.split())
