"""``kill -9`` of a real panel process while a hypervisor is being told of forwards: the next one goes on from what is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.engines.common.workstation import PASSWORD, USER, Sealed, sealed
from tests.process import PanelProcess

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

COUNT = 60
BY_HAND = ("vmnet8", "tcp", 9)
NAT = "/api/client/natget/ws/vm-1"


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Sealed]:
    with sealed(tmp_path) as made:
        made.world.boot_seconds = 0
        guest = {"ip": "192.168.77.99", "port": 9}
        made.world.forwards[BY_HAND] = {"port": 9, "protocol": "tcp", "desc": "by hand", "guest": guest}
        yield made
        made.world.close()


def ours(double: Sealed) -> set[int]:
    return {port for _vmnet, _protocol, port in double.world.forwards} - {BY_HAND[2]}


def wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def aside(panel: PanelProcess, method: str, path: str, body: object = None) -> threading.Thread:
    """A request whose panel is killed before it answers."""

    def ask() -> None:
        with suppress(httpx2.TransportError):
            panel.api(method, path, body)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_killed_amid_adding_and_amid_removing(tmp_path: Path, double: Sealed) -> None:
    panel = PanelProcess(tmp_path / "panel", observe_seconds="0.3")
    panel.start()
    try:
        host = {"server_name": "ws", "engine_type": "VMWareSetup", "server_addr": double.base, "server_user": USER,
                "server_pass": PASSWORD, "images_path": "D:/Images", "fingerprint": double.fingerprint}  # fmt: skip
        panel.ok("POST", "/api/server/create", host)
        panel.until("/api/server/status/ws", lambda status: status["seen_at"])
        vm = {"vm_uuid": "vm-1", "cpu_num": 1, "ram_num": 512, "hdd_num": 1, "os_name": "Debian 12"}
        task = panel.ok("POST", "/api/client/create/ws?wait=30", vm)
        panel.until(
            f"/api/system/tasker?id={task['task_id']}", lambda found: found["tasks"][0]["status"] == "succeeded"
        )
        wanted = {"protocol": "tcp", "external_port": 21000, "internal_port": 1000, "count": COUNT}
        goal = set(range(21000, 21000 + COUNT))

        double.world.forward_seconds = 0.02
        asking = aside(panel, "POST", "/api/client/natadd/ws/vm-1", wanted)
        wait(lambda: len(ours(double)) > 5)
        panel.kill()
        asking.join()
        assert 5 < len(ours(double)) < COUNT, "it was in the middle"
        panel.start()
        panel.until(NAT, lambda found: [rule["state"] for rule in found["rules"]] == ["applied"])
        assert ours(double) == goal

        asking = aside(panel, "DELETE", "/api/client/natdel/ws/vm-1/0")
        wait(lambda: len(ours(double)) < COUNT - 5)
        panel.kill()
        asking.join()
        assert 0 < len(ours(double)) < COUNT - 5, "it was in the middle"
        panel.start()
        assert panel.ok("GET", NAT)["rules"] == []
        wait(lambda: not ours(double))
        assert list(double.world.forwards) == [BY_HAND]
    finally:
        panel.kill()
