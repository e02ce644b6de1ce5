"""Hosts of seven kinds go away in the middle of a start or a stop: it ends honestly, pages answer, and the hosts come back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from panel.engines.types import EngineKind
from tests.cluster.browser import Browser
from tests.contract.providers import Rig
from tests.cuttable import Line, tcp_line, unix_line
from tests.process import PanelProcess
from tests.seven import SEVEN, add, remove

pytestmark = [pytest.mark.live, pytest.mark.timeout(420)]

LIBVIRT = Path("/var/run/libvirt/libvirt-sock")
CALLS = {9, 196, 12, 234}  # of libvirt's remote protocol: DOMAIN_CREATE, _CREATE_WITH_FLAGS, _DESTROY, _DESTROY_FLAGS
NAMES = [one.name for one in SEVEN]
END_SECONDS = 150  # the longest that an engine waits for one answer, and some
PAGE_SECONDS = 8.0  # on a machine that is busy with seven hypervisors and a browser; an engine waits 15 s and more


@dataclass(frozen=True)
class Away:
    """A panel, and the lines to its hosts by their names."""

    panel: PanelProcess
    lines: dict[str, Line]
    tls: frozenset[str]


@contextmanager
def line_to(rig: Rig, folder: Path) -> Iterator[tuple[Line, str]]:
    """A line to a rig's host, and the address that leads through it."""
    address = rig.connection.address
    if rig.kind is EngineKind.LIBVIRT:
        path = folder / "libvirt.sock"
        with unix_line(LIBVIRT, path) as line:
            yield line, f"qemu+unix:///system?socket={path}"
    elif address.startswith("/"):
        path = folder / f"{rig.kind}-{Path(address).parent.name}.sock"
        with unix_line(Path(address), path) as line:
            yield line, str(path)
    else:
        parts = urlsplit(address)
        assert parts.hostname
        assert parts.port
        with tcp_line(parts.hostname, parts.port) as (line, port):
            yield line, address.replace(f":{parts.port}", f":{port}")


@pytest.fixture(scope="module")
def away(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    folder = tmp_path_factory.mktemp("away")
    with ExitStack() as stack:
        panel = PanelProcess(folder)
        panel.start()
        stack.callback(panel.stop)
        lines, tls = {}, set()
        for provider in SEVEN:
            rig = stack.enter_context(provider.rig(request))
            lines[provider.name], address = stack.enter_context(line_to(rig, folder))
            if address.startswith("https"):
                tls.add(provider.name)
            add(panel, provider.name, rig, address)
            stack.callback(remove, panel, provider.name)
            stack.callback(lines[provider.name].mend)
        yield Away(panel, lines, frozenset(tls))


@pytest.fixture(autouse=True)
def whole(away: Away) -> Iterator[None]:
    """Nothing is cut before a test, and after it."""
    yield
    for line in away.lines.values():
        line.mend()


def changes(piece: bytes) -> bool:
    """Whether what the panel says asks the host to change something."""
    return piece.startswith((b"POST ", b"PUT ", b"PATCH ")) or int.from_bytes(piece[12:16], "big") in CALLS


def leave(away: Away, name: str, action: str, *, hush: bool) -> str:
    """Ask for a power action, and lose the host once it has heard what it shall do; the task's number."""
    line, hidden = away.lines[name], name in away.tls
    if not hidden:
        line.cut_at(changes, hush=hush)
    task = away.panel.ok("POST", f"/api/client/powers/{name}/vm-{name}?wait=0", {"action": action})
    if hidden:  # nobody sees through TLS: then it goes with the next words of the task that runs, whatever they ask
        line.cut_at(lambda _piece: True, hush=hush)
    assert line.gone.wait(30), f"{name} was never told to {action}"
    return str(task["task_id"])


def pages_are_quick(away: Away) -> None:
    """The pages answer, though no host does."""
    browser = Browser([away.panel])
    browser.login(away.panel.token)
    for path in ("/", "/vms", "/hosts", "/tasks", *(f"/hosts/{name}" for name in NAMES)):
        began = time.monotonic()
        assert browser.get(path).status_code == 200, path
        assert time.monotonic() - began < PAGE_SECONDS, path
    browser.close()


def ended(away: Away, task: str) -> dict[str, Any]:
    """The task, once it has ended."""
    found = away.panel.until(f"/api/system/tasker?id={task}", lambda one: one["tasks"][0]["ended_at"], END_SECONDS)
    one: dict[str, Any] = found["tasks"][0]
    return one


def test_off_in_the_middle_of_a_start(away: Away) -> None:
    """The connections break. What was begun is failed or settled at once, and each host is told as away."""
    tasks = {name: leave(away, name, "start", hush=False) for name in NAMES}
    ends = {name: ended(away, task) for name, task in tasks.items()}
    assert_honest(away, ends)
    for name in NAMES:
        away.panel.until(f"/api/server/status/{name}", lambda status: status["health"] != "online")
    pages_are_quick(away)
    come_back(away)
    for name in NAMES:
        assert_true_state(away, name, ends[name], "running")


def test_silent_in_the_middle_of_a_stop(away: Away) -> None:
    """The cable is out: nobody says that anything broke, and a time-out of the engine's ends the wait."""
    for name in NAMES:
        bring(away, name, "start", "running")
    tasks = {name: leave(away, name, "stop", hush=True) for name in NAMES}
    pages_are_quick(away)
    for name in NAMES:
        away.panel.until(f"/api/server/status/{name}", lambda status: status["health"] != "online", END_SECONDS)
    pages_are_quick(away)
    ends = {name: ended(away, task) for name, task in tasks.items()}
    assert_honest(away, ends)
    come_back(away)
    for name in NAMES:
        assert_true_state(away, name, ends[name], "stopped")


def assert_honest(away: Away, ends: dict[str, dict[str, Any]]) -> None:
    """None says that it did what nobody can know; each says why, without a trace."""
    for name, end in ends.items():
        assert end["status"] in {"failed", "interrupted"}, (name, end)
        assert end["message"], name
        assert "traceback" not in end["message"].lower(), (name, end)
        assert end["percent"] < 100, (name, end)


def come_back(away: Away) -> None:
    """Every host can be reached again, and is seen anew."""
    before = {name: away.panel.ok("GET", f"/api/server/status/{name}")["seen_at"] for name in NAMES}
    for line in away.lines.values():
        line.mend()
    for name in NAMES:
        away.panel.until(
            f"/api/server/status/{name}",
            lambda status, name=name: status["health"] == "online" and status["seen_at"] > before[name],
            90,
        )


def assert_true_state(away: Away, name: str, end: dict[str, Any], wanted: str) -> None:
    """A scan finds no VM twice; and the action can be repeated, unless the panel sees that it was done after all."""
    found = away.panel.ok("POST", f"/api/client/scaner/{name}?wait=60")["result"]
    assert not [one for one in found["added"] if f"vm-{name}" in one], (name, end)  # this machine may have others
    bring(away, name, "start" if wanted == "running" else "stop", wanted)


def bring(away: Away, name: str, action: str, state: str) -> None:
    """The action again, unless it was done after all; then the VM is in that state."""
    path = f"/{name}/vm-{name}"
    if away.panel.ok("GET", f"/api/client/status{path}")["state"] != state:
        done = away.panel.ok("POST", f"/api/client/powers{path}?wait=100", {"action": action})
        assert done["status"] == "succeeded", (name, done)
    away.panel.until(f"/api/client/status{path}", lambda seen: seen["state"] == state)
